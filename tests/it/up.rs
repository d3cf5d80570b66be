//! `tasker up` as somebody meets it who has just begun: handlers out of a directory, commands to try, a stop
//! and another start.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tasker_services::{Home, Port, Process, until};

/// How long a test waits for what must come. Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory, and the API of the `tasker up` in it.
struct Site {
    home: Home,
    port: Port,
}

impl Site {
    fn new(name: &str) -> anyhow::Result<Self> {
        Ok(Self { home: Home::new(name)?, port: Port::free()? })
    }

    /// The program with nothing of our environment that steers it.
    fn tasker(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tasker"));
        command.args(args).current_dir(self.home.path()).env_remove("TASKER_API_URL").env_remove("RUST_LOG");
        command
    }

    fn up(&self, args: &[&str]) -> anyhow::Result<Process> {
        let listen = format!("127.0.0.1:{}", self.port.number());
        let mut command = self.tasker(&["up", "--listen", &listen]);
        let mut up = self.home.start("up", command.args(args))?;
        up.ready(PATIENCE, || up_says(&self.home, "Ctrl-C stops it"))?;
        Ok(up)
    }

    /// What a client prints.
    fn says(&self, args: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
        let api = format!("http://127.0.0.1:{}", self.port.number());
        let output = self.tasker(args).args(["--api", &api]).output()?;
        Ok((
            output.status.code(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        ))
    }

    fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let (code, text) = self.says(&[args, &["--json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("{args:?} ends with {code:?}: {text}"))
    }

    /// Waits until these endpoints are there.
    fn subscribed(&self, count: usize) -> anyhow::Result<()> {
        until("the endpoints are there", PATIENCE, || {
            let (_, text) = self.says(&["endpoints", "--json"])?;
            ensure!(text.matches(r#""subscribed":true"#).count() >= count, "{text}");
            Ok(())
        })
    }

    fn executable(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let new = self.home.write("handlers.d/.new", text)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        Ok(fs::rename(new, self.home.join("handlers.d").join(name))?)
    }
}

/// All that `tasker up` has said.
fn said(home: &Home) -> String {
    fs::read_to_string(home.join("up.log")).unwrap_or_default()
}

fn up_says(home: &Home, wanted: &str) -> anyhow::Result<()> {
    let text = said(home);
    ensure!(text.contains(wanted), "{text}");
    Ok(())
}

/// Runs the commands of "Try it" as they are printed, one after the other.
fn try_it(home: &Home) -> anyhow::Result<Vec<String>> {
    let text = said(home);
    let commands =
        text.split_once("Try it").and_then(|(_, rest)| rest.split_once("\n")).context("no commands")?.1;
    let commands = commands.split_once("\n\n").context("no end")?.0.replace("\\\n", " ");
    let path = Path::new(env!("CARGO_BIN_EXE_tasker")).parent().context("a directory")?;
    let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap_or_default());
    let run = |line: &str| {
        let output = Command::new("sh")
            .args(["-ec", line])
            .env("PATH", &path)
            .env_remove("TASKER_API_URL")
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
        Ok(text)
    };
    commands.lines().map(run).collect()
}

#[test]
fn each_executable_of_a_directory_is_a_task_type() -> anyhow::Result<()> {
    let site = Site::new("up")?;
    fs::create_dir_all(site.home.join("handlers.d/sub"))?;
    for name in [
        "uptime.sh", "disk", "worker", "both.sh", "both.py", "old.bak", "x~", "run.rpmnew", "1st",
        "tasks.sh", "open",
    ] {
        site.executable(name, "#!/bin/sh\necho 'up 3 days'\necho working >&2\n")?;
    }
    fs::set_permissions(site.home.join("handlers.d/open"), fs::Permissions::from_mode(0o777))?;
    site.home.write("handlers.d/plain", "no program")?;
    site.home.write("handlers.d/.hidden", "")?;
    site.home.write("with.yaml", "task_types: [{name: disk, output: json}, echo]\n")?;
    let up = site.up(&["--config", "with.yaml", "--handlers-dir", "handlers.d", "--endpoints", "web1"])?;
    let text = said(&site.home);
    ensure!(text.contains("  task types  disk, echo, uptime, worker\n"), "{text}");
    for (name, reason) in [
        ("both.sh", "`both` may be any of both.sh, both.py"),
        ("both.py", "`both` may be any of both.sh, both.py"),
        ("old.bak", "none of the extensions of handlers"),
        ("run.rpmnew", "none of the extensions of handlers"),
        ("x~", "a letter followed by"),
        ("1st", "a letter followed by"),
        ("tasks.sh", "`tasks` is reserved"),
        ("open", "may be written to by anyone"),
        ("plain", "is not an executable file: chmod +x"),
    ] {
        let line = text
            .lines()
            .find(|line| line.contains(&format!("file={name} ")))
            .with_context(|| format!("{name}: {text}"))?;
        ensure!(line.contains("WARN") && line.contains(reason), "{line}");
    }
    ensure!(text.matches("not a handler").count() == 9, "{text}");
    site.subscribed(4)?;
    site.says(&["submit", "uptime", "--identifier", "one", "--wait"])?;
    let done = site.json(&["status", "uptime", "one", "--all"])?;
    let response = &done["taskResponseList"][0];
    assert_eq!(
        (&response["payload"], &response["log"]),
        (&"up 3 days".into(), &"working\n".into()),
        "{done}"
    );
    // The configured type keeps its settings.
    site.says(&["submit", "disk", "--identifier", "two", "--wait"])?;
    let failed = site.json(&["status", "disk", "two", "--all"])?;
    assert_eq!(failed["taskResponseList"][0]["errnr"], 65, "{failed}");
    drop(up);
    let (code, text) = site.says(&["up", "--listen", "127.0.0.1:0", "--handlers-dir", "nowhere"])?;
    ensure!(
        code == Some(1)
            && text.contains("--handlers-dir nowhere: the directory ")
            && text.contains("does not exist"),
        "{text}"
    );
    Ok(())
}

/// What the greeting tells is not told again by the log, unless somebody asks for the log of the program.
#[test]
fn a_trial_logs_little_after_its_greeting() -> anyhow::Result<()> {
    for filter in [None, Some("tasker=info")] {
        let site = Site::new("quiet")?;
        let listen = format!("127.0.0.1:{}", site.port.number());
        let mut command = site.tasker(&["up", "--listen", &listen, "--endpoints", "web1"]);
        command.envs(filter.map(|filter| ("RUST_LOG", filter)));
        let mut up = site.home.start("up", &mut command)?;
        up.ready(PATIENCE, || up_says(&site.home, "Ctrl-C stops it"))?;
        site.subscribed(1)?;
        let (code, text) = site.says(&["group", "set", "web", "name=web*"])?;
        ensure!(code == Some(0), "{text}");
        up.stop(PATIENCE)?;
        let text = said(&site.home);
        let is_told = |word: &str| text.lines().any(|line| line.contains(" INFO ") && line.contains(word));
        // What somebody has done since is logged in any case.
        ensure!(is_told("a group was written"), "{text}");
        for word in [" subscribed ", " audited "] {
            ensure!(is_told(word) == filter.is_some(), "{filter:?} {word}: {text}");
        }
    }
    Ok(())
}

/// With more than twenty answers a person reads groups of equal ones, and goes on with one of them.
#[test]
fn many_answers_are_shown_in_groups() -> anyhow::Result<()> {
    const LOOK: &str = r#"#!/bin/sh
if [ "$TASKER_ENDPOINT" = web7 ]; then
    echo "$TASKER_ENDPOINT cannot look" >&2
    echo "no disk" >&2
    exit 3
fi
echo "{\"host\": \"$TASKER_ENDPOINT.example\", \"pid\": $$}"
"#;
    let names: Vec<String> = (1..=24).map(|number| format!("web{number}")).collect();
    let list = names.join(",");
    let site = Site::new("answers")?;
    fs::create_dir_all(site.home.join("handlers.d"))?;
    site.executable("look", LOOK)?;
    site.home.write("it.yaml", "task_types: [{name: look, answers: {ignore: [/pid]}}]\n")?;
    let _up = site.up(&["--config", "it.yaml", "--handlers-dir", "handlers.d", "--endpoints", &list])?;
    site.subscribed(24)?;

    let (code, text) = site.says(&["submit", "look", "--identifier", "a", "--endpoints", &list, "--wait"])?;
    ensure!(code == Some(2) && text.contains("\n23 endpoints succeeded, such as web1 (answer "), "{text}");
    ensure!(
        text.contains("\n1 endpoint failed with 3: web7 (answer ")
            && text.contains("\n  no disk\n  web7 cannot look\n"),
        "{text}"
    );
    ensure!(text.contains("\n24 of 24 endpoints finished, 1 failed"), "{text}");
    let (code, status) = site.says(&["status", "a"])?;
    ensure!(code == Some(2) && status.contains("\n23 endpoints succeeded"), "{status}");
    let (_, rows) = site.says(&["status", "a", "--all"])?;
    ensure!(names.iter().all(|name| rows.contains(&format!("\n{name} "))), "{rows}");

    let answers = site.json(&["answers", "look", "a"])?;
    let counts = [0, 1].map(|place| answers["groups"][place]["count"].as_u64());
    ensure!(counts == [Some(23), Some(1)], "{answers}");
    let (_, lines) = site.says(&["answers", "a", "--jsonl"])?;
    ensure!(
        lines.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?.len() == 2,
        "{lines}"
    );

    let digest = answers["groups"][1]["answer"].as_str().context("no digest")?;
    let (code, members) = site.says(&["answers", "a", "--answer", &digest[..6]])?;
    ensure!(code == Some(0) && members == "web7\n", "{members}");
    let (_, all) = site.says(&["answers", "a", "--answer", digest, "--jsonl"])?;
    ensure!(serde_json::from_str::<Value>(&all)?["endpoint"] == "web7", "{all}");
    let again = site.json(&["rerun", "a", "--answer", &digest[..8].to_uppercase()])?;
    ensure!(again["endpoints"] == serde_json::json!(["web7"]), "{again}");
    for (answer, reason) in [
        ("3f9", "expected 6 to 32 hexadecimal digits"),
        ("0000000", "no answer to the task begins with 0000000: it has "),
    ] {
        let (code, text) = site.says(&["rerun", "a", "--answer", answer])?;
        ensure!(code == Some(1) && text.contains(reason), "{text}");
    }
    Ok(())
}

/// With a work queue each task is performed once, not once an endpoint.
#[test]
fn executables_of_a_directory_may_have_work_queues() -> anyhow::Result<()> {
    let site = Site::new("delivery")?;
    fs::create_dir_all(site.home.join("handlers.d"))?;
    site.executable("uptime.sh", "#!/bin/sh\necho up\n")?;
    let up = site.up(&["--handlers-dir", "handlers.d", "--delivery", "queue"])?;
    site.says(&["submit", "uptime", "--identifier", "one", "--wait"])?;
    let done = site.json(&["status", "uptime", "one", "--all"])?;
    ensure!(done["task"]["expected"] == 1 && done["taskResponseList"][0]["endpoint"] == "worker1", "{done}");
    drop(up);
    let (code, text) = site.says(&["up", "--delivery", "queue"])?;
    ensure!(code == Some(1) && text.contains("--handlers-dir"), "{text}");
    Ok(())
}

#[test]
fn what_is_printed_to_try_it_works() -> anyhow::Result<()> {
    let schema =
        r#"{"type": "object", "required": ["branch"], "properties": {"branch": {"type": "string"}}}"#;
    let queue = format!(
        "task_types: [{{name: builds, delivery: queue, body: payload, schema: '{schema}'}}]\nendpoint: {{handlers_dir: handlers.d}}\n"
    );
    let own = format!(
        "task_types: [worker, {{name: builds, schema: '{schema}'}}]\nendpoint: {{handlers_dir: handlers.d}}\n"
    );
    for (config, first) in [
        ("task_types: [backup, worker]\n", "submit worker"),
        (&own, "submit builds"),
        (&queue, "submit builds"),
    ] {
        let site = Site::new("try")?;
        fs::create_dir_all(site.home.join("handlers.d"))?;
        site.executable("builds", "#!/bin/sh\necho built\n")?;
        site.home.write("it.yaml", config)?;
        let _up = site.up(&["--config", "it.yaml"])?;
        site.subscribed(1)?;
        ensure!(
            said(&site.home)
                .split_once("Try it")
                .is_some_and(|(_, rest)| rest.lines().nth(1).is_some_and(|line| line.contains(first)))
        );
        let told = try_it(&site.home)?;
        ensure!(
            told.last().is_some_and(|last| last.contains(r#""identifier":""#))
                && !told.concat().contains("urn:tasker:problem"),
            "{told:?}"
        );
    }
    Ok(())
}

#[test]
fn names_that_stand_for_two_are_refused() -> anyhow::Result<()> {
    let site = Site::new("names")?;
    let (code, text) = site.says(&["up", "--listen", "127.0.0.1:0", "--endpoints", "a,b,a"])?;
    ensure!(code == Some(1) && text.contains("--endpoints names `a` twice"), "{text}");
    site.home.write("q.yaml", "task_types: [worker, {name: builds, delivery: queue}]\n")?;
    let (code, text) =
        site.says(&["up", "--listen", "127.0.0.1:0", "--endpoints", "worker1", "--config", "q.yaml"])?;
    ensure!(code == Some(1) && text.contains("`worker1` is the name of a worker"), "{text}");
    Ok(())
}

/// Who was stopped is not waited for by what starts next under other names.
#[test]
fn an_empty_list_says_what_fills_it() -> anyhow::Result<()> {
    let site = Site::new("empty")?;
    let _up = site.up(&["--endpoints", ""])?;
    for (command, hint) in [
        ("list", "no tasks: `tasker submit TYPE` submits one"),
        ("list worker", "no such tasks: `tasker list` without filters shows all"),
        ("endpoints", "no endpoints: `tasker endpoint -e NAME` starts one"),
        ("endpoints --gone", "no such endpoints: `tasker endpoints` without filters shows all"),
        ("token list", "no tokens: `tasker token create` makes one"),
        ("rollout list", "no rollouts: `tasker rollout run FILE` makes one"),
        ("request list", "no requests: `tasker request submit` makes one"),
        ("group list", "no groups: `tasker group set"),
        ("queue list", "no work queues: a task type with `delivery: queue` has one"),
        ("schedules", "no schedules: `schedules` in the configuration"),
        ("stats", "no tasks in this time"),
    ] {
        let (code, text) = site.says(&command.split(' ').collect::<Vec<_>>())?;
        ensure!(code == Some(0) && text.starts_with(hint), "{command} ends with {code:?}: {text}");
    }
    Ok(())
}

#[test]
fn no_goodbye_is_lost() -> anyhow::Result<()> {
    let site = Site::new("goodbye")?;
    let many: Vec<String> = (1..=40).map(|number| format!("web{number}")).collect();
    for names in [many.join(","), "console1".to_owned(), many.join(","), "console1".to_owned()] {
        let mut up = site.up(&["--endpoints", &names])?;
        site.subscribed(2 * names.split(',').count())?;
        let endpoints = site.json(&["endpoints"])?.to_string();
        ensure!(
            endpoints.matches(r#""subscribed":true"#).count() == 2 * names.split(',').count(),
            "{endpoints}"
        );
        up.signal(Signal::INT)?;
        let status = until("its end", PATIENCE, || up.ended()?.context("it runs"))?;
        ensure!(status.success(), "{status}: {}", up.log());
        fs::remove_file(site.home.join("up.log"))?;
    }
    Ok(())
}

/// A worker takes no task from a queue that it has no handler for, and takes them as soon as it has.
#[test]
fn a_worker_asks_for_what_it_has_handlers_for() -> anyhow::Result<()> {
    let site = Site::new("worker")?;
    fs::create_dir_all(site.home.join("handlers.d"))?;
    let types = "task_types: [{name: builds, delivery: queue}, {name: reports, delivery: queue}]";
    site.home.write(
        "it.yaml",
        &format!("{types}\nendpoint: {{handlers_dir: handlers.d, presence_interval: 1s}}\n"),
    )?;
    let _up = site.up(&["--config", "it.yaml", "--endpoints", "", "--workers", "0"])?;
    let api = format!("http://127.0.0.1:{}", site.port.number());
    let worker = [
        "--api", &api, "worker", "--config", "it.yaml", "-e", "w1", "-t", "builds", "-t", "reports",
        "--data-dir", "w1",
    ];
    let _worker = site.home.start("worker", &mut site.tasker(&worker))?;
    until("the worker says what it lacks", PATIENCE, || {
        let (_, text) = site.says(&["endpoints"])?;
        let lacks = |name: &str| {
            text.contains(&format!("{name} (not subscribed: handler_missing: there is no handler `{name}`"))
        };
        (lacks("builds") && lacks("reports")).then_some(()).context(text.clone())
    })?;
    for name in ["builds", "reports"] {
        site.says(&["submit", name, "--identifier", "one"])?;
    }
    site.executable("reports.sh", "#!/bin/sh\necho reported\n")?;
    let (code, text) = site.says(&["status", "reports", "one", "--wait", "1m", "--all"])?;
    ensure!(code == Some(0) && text.contains("\"reported\""), "{text}");
    assert_eq!(site.json(&["status", "builds", "one"])?["task"]["status"], "CREATED");
    Ok(())
}

#[test]
fn a_task_finds_the_endpoint_by_its_labels() -> anyhow::Result<()> {
    let site = Site::new("labels")?;
    fs::create_dir(site.home.join("config"))?;
    let file = site.home.write("labels", "release=7\n")?;
    site.home.write(
        "config/labels.config.yaml",
        &format!(
            "task_types: [worker]\nendpoint: {{labels: {{site: berlin, rack: 12}}, labels_file: {}, presence_interval: 1s}}\n",
            file.display()
        ),
    )?;
    let mut up = site.up(&["-m", "labels"])?;
    site.subscribed(2)?;
    let quick = ["submit", "worker", "--payload", r#"{"seconds": 0.1}"#];
    let chosen = ["--match", "site=berlin,rack=12 and release=7 and os", "--wait"];
    let (code, text) = site.says(&[&quick[..], &chosen].concat())?;
    ensure!(code == Some(0) && text.contains("DONE"), "{code:?}: {text}");
    let (code, text) = site.says(&["submit", "worker", "--match", "site=paris"])?;
    ensure!(
        code != Some(0)
            && text.contains("--match")
            && text.contains("chooses none of the 2 endpoints known for `worker`"),
        "{text}"
    );
    let (code, text) = site.says(&["submit", "worker", "--match", "site in berlin"])?;
    ensure!(code == Some(1) && text.contains("at character 9: expected `(`"), "{code:?}: {text}");
    let preview = site.json(&["submit", "worker", "--exclude", "release=8", "--dry-run"])?;
    ensure!(preview["endpoints"].as_array().is_some_and(|it| it.len() == 2), "{preview}");
    // The file is read again with the next sign of life.
    fs::write(&file, "release=8\n")?;
    until("the endpoint tells its new label", PATIENCE, || {
        let page = site.json(&["endpoints", "--match", "release=8"])?;
        ensure!(page["endpoints"].as_array().is_some_and(|both| both.len() == 2), "{page}");
        Ok(())
    })?;
    let (_, table) = site.says(&["endpoints"])?;
    ensure!(table.contains("rack=12 release=8 site=berlin"), "{table}");
    // One that goes away is told, and the labels stay.
    fs::remove_file(&file)?;
    until("the trouble to be told", PATIENCE, || {
        let (_, table) = site.says(&["endpoints"])?;
        ensure!(table.contains("labels_unread") && table.contains("release=8"), "{table}");
        Ok(())
    })?;
    let done = site.json(&[&quick[..], &["--match", "release=8", "--identifier", "old"]].concat())?;
    ensure!(
        done["warnings"].is_null() && done["endpoints"].as_array().is_some_and(|it| it.len() == 2),
        "{done}"
    );
    site.json(&[&quick[..], &["--endpoints", "console1", "--identifier", "one"]].concat())?;
    let (_, why) = site.says(&["explain", "one", "--endpoint", "console2"])?;
    ensure!(why.contains("labels_unread: ") && why.contains("not_expected: "), "{why}");
    fs::write(&file, "release=9\n")?;
    until("the labels to be read again", PATIENCE, || {
        let (_, table) = site.says(&["endpoints"])?;
        ensure!(!table.contains("labels_unread") && table.contains("release=9"), "{table}");
        Ok(())
    })?;
    up.stop(PATIENCE)?;
    Ok(())
}

/// Endpoints that fail once, reboot and come late; the file that says so is also the beginning of
/// `docs/rollouts.md`.
#[test]
fn a_rollout_is_tried_on_simulated_endpoints() -> anyhow::Result<()> {
    let site = Site::new("up-simulate")?;
    site.home.write("wrong.yaml", "takes: 1s\nfaults:\n- {count: 1, fail: {errnr: 1}}\n")?;
    let refused = site.tasker(&["up", "--simulate", "3", "--faults", "wrong.yaml"]).output()?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(1) && told.contains("wrong.yaml: line 3: unknown field `fail`"),
        "{told}"
    );

    site.home.write(
        "faults.yaml",
        "takes: 10ms\nlabels: {site: [berlin, paris], release: '6.8'}\nsets: {release: /version}\nfaults:\n\
         - {endpoints: [sim-00003], times: 1, fails: {errnr: 32, errmsg: disk full}}\n\
         - {endpoints: [sim-00004, sim-00005], reboots: 100ms..300ms}\n- {endpoints: [sim-00006], away: 1s}\n",
    )?;
    let document = serde_json::json!({
        "identifier": "first", "type": "update", "payload": {"version": "6.9"}, "waves": [1, "20%", "rest"], "targets": {"order": "name"},
        "healthy": {"stays": "100ms", "within": "1m", "match": ["release=6.9"]},
    });
    site.home.write("first.yaml", &document.to_string())?;
    let mut up = site.up(&["--simulate", "20", "--faults", "faults.yaml"])?;
    ensure!(
        said(&site.home).contains("simulated   20 endpoints, sim-00000 to sim-00019"),
        "{}",
        said(&site.home)
    );
    site.subscribed(19)?;

    let (code, text) = site.says(&["rollout", "run", "first.yaml", "--wait", "1m"])?;
    ensure!(
        code == Some(6) && text.contains("1 failed, allowed 0") && text.contains("disk full"),
        "{code:?}: {text}"
    );
    for command in ["retry", "resume"] {
        let (code, text) = site.says(&["rollout", command, "first"])?;
        ensure!(code == Some(0), "{command}: {text}");
    }
    until("all have the release", PATIENCE, || {
        let (code, text) = site.says(&["rollout", "show", "first"])?;
        ensure!(code == Some(0) && text.starts_with("DONE first"), "{text}");
        Ok(())
    })?;
    let fitting = site.json(&["endpoints", "--match", "release=6.9"])?;
    ensure!(fitting["endpoints"].as_array().map(Vec::len) == Some(20), "{fitting}");
    let (_, text) = site.says(&["verify"])?;
    ensure!(text.contains("rollouts"), "{text}");
    up.stop(PATIENCE)
}
