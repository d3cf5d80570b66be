//! The commands that ask an API, as they are typed: what they say at once, while they wait, and when they are
//! interrupted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tasker_services::until;
use tempfile::TempDir;

/// A `tasker up` on a free port, and a place to type commands at it. Ends when it is dropped.
struct Site {
    place: TempDir,
    up: Child,
    api: String,
}

impl Site {
    fn start(endpoints: &str) -> anyhow::Result<Self> {
        Self::start_in(tempfile::tempdir()?, endpoints, &[])
    }

    fn start_in(place: TempDir, endpoints: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let mut up = program(&place);
        up.args(["up", "--listen", "127.0.0.1:0", "--endpoints", endpoints]).args(flags);
        up.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut up = up.spawn()?;
        let lines = BufReader::new(up.stdout.take().context("no pipe")?).lines();
        let api = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.trim().strip_prefix("API")?.trim().to_owned()));
        let api = api.context("no greeting")?;
        Ok(Self { place, up, api })
    }

    /// Two endpoints that are there.
    fn with_two() -> anyhow::Result<Self> {
        let site = Self::start("web1,web12")?;
        for name in ["web1", "web12"] {
            site.subscribed(name)?;
        }
        Ok(site)
    }

    /// Waits until an endpoint has answered: then it subscribes.
    fn subscribed(&self, name: &str) -> anyhow::Result<()> {
        let done = self.typed(&[
            "submit", "worker", "--payload", r#"{"seconds": 0}"#, "--endpoints", name, "--wait", "60s",
        ])?;
        ensure!(done.status.success(), "{}", said(&done));
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(&self.place);
        command.args(arguments).args(["--api", &self.api]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What a command says.
    fn typed(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(arguments).output()?)
    }

    /// How many requests for tasks the API has answered.
    fn requests(&self) -> anyhow::Result<u64> {
        let address = self.api.strip_prefix("http://").context("no http")?;
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics)?;
        let of_tasks = metrics.lines().filter(|line| {
            line.starts_with("tasker_http_request_seconds_count{")
                && line.contains("/tasks/")
                && line.contains("GET")
        });
        of_tasks.map(|line| Ok(line.rsplit(' ').next().context("no number")?.parse::<u64>()?)).sum()
    }

    /// The JSON that a command prints.
    fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.typed(arguments)?;
        serde_json::from_slice(&output.stdout).with_context(|| said(&output))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        _ = self.up.kill();
        _ = self.up.wait();
    }
}

fn program(place: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker"));
    for name in ["TASKER_TOKEN", "TASKER_TOKEN_FILE", "TASKER_CA_FILE", "TASKER_API_URL"] {
        command.env_remove(name);
    }
    command.current_dir(place.path());
    command
}

fn said(output: &Output) -> String {
    format!(
        "{} {} {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    Ok(kill_process(Pid::from_child(child), signal)?)
}

#[test]
fn an_interrupted_wait_says_that_the_task_goes_on() -> anyhow::Result<()> {
    let site = Site::with_two()?;
    for (flags, by, code) in [(&[][..], Signal::INT, 130), (&["--json"][..], Signal::TERM, 143)] {
        let submit =
            ["submit", "worker", "--payload", r#"{"seconds": 600}"#, "--endpoints", "web1", "--wait"];
        let mut waiting = site.command(&[&submit, flags].concat()).spawn()?;
        let mut errors = BufReader::new(waiting.stderr.take().context("no pipe")?);
        let mut first = String::new();
        errors.read_line(&mut first)?;
        let identifier = match serde_json::from_str::<Value>(&first) {
            Ok(line) => line["submitted"]["identifier"].as_str().unwrap_or_default().to_owned(),
            Err(_) => first
                .strip_prefix("submitted worker ")
                .and_then(|rest| rest.split(' ').next())
                .unwrap_or_default()
                .to_owned(),
        };
        ensure!(identifier.len() == 36, "the first line does not name the task: {first}");
        signal(&waiting, by)?;
        let mut rest = String::new();
        errors.read_to_string(&mut rest)?;
        ensure!(waiting.wait()?.code() == Some(code), "{rest}");
        let watch = format!("tasker status worker {identifier} --api {} --wait", site.api);
        let cancel = format!("tasker cancel worker {identifier} --api {}", site.api);
        ensure!(
            rest.contains("the task goes on") && rest.contains(&watch) && rest.contains(&cancel),
            "{rest}"
        );
        ensure!(
            flags.is_empty()
                || serde_json::from_str::<Value>(&rest)
                    .is_ok_and(|line| line["error"]["code"] == "interrupted"),
            "{rest}"
        );
        // It does go on, and what was said can be typed.
        let words: Vec<_> = cancel.split(' ').skip(1).take(3).collect();
        let canceled = site.typed(&words)?;
        ensure!(
            canceled.status.success() && said(&canceled).contains("CANCELED worker"),
            "{}",
            said(&canceled)
        );
    }
    Ok(())
}

#[test]
fn a_program_gets_the_answers_unless_it_wants_fewer() -> anyhow::Result<()> {
    let site = Site::with_two()?;
    let submit = [
        "submit", "worker", "--identifier", "first", "--payload", r#"{"seconds": 0}"#, "--wait", "60s",
        "--json",
    ];
    let answers = |report: &Value| report["taskResponseList"].as_array().map(Vec::len);
    ensure!(answers(&site.json(&submit)?) == Some(2));
    let status = ["status", "worker", "first", "--json"];
    ensure!(answers(&site.json(&status)?) == Some(2));
    for narrower in ["failed", "none"] {
        let report = site.json(&[&status[..], &["--responses", narrower]].concat())?;
        ensure!(answers(&report) == Some(0), "{narrower}: {report}");
    }
    Ok(())
}

#[test]
fn that_nobody_subscribes_is_said_at_once() -> anyhow::Result<()> {
    let site = Site::start("")?;
    // The time to receive it is half a minute: this ends before, or the wait does.
    let output = site.typed(&["submit", "worker", "--wait", "20s"])?;
    ensure!(
        output.status.code() == Some(4) && said(&output).contains("no endpoint subscribes to worker"),
        "{}",
        said(&output)
    );
    Ok(())
}

#[test]
fn a_stop_says_what_it_waits_for() -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let mut up = program(&place);
    up.args(["up", "--listen", "127.0.0.1:0", "--endpoints", "web1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    up.env("TASKER_ENDPOINT__STOP_TIMEOUT", "2s");
    let mut up = up.spawn()?;
    let lines = BufReader::new(up.stdout.take().context("no pipe")?).lines();
    let api = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.trim().strip_prefix("API")?.trim().to_owned()))
        .context("no API")?;
    let mut errors = up.stderr.take().context("no pipe")?;
    let site = Site { place, up, api };
    site.subscribed("web1")?;
    let submitted = site
        .json(&["submit", "backup", "--endpoints", "web1", "--payload", r#"{"seconds": 600}"#, "--json"])?;
    let id = submitted["id"].as_str().context("an id")?;
    until("the task runs", Duration::from_secs(60), || {
        let report = site.json(&["status", id, "--json"])?;
        ensure!(report["taskResponseList"][0]["status"] == "CREATED", "{report}");
        Ok(())
    })?;
    signal(&site.up, Signal::INT)?;
    let mut log = String::new();
    errors.read_to_string(&mut log)?;
    for wanted in [
        "stopping: 1 task is running, waiting at most 2 s; Ctrl-C again ends it",
        "stopped: 1 task still ran and was ended",
    ] {
        ensure!(log.contains(wanted), "no {wanted:?} in {log}");
    }
    ensure!(log.matches(&format!("backup {id}")).count() >= 2, "{log}");
    Ok(())
}

#[test]
fn tasks_are_found_without_their_type() -> anyhow::Result<()> {
    let site = Site::with_two()?;
    // Named, since an endpoint may not subscribe to `backup` yet when it answers for `worker`.
    let payload = ["--endpoints", "web1,web12", "--payload", r#"{"seconds": 0}"#, "--wait", "60s"];
    for (task_type, identifier) in [("worker", "one"), ("worker", "both"), ("backup", "both")] {
        site.typed(&[&["submit", task_type, "--identifier", identifier], &payload[..]].concat())?;
    }
    let one = site.typed(&["status", "one"])?;
    ensure!(one.status.success() && said(&one).contains("DONE worker one"), "{}", said(&one));
    let before = site.requests()?;
    site.typed(&["status", "one"])?;
    ensure!(site.requests()? == before + 1, "one question is enough");
    let both = site.typed(&["status", "both"])?;
    ensure!(both.status.code() == Some(1) && said(&both).contains("names 2 tasks"), "{}", said(&both));
    let typed = site.typed(&["status", "backup", "both", "--all"])?;
    // Names in their order, and a table that nobody sees has no colors.
    let rows: Vec<_> = String::from_utf8(typed.stdout)?
        .lines()
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    ensure!(rows[..4] == ["DONE", "ENDPOINT", "web1", "web12"], "{rows:?}");
    let whole = site.typed(&["status", "backup", "both", "--endpoint", "web12"])?;
    ensure!(
        said(&whole).contains("could not backup!") && !said(&whole).contains("web1 "),
        "{}",
        said(&whole)
    );
    let nobody = site.typed(&["status", "backup", "both", "--endpoint", "web2"])?;
    ensure!(nobody.status.code() == Some(1) && said(&nobody).contains("`web2`"), "{}", said(&nobody));

    let listed = String::from_utf8(site.typed(&["list", "--identifier", "both"])?.stdout)?;
    ensure!(
        listed.lines().count() == 3 && listed.contains("worker") && listed.contains("backup"),
        "{listed}"
    );
    let ids: Vec<String> = (0..2)
        .map(|_| {
            let task = site.json(&["submit", "worker", "--payload", r#"{"seconds": 600}"#, "--json"])?;
            task["id"].as_str().map(str::to_owned).context("an id")
        })
        .collect::<anyhow::Result<_>>()?;
    let canceled = site.typed(&["cancel", &ids[0], "nothing", &ids[1]])?;
    let text = said(&canceled);
    ensure!(
        canceled.status.code() == Some(1)
            && text.matches("CANCELED worker").count() == 2
            && text.contains("\"nothing\""),
        "{text}"
    );
    let unknown = site.typed(&["cancel", "wroker", "one"])?;
    ensure!(unknown.status.code() == Some(1) && said(&unknown).contains("type"), "{}", said(&unknown));
    Ok(())
}

#[test]
fn refusals_name_flags_and_not_members() -> anyhow::Result<()> {
    let site = Site::with_two()?;
    let twice = site.typed(&["submit", "worker", "--endpoints", "web1,web1"])?;
    ensure!(
        said(&twice).contains("--endpoints web1: ") && !said(&twice).contains("/endpoints"),
        "{}",
        said(&twice)
    );
    let for_programs = site.typed(&["submit", "worker", "--endpoints", "web1,web1", "--json"])?;
    ensure!(said(&for_programs).contains(r#""pointer":"/endpoints/1""#), "{}", said(&for_programs));
    Ok(())
}

#[test]
fn endpoints_are_chosen_by_type_and_state() -> anyhow::Result<()> {
    let site = Site::with_two()?;
    let names = |flags: &[&str]| -> anyhow::Result<Vec<String>> {
        let text = String::from_utf8(site.typed(&[&["endpoints"], flags].concat())?.stdout)?;
        Ok(text
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
            .collect())
    };
    ensure!(names(&[])? == ["web1 present", "web12 present"], "{:?}", names(&[])?);
    ensure!(names(&["--type", "worker"])?.len() == 2 && names(&["--type", "other"])?.is_empty());
    ensure!(names(&["--gone"])?.is_empty());
    // Of a page that is filtered no more are shown than were asked for, and the rest is on the next.
    ensure!(names(&["--type", "worker", "--limit", "1"])? == ["web1 present"]);
    Ok(())
}

#[test]
fn a_shell_completes_types_and_endpoints() -> anyhow::Result<()> {
    let site = Site::with_two()?;
    let completed = |shell: &str, line: &str| -> anyhow::Result<String> {
        let output = program(&site.place)
            .args(["__complete", shell, line])
            .env("TASKER_API_URL", &site.api)
            .output()?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
        Ok(String::from_utf8(output.stdout)?)
    };
    for (shell, line, wanted) in [
        ("bash", "tasker submit w", "worker\n"),
        ("zsh", "tasker submit worker --endpoints web1,w", "web1,web12\n"),
        ("fish", "tasker submit worker --endpoints=web12,", "--endpoints=web12,web1\n"),
        ("bash", "tasker submit worker --endpoints=web12,", "web12,web1\n"),
        ("bash", "tasker canc", "cancel\n"),
        // A TAB says nothing where nobody answers.
        ("bash", "tasker --api http://127.0.0.1:1 submit ", ""),
    ] {
        ensure!(completed(shell, line)? == wanted, "{shell} {line}: {}", completed(shell, line)?);
    }
    // As bash itself does it.
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_tasker")).parent().context("a directory")?;
    let typed = r#"source <(tasker completions bash); COMP_LINE="tasker submit wo"; COMP_POINT=16; _tasker; echo "${COMPREPLY[@]}""#;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let bash = Command::new("bash")
        .args(["-c", typed])
        .env("PATH", path)
        .env("TASKER_API_URL", &site.api)
        .output()?;
    ensure!(String::from_utf8_lossy(&bash.stdout).trim() == "worker", "{}", said(&bash));
    Ok(())
}

#[test]
fn there_is_a_page_of_the_manual_for_each_command() -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let written = program(&place).args(["man", "."]).output()?;
    ensure!(written.status.success(), "{}", said(&written));
    for (page, wanted) in [
        ("tasker.1", "tasker\\-submit(1)"),
        ("tasker-submit.1", "\\-\\-payload"),
        ("tasker-token-create.1", "\\-\\-scope"),
    ] {
        let text = std::fs::read_to_string(place.path().join(page)).with_context(|| page.to_owned())?;
        ensure!(text.contains(wanted), "no {wanted} in {page}: {text}");
    }
    ensure!(place.path().join("tasker-man.1").exists());
    ensure!(!place.path().join("tasker-__complete.1").exists(), "hidden commands have no page");
    let made = program(&place).args(["man", "share/man1"]).output()?;
    ensure!(made.status.success() && place.path().join("share/man1/tasker.1").exists(), "{}", said(&made));
    let file = program(&place).args(["man", "tasker.1"]).output()?;
    ensure!(
        file.status.code() == Some(1) && said(&file).contains("cannot write the manual pages into tasker.1"),
        "{}",
        said(&file)
    );
    Ok(())
}

#[test]
fn the_version_is_told_in_two_ways() -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let text = |arguments: &[&str]| -> anyhow::Result<String> {
        Ok(String::from_utf8(program(&place).args(arguments).output()?.stdout)?)
    };
    let version = env!("CARGO_PKG_VERSION");
    ensure!(text(&["version"])?.starts_with(&format!("tasker {version}")));
    ensure!(text(&["version"])? == text(&["--version"])?);
    let json: Value = serde_json::from_str(&text(&["version", "--json"])?)?;
    ensure!(json["version"] == version && json.get("commit").is_some(), "{json}");
    Ok(())
}

#[test]
fn a_task_is_watched_to_its_end() -> anyhow::Result<()> {
    let site = Site::with_two()?;
    let submitted = site.json(&["submit", "worker", "--payload", r#"{"seconds": 2}"#, "--json"])?;
    let identifier = submitted["identifier"].as_str().context("an identifier")?;
    let watched = site.typed(&["watch", "worker", identifier])?;
    ensure!(watched.status.success(), "{}", said(&watched));
    let text = String::from_utf8(watched.stdout)?;
    let lines: Vec<&str> = text.lines().collect();
    // A line for each change, and then what `status` shows.
    ensure!(lines.first().is_some_and(|line| line.contains("0 of 2 endpoints finished")), "{text}");
    ensure!(
        lines.last().is_some_and(|line| line.starts_with("2 of 2 endpoints finished"))
            && !text.contains('\u{1b}'),
        "{text}"
    );
    // Without its type, and for a program; it has ended, which needs no stream.
    let told = site.typed(&["watch", submitted["id"].as_str().context("an id")?, "--json"])?;
    ensure!(told.status.success(), "{}", said(&told));
    let canceled = site.json(&["submit", "worker", "--payload", r#"{"seconds": 600}"#, "--json"])?;
    let canceled = canceled["id"].as_str().context("an id")?;
    let watching = site.command(&["watch", canceled]).spawn()?;
    ensure!(site.typed(&["cancel", canceled])?.status.success());
    let watched = watching.wait_with_output()?;
    ensure!(watched.status.code() == Some(5), "{}", said(&watched));
    let unknown = site.typed(&["watch", "worker", "no-such-task"])?;
    ensure!(
        unknown.status.code() == Some(1) && said(&unknown).contains("no-such-task"),
        "{}",
        said(&unknown)
    );
    Ok(())
}

#[test]
fn open_tasks_are_watched_until_a_person_has_seen_enough() -> anyhow::Result<()> {
    let site = Site::with_two()?;
    let submitted = site.json(&["submit", "worker", "--payload", r#"{"seconds": 600}"#, "--json"])?;
    let mut watching = site.command(&["watch"]).spawn()?;
    let mut lines = BufReader::new(watching.stdout.take().context("no pipe")?);
    let mut first = String::new();
    lines.read_line(&mut first)?;
    ensure!(
        first.contains("worker")
            && first.contains(submitted["identifier"].as_str().context("an identifier")?),
        "{first}"
    );
    signal(&watching, Signal::INT)?;
    ensure!(watching.wait()?.success());
    // Nothing happens, and nobody reads any more.
    let mut watching = site.command(&["watch"]).spawn()?;
    let mut lines = BufReader::new(watching.stdout.take().context("no pipe")?);
    lines.read_line(&mut first)?;
    drop(lines);
    until("it ends", Duration::from_secs(20), || watching.try_wait()?.context("it watches for nobody"))?;
    let two = site.typed(&["status", "first", "second"])?;
    ensure!(said(&two).contains("`tasker status` takes one task, as ID or TYPE ID"), "{}", said(&two));
    let none = site.typed(&["list", "--since", "2h", "--until", "3h"])?;
    ensure!(
        none.status.code() == Some(1) && said(&none).contains("nothing is in between"),
        "{}",
        said(&none)
    );
    Ok(())
}

#[test]
fn lines_are_followed_while_handlers_run() -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let handlers = place.path().join("handlers.d");
    std::fs::create_dir(&handlers)?;
    let script =
        "#!/bin/sh\necho before >&2\nwhile [ ! -e go ]; do sleep 0.05; done\necho after >&2\nexit 3\n";
    std::fs::write(handlers.join("deploy"), script)?;
    std::fs::set_permissions(handlers.join("deploy"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let directory = handlers.to_str().context("a path")?.to_owned();
    let site = Site::start_in(place, "web1,web2", &["--handlers-dir", &directory])?;
    let submitted = site.json(&["submit", "deploy", "--endpoints", "web1,web2", "--json"])?;
    let id = submitted["id"].as_str().context("an id")?;
    let mut following = site.command(&["logs", "--follow", "deploy", id]).spawn()?;
    let mut lines = BufReader::new(following.stdout.take().context("no pipe")?);
    let mut told = Vec::new();
    while told.len() < 2 {
        let mut line = String::new();
        ensure!(lines.read_line(&mut line)? > 0, "it ended after {told:?}");
        told.push(line);
    }
    told.sort();
    ensure!(told == ["web1: before\n", "web2: before\n"], "{told:?}");
    std::fs::write(handlers.join("go"), "")?;
    let mut rest = String::new();
    lines.read_to_string(&mut rest)?;
    ensure!(
        following.wait()?.success() && rest.contains("web1: after\n") && rest.contains("web2: after\n"),
        "{rest}"
    );
    let one = site.typed(&["logs", id, "--endpoint", "web2"])?;
    ensure!(one.status.success() && one.stdout == b"before\nafter\n", "{}", said(&one));
    Ok(())
}
