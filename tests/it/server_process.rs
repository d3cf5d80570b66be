//! What `tasker up` is to the system around it: what ends it, and what becomes of the handlers it watches;
//! the orphans it adopts; and what others can read of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tasker_services::{Home, Port, Process, until};

use crate::support::send;

/// How long a test waits for what must come. Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Says that it runs, waits until it may end, and says so.
const WAITS: &str = "#!/bin/sh\necho $$ >> ../begun\nuntil [ -e ../go ]; do sleep 0.05; done\necho done >> ../ended\necho 1\n";

/// A directory with handlers, and the API of the `tasker up` in it.
struct Site {
    home: Home,
    port: Port,
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

impl Site {
    fn new(handler: &str) -> anyhow::Result<Self> {
        let (home, port) = (Home::new("process")?, Port::free()?);
        let config = json!({"task_types": ["run"], "endpoint": {"stop_timeout": "60s", "handlers_dir": home.join("handlers")}});
        home.write("config.yaml", &config.to_string())?;
        fs::create_dir(home.join("handlers"))?;
        // In its place by a rename: another test may start a process while it is being written.
        let new = home.write("handlers/.new", handler)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        fs::rename(new, home.join("handlers/run"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { home, port, runtime, http: tasker::https::client().timeout(PATIENCE).build()? })
    }

    /// `tasker up` started by another program, which may change what it starts with. No signal is ignored,
    /// whatever is with us.
    fn start(&self, by: &[&str]) -> anyhow::Result<Process> {
        let mut command = Command::new("env");
        command
            .args(["--default-signal", "--unset=TASKER_API_URL"])
            .args(by)
            .arg(env!("CARGO_BIN_EXE_tasker"));
        command.args([
            "up",
            "--workers",
            "0",
            "--endpoints",
            "console1",
            "--listen",
            &format!("127.0.0.1:{}", self.port.number()),
        ]);
        command
            .arg("--config")
            .arg(self.home.join("config.yaml"))
            .arg("--data-dir")
            .arg(self.home.join("data"));
        let mut up = self.home.start("up", &mut command)?;
        up.ready(PATIENCE, || {
            let census = self.get("/endpoints")?;
            ensure!(census.to_string().contains(r#""run""#), "{census}");
            Ok(())
        })?;
        Ok(up)
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (status, text) =
            send(&self.runtime, self.http.get(format!("http://127.0.0.1:{}{path}", self.port.number())))?;
        ensure!(status == 200, "{status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    fn submit(&self, identifier: &str) -> anyhow::Result<()> {
        let body = json!({"identifier": identifier, "payload": 1, "endpoints": ["console1"]});
        let (status, text) = send(
            &self.runtime,
            self.http.post(format!("http://127.0.0.1:{}/run", self.port.number())).json(&body),
        )?;
        ensure!(status == 201, "{status}: {text}");
        Ok(())
    }

    /// The response of a task that is done.
    fn done(&self, identifier: &str) -> anyhow::Result<Value> {
        until("the task is done", PATIENCE, || {
            let body = self.get(&format!("/run/{identifier}"))?;
            ensure!(body["task"]["status"] == "DONE", "{body}");
            Ok(body["taskResponseList"][0].clone())
        })
    }

    fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.home.join(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn begun(&self) -> anyhow::Result<i32> {
        until("the handler has begun", PATIENCE, || {
            Ok(self.lines("begun").last().context("no line")?.parse()?)
        })
    }
}

/// State and parent of a process.
fn stat(pid: &str) -> Option<(String, i32)> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn lives(pid: i32) -> bool {
    stat(&pid.to_string()).is_some_and(|(state, _)| !matches!(state.as_str(), "Z" | "X"))
}

fn tell(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a number")?;
    Ok(kill_process(pid, signal)?)
}

#[test]
fn what_asks_for_the_end_lets_handlers_finish() -> anyhow::Result<()> {
    for signal in [Signal::HUP, Signal::QUIT, Signal::POWER, Signal::XCPU, Signal::INT, Signal::TERM] {
        let site = Site::new(WAITS)?;
        let mut up = site.start(&[])?;
        // What says nothing of an end ends nothing.
        for noise in [
            Signal::USR1,
            Signal::USR2,
            Signal::ALARM,
            Signal::VTALARM,
            Signal::PROF,
            Signal::PIPE,
            Signal::IO,
            Signal::XFSZ,
        ] {
            tell(up.id(), noise)?;
        }
        site.submit("one")?;
        site.begun()?;
        tell(up.id(), signal)?;
        until("it stops", PATIENCE, || {
            up.log().contains("stopping").then_some(()).with_context(|| up.log())
        })?;
        // A terminal that closes, and some supervisors, say so again.
        tell(up.id(), Signal::HUP)?;
        fs::write(site.home.join("go"), "")?;
        let status = until("its end", PATIENCE, || up.ended()?.context("it runs"))?;
        ensure!(status.success(), "{signal:?}: {status}\n{}", up.log());
        assert_eq!((site.lines("begun").len(), site.lines("ended").len()), (1, 1), "{signal:?}");
        drop(up);
        let _up = site.start(&[])?;
        let response = site.done("one")?;
        assert_eq!((&response["errnr"], &response["attempt"]), (&json!(0), &json!(1)), "{response}");
        assert_eq!(site.lines("begun").len(), 1, "{signal:?}: it ran again");
    }
    Ok(())
}

#[test]
fn a_second_demand_ends_handlers_too() -> anyhow::Result<()> {
    let site = Site::new(&format!(
        "#!/bin/sh\ntrap '' TERM HUP INT\n(trap '' TERM; echo $$ >> ../child; exec sleep 1000) &\n{WAITS}"
    ))?;
    let mut up = site.start(&[])?;
    site.submit("one")?;
    let handler = site.begun()?;
    tell(up.id(), Signal::TERM)?;
    until("it stops", PATIENCE, || up.log().contains("stopping").then_some(()).with_context(|| up.log()))?;
    tell(up.id(), Signal::TERM)?;
    let status = until("its end", PATIENCE, || up.ended()?.context("it runs"))?;
    ensure!(status.code() == Some(130), "{status}\n{}", up.log());
    until("the handler's end", PATIENCE, || (!lives(handler)).then_some(()).context("it lives"))?;
    assert!(site.lines("ended").is_empty());
    drop(up);
    // It was ended by us, which says nothing about the task.
    fs::write(site.home.join("go"), "")?;
    let _up = site.start(&[])?;
    let response = site.done("one")?;
    assert_eq!((&response["errnr"], &response["attempt"]), (&json!(0), &json!(2)), "{response}");
    Ok(())
}

/// Starts a program in a terminal that closes when the file `close` is there.
const TERMINAL: &str = r#"
import os, pty, select, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
with open("pid", "w") as file:
    file.write(str(pid) + "\n")
while not os.path.exists("close"):
    if select.select([terminal], [], [], 0.05)[0]:
        os.read(terminal, 4096)
"#;

#[test]
fn a_terminal_that_closes_lets_handlers_finish() -> anyhow::Result<()> {
    let site = Site::new(WAITS)?;
    let terminal = site.start(&["python3", "-c", TERMINAL])?;
    let pid: i32 =
        until("a number", PATIENCE, || Ok(site.lines("pid").first().context("no line")?.parse()?))?;
    site.home.adopt(u32::try_from(pid)?)?;
    site.submit("one")?;
    site.begun()?;
    fs::write(site.home.join("close"), "")?;
    let leaves =
        || !site.get("/endpoints").is_ok_and(|census| census.to_string().contains(r#""subscribed":true"#));
    until("it takes nothing more, or is gone", PATIENCE, || leaves().then_some(()).context("it does"))?;
    ensure!(lives(pid), "it was gone with the terminal");
    fs::write(site.home.join("go"), "")?;
    until("its end", PATIENCE, || (!lives(pid)).then_some(()).context("it lives"))?;
    assert_eq!((site.lines("begun").len(), site.lines("ended").len()), (1, 1));
    drop(terminal);
    let _up = site.start(&[])?;
    assert_eq!(site.done("one")?["attempt"], 1);
    assert_eq!(site.lines("begun").len(), 1, "it ran again");
    Ok(())
}

#[test]
fn nobody_has_to_read_what_a_server_says() -> anyhow::Result<()> {
    let site = Site::new("#!/bin/sh\necho 1\n")?;
    // Nobody reads either of them, and a line of the log follows the greeting with every task.
    let _up = site.start(&["RUST_LOG=debug", "sh", "-c", r#""$@" 2>&1 | exit 0"#, "sh"])?;
    for identifier in ["one", "two"] {
        site.submit(identifier)?;
        assert_eq!(site.done(identifier)?["errnr"], 0);
    }
    Ok(())
}

/// As the first process of a container; or, where that is not allowed, as one that adopts orphans likewise.
const ADOPTS: &str =
    "import ctypes, os, sys\nctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\nos.execvp(sys.argv[1], sys.argv[1:])\n";

#[test]
fn orphans_that_end_are_waited_for() -> anyhow::Result<()> {
    let orphans = r#"#!/bin/sh
(setsid sh -c 'touch "../left-$TASKER_IDENTIFIER"; sleep 0.2; echo out >> ../orphans' </dev/null >/dev/null 2>&1 &)
(sleep 0.1 &)
until [ -e "../left-$TASKER_IDENTIFIER" ]; do sleep 0.02; done
exit 3
"#;
    // Not in a user namespace of its own: there, root of this machine is a stranger, whose directories are
    // not trusted.
    let first: &[&str] = &["unshare", "--pid", "--fork", "--mount-proc"];
    let allowed = Command::new(first[0])
        .args(&first[1..])
        .arg("true")
        .output()
        .is_ok_and(|output| output.status.success());
    for by in [&["python3", "-c", ADOPTS][..]].into_iter().chain(allowed.then_some(first)) {
        let site = Site::new(orphans)?;
        let up = site.start(by)?;
        let tasker = match by[0] {
            "unshare" => children(i32::try_from(up.id())?).first().context("unshare has no child")?.0,
            _ => i32::try_from(up.id())?,
        };
        for identifier in ["one", "two", "three"] {
            site.submit(identifier)?;
            // Its own children's ends are not taken from it.
            assert_eq!(site.done(identifier)?["errnr"], 3);
        }
        until("the orphans' end", PATIENCE, || {
            (site.lines("orphans").len() == 3).then_some(()).context("they run")
        })?;
        until("nobody is left", PATIENCE, || {
            let left = children(tasker);
            ensure!(left.is_empty(), "{by:?}: {left:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The children of a process, with their states.
fn children(of: i32) -> Vec<(i32, String)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let names = processes
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.parse::<i32>().is_ok());
    names
        .filter_map(|name| {
            stat(&name)
                .filter(|(_, parent)| *parent == of)
                .and_then(|(state, _)| Some((name.parse().ok()?, state)))
        })
        .collect()
}

/// All files and directories in a directory that others than their owner have any right to.
fn open_to_others(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut open = Vec::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(path) = ahead.pop() {
        let meta = fs::metadata(&path)?;
        if meta.permissions().mode() & 0o077 != 0 {
            open.push(format!("{} {:o}", path.display(), meta.permissions().mode()));
        }
        if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                ahead.push(entry?.path());
            }
        }
    }
    Ok(open)
}

#[test]
fn data_is_for_its_owner_alone() -> anyhow::Result<()> {
    let site = Site::new("#!/bin/sh\necho 1\n")?;
    let data = site.home.join("data");
    let by = ["sh", "-c", r#"umask 022; exec "$@""#, "sh"];
    let up = site.start(&by)?;
    site.submit("one")?;
    site.done("one")?;
    assert_eq!(open_to_others(&data)?, [""; 0]);
    drop(up);
    // As it was made by an earlier version.
    for (name, mode) in [("", 0o755), ("tasker.db", 0o644)] {
        fs::set_permissions(data.join(name), fs::Permissions::from_mode(mode))?;
    }
    let up = site.start(&by)?;
    assert_eq!(open_to_others(&data)?, [""; 0]);
    let log = up.log();
    ensure!(
        log.contains("the data directory was readable by others")
            && log.contains("the database file was readable by others"),
        "{log}"
    );
    drop(up);
    // A directory that holds more than ours is not closed.
    fs::write(data.join("theirs"), "")?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755))?;
    let up = site.start(&by)?;
    ensure!(up.log().contains("the data directory is readable by others"), "{}", up.log());
    assert_eq!(fs::metadata(&data)?.permissions().mode() & 0o777, 0o755);
    Ok(())
}

/// Whether a handler can look into the process that started it. Its words are what the shell says.
const LOOKS: &str = r#"#!/bin/sh
for name in environ mem maps; do
  cat "/proc/$PPID/$name" >/dev/null 2>&1 && echo "$name can be read" >&2 && exit 9
done
ls "/proc/$PPID/fd" >/dev/null 2>&1 && echo "fd can be read" >&2 && exit 9
[ "$(ulimit -c)" = 0 ] || exit 8
echo 1
"#;

#[test]
fn a_handler_cannot_look_into_the_process_that_started_it() -> anyhow::Result<()> {
    let site = Site::new(LOOKS)?;
    // Root may look into everything, so that root becomes somebody else for this.
    let mut by = Vec::new();
    let program = site.home.join("tasker").display().to_string();
    if rustix::process::geteuid().is_root() {
        fs::copy(env!("CARGO_BIN_EXE_tasker"), &program)?;
        let given = Command::new("chown").args(["-R", "65534:65534"]).arg(site.home.path()).status()?;
        ensure!(given.success(), "chown: {given}");
        by.extend([
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "sh",
            "-c",
            r#"p=$1; shift 2; exec "$p" "$@""#,
            "sh",
            &program,
        ]);
    }
    let up = site.start(&by)?;
    site.submit("one")?;
    let response = site.done("one")?;
    assert_eq!((&response["errnr"], &response["errmsg"]), (&json!(0), &json!("")), "{}", up.log());
    Ok(())
}

#[test]
fn handlers_get_no_file_that_the_process_was_started_with() -> anyhow::Result<()> {
    let site = Site::new("#!/bin/sh\nls -l /proc/$$/fd > ../files\necho $(grep -c /given ../files)\n")?;
    let given = site.home.write("given", "a secret")?;
    let given = given.to_str().context("a path")?;
    // As a shell with an open file starts it; the file is the process's own then, and stays open.
    let mut up = site.start(&["sh", "-c", r#"exec 3<"$0" 9<"$0"; exec "$@""#, given])?;
    let open = fs::read_dir(format!("/proc/{}/fd", up.id()))?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    ensure!(
        open.filter(|path| path.ends_with("given")).count() == 2,
        "the process itself has lost what it was given"
    );
    site.submit("files")?;
    let response = site.done("files")?;
    ensure!(response["payload"] == json!(0), "{response}: {:?}", site.lines("files"));
    up.stop(PATIENCE)?;
    Ok(())
}
