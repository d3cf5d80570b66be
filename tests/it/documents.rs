//! The examples of the README and of `docs/` are whole: configurations are read, handlers run, commands can
//! be typed, JSON is JSON.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, ensure};
use tasker::farm::TaskStatus;
use tasker::simulated::Faults;
use tasker_services::{Home, Port, Process, find, until};

/// How long a test waits for what must come. Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A fenced example.
struct Example {
    /// File and line, for people.
    place: String,
    language: String,
    text: String,
}

impl Example {
    /// The file that a comment at its beginning says it is.
    fn file(&self) -> Option<&str> {
        let mut lines = self.text.lines().filter(|line| !line.starts_with("#!"));
        let name = lines.next()?.strip_prefix("# ")?;
        (!name.contains(' ') && name.contains(['/', '.'])).then_some(name)
    }

    fn is_script(&self) -> bool {
        self.text.starts_with("#!")
    }

    /// The commands of a session or a script, each on one line and without its comment.
    fn commands(&self) -> Vec<String> {
        let joined = self.text.replace("\\\n", " ");
        let (mut commands, mut pending, mut heredoc) = (Vec::new(), String::new(), None::<String>);
        for line in joined.lines() {
            if let Some(end) = &heredoc {
                if line == end {
                    heredoc = None;
                }
                continue;
            }
            let line = match self.language.as_str() {
                "text" | "console" if pending.is_empty() => match line.strip_prefix("$ ") {
                    Some(line) => line,
                    None => continue,
                },
                _ => line,
            };
            heredoc = line
                .split_once("<<'")
                .and_then(|(_, rest)| rest.split_once('\''))
                .map(|(end, _)| end.to_owned());
            pending = if pending.is_empty() { line.to_owned() } else { format!("{pending}\n{line}") };
            if pending.matches('\'').count() % 2 == 0 {
                commands.push(std::mem::take(&mut pending));
            }
        }
        commands
    }
}

fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// All examples of a page.
fn examples_of(page: &Path) -> anyhow::Result<Vec<Example>> {
    let text = fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let (mut examples, mut open) = (Vec::new(), None::<Example>);
    for (number, line) in (1..).zip(text.lines()) {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(language), None) => {
                let place = format!("{}:{number}", page.display());
                open = Some(Example { place, language: language.to_owned(), text: String::new() });
            }
            (Some(_), Some(example)) => examples.push(example),
            (None, Some(mut example)) => {
                example.text += line;
                example.text.push('\n');
                open = Some(example);
            }
            (None, None) => {}
        }
    }
    ensure!(open.is_none(), "{}: an example does not end", page.display());
    Ok(examples)
}

/// All examples of the README and of `docs/`.
fn examples() -> anyhow::Result<Vec<Example>> {
    let mut pages = vec![checkout("README.md")];
    for entry in fs::read_dir(checkout("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    let mut all = Vec::new();
    for page in pages {
        all.extend(examples_of(&page)?);
    }
    ensure!(all.len() > 15, "{} examples are not all of them", all.len());
    Ok(all)
}

/// The words of a command as a shell takes them; none for what only a shell understands.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '>' | '|' | ';' | '&') => break,
            (None, '<' | '$' | '`') => return None,
            (None, ' ' | '\t') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[test]
fn every_configuration_can_be_read() -> anyhow::Result<()> {
    let mut found = 0;
    for example in examples()?.iter().filter(|example| example.language == "yaml") {
        let of_tasker = ["task_types:", "api:", "manager:", "endpoint:", "http_worker:", "schedules:"];
        // Files of faults have task types, too.
        if example.text.lines().any(|line| line.starts_with("faults:")) {
            Faults::parse(&example.text).with_context(|| example.place.clone())?;
            continue;
        }
        if !example.text.lines().any(|line| of_tasker.iter().any(|key| line.starts_with(key))) {
            continue;
        }
        found += 1;
        let types = if example.text.contains("task_types:") { "" } else { "task_types: [worker]\n" };
        let home = tempfile::tempdir()?;
        let file = home.path().join("example.yaml");
        fs::write(&file, format!("{types}{}", example.text))?;
        fs::create_dir(home.path().join("handlers.d"))?;
        let output = Command::new(env!("CARGO_BIN_EXE_tasker"))
            .args(["config", "check", "--config"])
            .arg(&file)
            .current_dir(home.path())
            .envs([("TASKER_DB_PASSWORD", "x"), ("TASKER_MQ_PASSWORD", "y")])
            .output()?;
        ensure!(output.status.success(), "{}: {}", example.place, said(&output));
    }
    ensure!(found >= 4, "{found} configurations are not all of them");
    Ok(())
}

#[test]
fn every_command_can_be_typed() -> anyhow::Result<()> {
    let mut found = 0;
    for example in examples()?.iter().filter(|example| {
        ["sh", "text", "console"].contains(&example.language.as_str()) && !example.is_script()
    }) {
        for command in example.commands() {
            let Some(words) = words(&command) else { continue };
            if words.first().is_some_and(|word| word == "tasker") {
                found += 1;
                let parsed = tasker::cli::parse(words.into_iter().map(OsString::from));
                ensure!(parsed.is_ok(), "{}: {command}", example.place);
            }
        }
    }
    ensure!(found >= 15, "{found} commands are not all of them");
    Ok(())
}

#[test]
fn every_piece_of_json_is_json() -> anyhow::Result<()> {
    for example in examples()?.iter().filter(|example| example.language == "json") {
        // Three dots stand for what is left out.
        let whole = example.text.replace(", ...", "").replace("[...]", "[]").replace("{...}", "{}");
        serde_json::from_str::<serde_json::Value>(&whole)
            .with_context(|| format!("{}: {whole}", example.place))?;
    }
    Ok(())
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A directory in which a page's examples are followed, and its `tasker up`.
struct Reader {
    home: Home,
    port: Port,
}

impl Reader {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { home: Home::new("reader")?, port: Port::free()? })
    }

    /// A command as it stands on the page, with `tasker` on the path and with our port instead of the usual
    /// one.
    fn command(&self, line: &str) -> anyhow::Result<Command> {
        let api = format!("127.0.0.1:{}", self.port.number());
        let line = line
            .replace("tasker up", &format!("exec tasker up --listen {api}"))
            .replace("127.0.0.1:8888", &api)
            .replace("localhost:8888", &api);
        let program = Path::new(env!("CARGO_BIN_EXE_tasker")).parent().context("a directory")?;
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-ec", &line]).current_dir(self.home.path());
        command.env("PATH", path).env("TASKER_API_URL", format!("http://{api}")).env_remove("RUST_LOG");
        Ok(command)
    }

    fn follow(&self, line: &str) -> anyhow::Result<String> {
        let output = self.command(line)?.output()?;
        ensure!(output.status.success(), "{line}\n{}", said(&output));
        Ok(said(&output))
    }

    fn up(&self, line: &str, subscriptions: usize) -> anyhow::Result<Process> {
        let mut up = self.home.start("up", &mut self.command(line)?)?;
        up.ready(PATIENCE, || {
            let text = self.follow("tasker endpoints --json")?;
            ensure!(text.matches(r#""subscribed":true"#).count() >= subscriptions, "{text}");
            Ok(())
        })?;
        Ok(up)
    }

    /// Writes an example that names its file.
    fn write(&self, example: &Example) -> anyhow::Result<()> {
        let name = example.file().with_context(|| format!("{} names no file", example.place))?;
        if let Some(parent) = Path::new(name).parent() {
            fs::create_dir_all(self.home.join("").join(parent))?;
        }
        self.home.write(name, &example.text)?;
        Ok(())
    }
}

/// The first example of a page, in this language, that has this text.
fn one<'a>(examples: &'a [Example], language: &str, text: &str) -> anyhow::Result<&'a Example> {
    let found = examples.iter().find(|example| example.language == language && example.text.contains(text));
    found.with_context(|| format!("no {language} example has {text}"))
}

/// What a session of a page shows, and what it is to look like here: numbers, ids and times differ.
fn form(text: &str) -> String {
    let mut form = String::new();
    for word in text.split_whitespace() {
        let id = word.trim_matches(['(', ')']);
        let is_moment =
            word.len() >= 9 && word.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | 'Z'));
        match (uuid::Uuid::parse_str(id), word.parse::<f64>()) {
            (Ok(_), _) => form += "ID ",
            _ if is_moment => form += "MOMENT ",
            (_, Ok(_)) if word.contains('.') => form += "TIME ",
            _ => form += &format!("{word} "),
        }
    }
    form
}

/// Each command of a session with what is shown below it.
fn told(session: &Example) -> Vec<(String, String)> {
    let joined = session.text.replace("\\\n", " ");
    let commands =
        joined.split("$ ").filter(|part| !part.trim().is_empty()).map(|part| match part.split_once('\n') {
            Some((command, shown)) => (command.to_owned(), shown.to_owned()),
            None => (part.to_owned(), String::new()),
        });
    commands.collect()
}

#[test]
fn a_session_with_curl_is_as_shown() -> anyhow::Result<()> {
    let page = examples_of(&checkout("docs/api.md"))?;
    let reader = Reader::new()?;
    let _up = reader.up("tasker up", 4)?;
    let session = told(one(&page, "console", "curl -si localhost:8888/backup")?);
    ensure!(session.len() >= 5, "{} commands are not all of them", session.len());
    for (command, shown) in session {
        // The long task is on its way when it is canceled, as the page says.
        if command.contains("-X DELETE") {
            until("the task has begun", PATIENCE, || {
                let text = reader.follow("tasker status worker long --json")?;
                ensure!(text.contains(r#""received":2"#), "{text}");
                Ok(())
            })?;
        }
        let text = reader.follow(&command)?;
        // Three dots stand for what is left out; ids, times and offsets of clocks differ.
        let differs = |part: &str| {
            let stamp =
                part.contains("x-request-id") || part.contains("request_id") || part.contains("last_seen");
            stamp || part.split('"').any(|word| uuid::Uuid::parse_str(word).is_ok())
        };
        for part in shown
            .split('\n')
            .flat_map(|line| line.split("..."))
            .map(str::trim)
            .filter(|part| !part.is_empty() && !differs(part))
        {
            ensure!(text.contains(part), "{part} is not in what `{command}` says:\n{text}");
        }
    }
    Ok(())
}

#[test]
fn a_token_is_made_and_revoked_as_shown() -> anyhow::Result<()> {
    let page = examples_of(&checkout("docs/operations.md"))?;
    let reader = Reader::new()?;
    fs::create_dir(reader.home.join("config"))?;
    let ledger = reader.home.join("ledger.db");
    let config = format!("task_types: [backup]\nmanager: {{db: {{uri: 'sqlite://{}'}}}}\n", ledger.display());
    reader.home.write("config/production.config.yaml", &config)?;
    reader.follow("tasker initialize -d -m production")?;
    for (command, shown) in told(one(&page, "console", "$ tasker token create")?) {
        let text = reader.follow(&command)?;
        assert_eq!(form(&text), form(&shown), "{command}");
    }
    Ok(())
}

#[test]
fn a_handler_is_written_in_a_minute() -> anyhow::Result<()> {
    let page = examples_of(&checkout("README.md"))?;
    let reader = Reader::new()?;
    reader.follow(&one(&page, "sh", "cat > handlers.d/uptime.sh")?.text)?;
    // `uptime` tells of this machine; what it is told is not the point.
    let machine = reader.follow("uptime -p")?;
    let _up = reader.up(one(&page, "sh", "tasker up --handlers-dir")?.text.trim(), 6)?;
    let session = one(&page, "text", "$ tasker submit uptime")?;
    let mut told = String::new();
    for command in session.commands() {
        told += &format!("$ {command}\n{}\n", reader.follow(&command)?);
    }
    // The first line goes to standard error, which is read apart.
    let rest = |text: &str| {
        text.lines().filter(|line| !line.starts_with("submitted ")).collect::<Vec<_>>().join("\n")
    };
    let expected = session.text.replace("up 5 hours, 28 minutes", machine.trim());
    assert_eq!(form(&rest(&told)), form(&rest(&expected)), "{told}");
    ensure!(told.contains("submitted uptime third (task "), "{told}");
    let log = reader.follow("tasker status uptime third --all --json")?;
    ensure!(log.contains(r#""log":"asked by task third\n""#), "{log}");
    Ok(())
}

#[test]
fn a_work_queue_is_set_up_as_its_page_says() -> anyhow::Result<()> {
    let page = examples_of(&checkout("docs/queues.md"))?;
    let reader = Reader::new()?;
    reader.write(one(&page, "yaml", "name: builds")?)?;
    for example in page.iter().filter(|example| example.is_script()) {
        reader.write(example)?;
    }
    let start = one(&page, "sh", "tasker up --config builds.yaml")?.commands();
    let (up, before) = start.split_last().context("a command")?;
    for command in before {
        reader.follow(command)?;
    }
    let _up = reader.up(up, 2)?;
    for command in one(&page, "sh", "tasker submit builds")?.commands() {
        let told = reader.follow(&command)?;
        if command.starts_with("tasker submit") {
            ensure!(told.contains("DONE builds"), "{told}");
            until("the successor is done", PATIENCE, || {
                let listed = reader.follow("tasker list reports")?;
                listed.contains("DONE").then_some(()).context(listed)
            })?;
        }
    }
    Ok(())
}

#[test]
fn a_request_is_made_as_its_page_says() -> anyhow::Result<()> {
    let page = examples_of(&checkout("docs/requests.md"))?;
    let reader = Reader::new()?;
    for example in
        page.iter().filter(|example| example.is_script() || example.file() == Some("requests.yaml"))
    {
        reader.write(example)?;
    }
    let start = one(&page, "sh", "tasker up --handlers-dir jobs")?.commands();
    let (up, before) = start.split_last().context("a command")?;
    for command in before {
        reader.follow(command)?;
    }
    let up = reader.up(up, 7)?;
    let session = one(&page, "text", "$ tasker request submit")?;
    let mut told = String::new();
    for command in session.commands() {
        told += &format!("$ {command}\n{}\n", reader.follow(&command)?);
    }
    let shown: Vec<&str> = told.lines().filter(|line| !line.starts_with("submitted ")).collect();
    assert_eq!(form(&shown.join("\n")), form(&session.text), "{told}");
    drop(up);
    // The same as a configured action.
    let _up = reader.up(one(&page, "sh", "tasker up --config requests.yaml")?.text.trim(), 3)?;
    for command in one(&page, "sh", "tasker request submit remove_user")?.commands() {
        let told = reader.follow(&command)?;
        ensure!(!command.contains("submit") || told.contains("Completed remove_user"), "{told}");
    }
    Ok(())
}

/// The first minutes, as the README has them.
#[test]
fn the_first_five_minutes_are_as_told() -> anyhow::Result<()> {
    find("curl", &["/usr/bin"])?;
    let page = examples_of(&checkout("README.md"))?;
    let reader = Reader::new()?;
    let _up = reader.up("tasker up", 4)?;
    let commands = one(&page, "sh", "\"identifier\": \"first\"")?.commands();
    let told: Vec<String> =
        commands.iter().map(|command| reader.follow(command)).collect::<anyhow::Result<_>>()?;
    let answer: serde_json::Value = serde_json::from_str(told.last().context("an answer")?)?;
    let shown = one(&page, "json", "taskResponseList")?.text.replace(", ...", "");
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    let members = |value: &serde_json::Value| -> Vec<String> {
        let mut names: Vec<_> =
            value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(members(&shown["task"]), members(&answer["task"]));
    assert_eq!(members(&shown["taskResponseList"][0]), members(&answer["taskResponseList"][0]));
    for member in ["status", "expected", "received", "finished", "payload", "missing"] {
        assert_eq!(shown["task"][member], answer["task"][member], "{member}");
    }
    Ok(())
}

/// What people and the page of the dashboard are told of the states of farm tasks is what there is.
#[test]
fn the_states_of_farm_tasks_are_all_told() -> anyhow::Result<()> {
    let names = TaskStatus::ALL.map(TaskStatus::as_str);
    for (file, text) in [
        ("docs/api.md", format!("A task of a farm is {}.", names.map(|name| format!("`{name}`")).join(", "))),
        (
            "src/web/dashboard/web/src/types.ts",
            format!("export type FarmStatus = {};", names.map(|name| format!("{name:?}")).join(" | ")),
        ),
    ] {
        ensure!(fs::read_to_string(checkout(file))?.contains(&text), "{file} does not have: {text}");
    }
    Ok(())
}
