//! Executables as handlers, polite ones and rude ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tasker::config::{Output, TypePolicy};
use tasker::domain::{ReportEvent, errnr};

use crate::api_side::{ApiSide, Running, lines, policy, soon, task_type, until};

/// Installs an executable.
fn install(api: &ApiSide, name: &str, script: &str) {
    let dir = api.handlers_dir();
    fs::create_dir_all(&dir).expect("a directory");
    // Written under another name first, as a good deployment does.
    let (new, path) = (dir.join(format!(".{name}.new")), dir.join(name));
    fs::write(&new, script).expect("writes");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("may be run");
    fs::rename(new, path).expect("is put in place");
}

async fn started(api: &mut ApiSide, time_limit: Duration) -> Running {
    let mut run = policy("run");
    run.time_limit = time_limit;
    let config = api.config(vec![run, policy("echo")]);
    api.started_as(config).await
}

/// What comes of one script with one payload.
async fn outcome(script: &str, payload: &str, time_limit: Duration) -> (i32, String, Option<String>) {
    let mut api = ApiSide::new().await;
    install(&api, "run", script);
    let endpoint = started(&mut api, time_limit).await;
    let id = api.submit("run", payload).await;
    let outcome = api.finished(id).await;
    endpoint.stopped().await;
    outcome
}

const LONG: Duration = Duration::from_secs(60);

/// Whether a process of this id lives; one that is dead and not yet waited for does not.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[tokio::test]
async fn a_task_goes_in_and_an_answer_comes_out() {
    let mut api = ApiSide::new().await;
    install(
        &api,
        "run.sh",
        "#!/bin/sh\nread -r task\nprintf '{\"task\":%s,\"env\":\"%s %s %s %s\"}' \"$task\" \"$TASKER_TYPE\" \"$TASKER_ENDPOINT\" \"$TASKER_ATTEMPT\" \"$TASKER_TASK_ID\"\n",
    );
    let endpoint = started(&mut api, LONG).await;
    let payload = r#"{"b":1.0,"a":"é"}"#;
    let id = api.submit("run", payload).await;
    let (errnr, errmsg, answer) = api.finished(id).await;
    assert_eq!((errnr, errmsg.as_str()), (0, ""));
    let task = format!(
        r#"{{"id":"{id}","identifier":"the customer's {id}","type":"run","endpoint":"console1","attempt":1,"payload":{payload}}}"#
    );
    assert_eq!(answer, Some(format!(r#"{{"task":{task},"env":"run console1 1 {id}"}}"#)));
    endpoint.stopped().await;
}

#[tokio::test]
async fn exit_codes_and_texts_become_outcomes() {
    let table = [
        ("cat >/dev/null", 0, "", None),
        ("echo ' [1] '", 0, "", Some("[1]")),
        ("echo '[1'", 0, "", Some("\"[1\"")),
        (
            r#"printf %s '["\ud800"]'"#,
            errnr::BAD_ANSWER,
            "the answer is refused: lone surrogate in the string at byte 1",
            None,
        ),
        (
            "echo '[1,1e400]'",
            errnr::BAD_ANSWER,
            "the answer is refused: the number at byte 3 is out of range",
            None,
        ),
        (
            r#"printf %s '"\udc00"'; echo full >&2; exit 3"#,
            3,
            "full\nthe answer is refused: lone surrogate",
            None,
        ),
        ("echo one >&2; echo two >&2; exit 32", 32, "one\ntwo", None),
        ("printf 'no newline' >&2; echo '{\"a\":1}'; exit 3", 3, "no newline", Some("{\"a\":1}")),
        ("exit 9", 9, "exit code 9", None),
        ("kill -9 $$", errnr::SIGNAL + 9, "ended by signal 9", None),
        (
            "i=0; while [ $i -lt 50 ]; do echo line $i >&2; i=$((i+1)); done; exit 1",
            1,
            "line 40\nline 41",
            None,
        ),
        ("exit 75", errnr::TRY_AGAIN, "retries exhausted: attempt 3 of 3 ended with 75", None),
    ];
    let mut api = ApiSide::new().await;
    install(&api, "run", "#!/bin/sh\nexit 1\n");
    let endpoint = started(&mut api, LONG).await;
    for (script, errnr, errmsg, answer) in table {
        install(&api, "run", &format!("#!/bin/sh\n{script}\n"));
        let id = api.submit("run", "1").await;
        let (found, text, answered) = api.finished(id).await;
        assert_eq!((found, answered.as_deref().map(str::trim)), (errnr, answer), "{script}: {text}");
        assert!(text.starts_with(errmsg), "{script}: {text}");
    }
    endpoint.stopped().await;
}

/// The system says "no such file" of a script that is there, whatever else is missing.
#[tokio::test]
async fn what_cannot_be_started_says_what_it_lacks() {
    let table = [
        ("#!/bin/sh\r\necho hi\r\n", "its first line ends with a carriage return"),
        (
            "#!/opt/none/python3 -u\n",
            "its first line names `/opt/none/python3`, which is not on this machine",
        ),
        ("echo hi\n", "a script needs a first line such as #!/bin/sh"),
    ];
    let mut api = ApiSide::new().await;
    install(&api, "run", "#!/bin/sh\nexit 1\n");
    let endpoint = started(&mut api, LONG).await;
    for (script, reason) in table {
        install(&api, "run", script);
        let id = api.submit("run", "1").await;
        let (found, text, _) = api.finished(id).await;
        assert!(found == errnr::PANIC && text.contains(reason), "{script:?}: {found} {text}");
    }
    endpoint.stopped().await;
}

/// What the standard output becomes, by what the task type says of it.
#[tokio::test]
async fn an_answer_may_be_text() {
    let bad = |errmsg: &'static str| (errnr::BAD_ANSWER, errmsg, None);
    let good = |answer: &'static str| (0, "", Some(answer));
    let nothing = (0, "", None);
    let table = [
        (Output::Auto, "printf 'up 3 days\\n\\n'", good(r#""up 3 days\n""#)),
        (
            Output::Auto,
            "printf '{\"b\":1.0, \"a\":12345678901234567890123}'",
            good(r#"{"b":1.0, "a":12345678901234567890123}"#),
        ),
        (Output::Auto, "printf '{\"a\":1} and more'", good(r#""{\"a\":1} and more""#)),
        (Output::Auto, "printf ' \\n'", nothing),
        (Output::Json, "printf '[1]\\n'", good("[1]")),
        (Output::Json, "true", nothing),
        (
            Output::Json,
            "echo up",
            bad("the answer is not JSON: expected value at line 1 column 1; with `output: auto`"),
        ),
        (Output::Json, "printf '\"\\377\"'", bad("the answer is not JSON: ")),
        (Output::Text, "echo '[1]'", good(r#""[1]""#)),
        (Output::Text, "printf 'null'", good(r#""null""#)),
        (Output::Text, "true", good(r#""""#)),
        (Output::Text, "printf ' \\r\\n'", good(r#"" \r""#)),
        (Output::Text, "printf 'a\\000\\033[1mb'", good(r#""a\u0000\u001b[1mb""#)),
        (
            Output::Text,
            "head -c 101 /dev/zero | tr '\\0' x",
            bad("the answer has 101 bytes, the limit is 100"),
        ),
        (Output::Text, "echo half; echo full >&2; exit 3", (3, "full", Some(r#""half""#))),
    ];
    for output in [Output::Auto, Output::Json, Output::Text] {
        let mut api = ApiSide::new().await;
        install(&api, "run", "#!/bin/sh\nexit 1\n");
        let mut config = api.config(vec![TypePolicy { output, ..policy("run") }]);
        config.settings.output_limit = 100;
        let endpoint = api.started_as(config).await;
        for (_, script, (errnr, errmsg, answer)) in table.iter().filter(|(of, ..)| *of == output) {
            install(&api, "run", &format!("#!/bin/sh\n{script}\n"));
            let id = api.submit("run", "1").await;
            let (found, text, answered) = api.finished(id).await;
            assert_eq!(
                (found, answered.as_deref().map(str::trim)),
                (*errnr, *answer),
                "{output:?} {script}: {text}"
            );
            assert!(text.starts_with(errmsg), "{output:?} {script}: {text}");
        }
        endpoint.stopped().await;
    }
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_marked() {
    let mut api = ApiSide::new().await;
    install(&api, "run", "#!/bin/sh\necho working >&2\nprintf 'f\\374r \\377\\376\\n'\n");
    let endpoint = started(&mut api, LONG).await;
    api.submit("run", "1").await;
    let report = api.end().await;
    let ReportEvent::Finished { errnr: 0, payload: Some(answer), log: Some(log), .. } = report.event else {
        panic!("{report:?}")
    };
    assert_eq!(answer.get(), "\"f\u{fffd}r \u{fffd}\u{fffd}\"");
    assert_eq!(log, "working\n3 bytes of the answer are not UTF-8, from byte 1 on, and kept as U+FFFD\n");
    endpoint.stopped().await;
}

#[tokio::test]
async fn another_try_sees_its_number_and_progress_and_log_arrive() {
    let mut api = ApiSide::new().await;
    let script = "#!/bin/sh\necho 'progress: 40' >&2\necho working >&2\n[ \"$TASKER_ATTEMPT\" = 3 ] || exit 75\necho '\"done\"'\n";
    install(&api, "run", script);
    let endpoint = started(&mut api, LONG).await;
    api.submit("run", "1").await;
    let mut percents = Vec::new();
    let report = loop {
        let report = api.report().await;
        match report.event {
            ReportEvent::Progress { percent } => percents.push(percent),
            ReportEvent::Finished { .. } => break report,
            _ => {}
        }
    };
    let ReportEvent::Finished { errnr: 0, attempt: 3, attempts, log, .. } = report.event else {
        panic!("{report:?}")
    };
    assert_eq!(
        (attempts.len(), attempts[0].errmsg.as_str(), log.as_deref()),
        (2, "working", Some("working\n"))
    );
    assert!(percents.iter().all(|percent| *percent == 40), "{percents:?}");
    endpoint.stopped().await;
}

#[tokio::test]
async fn an_executable_can_be_deployed_while_the_endpoint_runs() {
    let mut api = ApiSide::new().await;
    let mut config = api.config(vec![policy("run"), policy("echo")]);
    config.settings.presence_interval = Duration::from_millis(100);
    let builtin = tasker::handlers::builtin(&config.settings);
    let mut endpoint = api.start(config, builtin).await;
    // What it cannot do it does not ask for, and says so.
    let joined = api.welcome().await;
    assert_eq!(joined.task_types, [task_type("echo")]);
    let refused = &joined.refused[0];
    assert!(
        joined.refused.len() == 1 && refused.task_type == task_type("run") && !refused.held,
        "{joined:?}"
    );
    let (reason, dir) = (&refused.reason, api.handlers_dir());
    assert!(
        reason.contains("there is no handler `run`") && reason.contains(&dir.display().to_string()),
        "{reason}"
    );
    assert_eq!(joined.trouble, None, "the other type is well");
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    api.submit("run", "0").await;

    // As soon as it can, it does. What came before was not touched.
    install(&api, "run.sh", "#!/bin/sh\necho 1\n");
    let joined = api.welcome().await;
    assert_eq!((joined.task_types, joined.refused.len()), (vec![task_type("run")], 0));
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let id = api.submit("run", "1").await;
    assert_eq!(api.finished(id).await.2.as_deref().map(str::trim), Some("1"));

    // One that is removed leaves the tasks that come meanwhile without a handler.
    fs::remove_file(api.handlers_dir().join("run.sh")).expect("removes");
    let id = api.submit("run", "1").await;
    let (errnr, errmsg, _) = api.finished(id).await;
    assert!(errnr == errnr::NO_HANDLER && errmsg.contains("there is no handler `run`"), "{errnr} {errmsg}");
    trouble(&mut api, "there is no handler `run`").await;

    install(&api, "run.sh", "#!/bin/sh\necho 1\n");
    let id = api.submit("run", "1").await;
    assert_eq!(api.finished(id).await.2.as_deref().map(str::trim), Some("1"));
    // It wins over what is compiled in.
    install(&api, "echo", "#!/bin/sh\necho '\"mine\"'\n");
    let id = api.submit("echo", "1").await;
    assert_eq!(api.finished(id).await.2.as_deref().map(str::trim), Some("\"mine\""));

    install(&api, "run", "#!/bin/nowhere\n");
    let id = api.submit("run", "1").await;
    let (errnr, errmsg, _) = api.finished(id).await;
    assert!(errnr == errnr::PANIC && errmsg.contains("cannot be started"), "{errnr} {errmsg}");
    endpoint.stopped().await;
}

#[tokio::test]
async fn copies_beside_a_handler_neither_run_nor_count() {
    let mut api = ApiSide::new().await;
    install(&api, "run.sh", "#!/bin/sh\necho '\"mine\"'\n");
    let endpoint = started(&mut api, LONG).await;
    let copies = [
        "run.new", "run.tmp", "run.bak", "run.old", "run.orig", "run.off", "run.disabled", "run.save",
        "run.rpmsave", "run.rpmnew", "run.dpkg-old", "run.dpkg-dist", "run.swp", "run.sh~", "run~",
        "run.20261128", "run.1", "run.part", "run.rej", "run.example", "run.sh.bak", "run-old", "run.sample",
        "run.md",
    ];
    for name in copies.into_iter().chain(["echo.orig"]) {
        install(&api, name, "#!/bin/sh\necho '\"a copy\"'\n");
    }
    let id = api.submit("run", "1").await;
    assert_eq!(api.finished(id).await, (0, String::new(), Some("\"mine\"".to_owned())));
    let id = api.submit("echo", "1").await;
    assert_eq!(
        api.finished(id).await.2.as_deref(),
        Some("1"),
        "what is compiled in is not replaced by a copy"
    );
    fs::rename(api.handlers_dir().join("run.sh"), api.handlers_dir().join("run.disabled")).expect("renames");
    let id = api.submit("run", "1").await;
    let (errnr, errmsg, _) = api.finished(id).await;
    assert!(
        errnr == errnr::NO_HANDLER && errmsg.contains("`run-old` has none of the extensions of handlers"),
        "{errnr} {errmsg}"
    );
    endpoint.stopped().await;
}

/// The first trouble that has this text.
async fn trouble(api: &mut ApiSide, text: &str) {
    let told = async { while !api.presence().await.trouble.is_some_and(|trouble| trouble.contains(text)) {} };
    crate::api_side::soon("the trouble", told).await;
}

#[tokio::test]
async fn what_passes_by_itself_is_waited_for() {
    let mut api = ApiSide::new().await;
    let mut config = api.config(vec![policy("run")]);
    config.settings.presence_interval = Duration::from_millis(100);
    install(&api, "run.sh", "#!/bin/sh\necho 1\n");
    install(&api, "run.py", "#!/bin/sh\necho 2\n");
    let endpoint = api.started_as(config).await;
    // Two that may be meant.
    let id = api.submit("run", "1").await;
    trouble(&mut api, "`run` may be any of run.sh, run.py in ").await;
    fs::remove_file(api.handlers_dir().join("run.py")).expect("removes");
    assert_eq!(api.finished(id).await.2.as_deref().map(str::trim), Some("1"));

    // One that is being written, for longer than a moment.
    let writer = fs::File::options().append(true).open(api.handlers_dir().join("run.sh")).expect("opens");
    let id = api.submit("run", "1").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    drop(writer);
    assert_eq!(api.finished(id).await.2.as_deref().map(str::trim), Some("1"));

    // It ends with a cancel, like everything.
    let _writer = fs::File::options().append(true).open(api.handlers_dir().join("run.sh")).expect("opens");
    let id = api.submit("run", "1").await;
    crate::api_side::soon("its receipt", async {
        while !matches!(api.report().await.event, ReportEvent::Received | ReportEvent::Begun) {}
    })
    .await;
    api.cancel("run", id).await;
    let report = api.end().await;
    assert!(report.task_id == id && matches!(report.event, ReportEvent::Canceled), "{report:?}");
    endpoint.stopped().await;
}

#[tokio::test]
async fn what_does_not_pass_in_time_asks_for_another_try() {
    let mut api = ApiSide::new().await;
    install(&api, "run.sh", "#!/bin/sh\necho 1\n");
    install(&api, "run.pl", "#!/bin/sh\necho 2\n");
    let mut run = policy("run");
    (run.time_limit, run.attempts) = (Duration::from_secs(1), 2);
    let endpoint = api.started_as(api.config(vec![run])).await;
    let id = api.submit("run", "1").await;
    let report = api.end().await;
    let ReportEvent::Finished { errnr: errnr::TRY_AGAIN, attempt: 2, ref errmsg, .. } = report.event else {
        panic!("{report:?}")
    };
    assert!(report.task_id == id && errmsg.contains("`run` may be any of run.sh, run.pl"), "{errmsg}");
    endpoint.stopped().await;
}

#[tokio::test]
async fn what_others_could_have_written_does_not_run() {
    let mut api = ApiSide::new().await;
    let mut config = api.config(vec![policy("run")]);
    config.settings.presence_interval = Duration::from_millis(100);
    install(&api, "run", "#!/bin/sh\necho 1\n");
    let endpoint = api.started_as(config).await;
    let elsewhere = api.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    fs::rename(api.handlers_dir().join("run"), elsewhere.join("run")).expect("renames");
    std::os::unix::fs::symlink("../elsewhere/run", api.handlers_dir().join("run")).expect("a link");
    let table = [
        (elsewhere.join("run"), 0o757, "may be written to by anyone"),
        (elsewhere.join("run"), 0o775, "may be written to by its group"),
        (elsewhere.clone(), 0o777, "may be written to by anyone"),
        (api.handlers_dir(), 0o777, "may be written to by anyone"),
        (api.handlers_dir(), 0o770, "may be written to by its group"),
        (api.dir.path().to_owned(), 0o722, "may be written to by anyone"),
    ];
    for (path, mode, reason) in table {
        let before = fs::metadata(&path).expect("it is there").permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changes");
        let reason = format!("{} {reason}", path.display());
        let id = api.submit("run", "1").await;
        let (errnr, errmsg, _) = api.finished(id).await;
        assert!(errnr == errnr::NO_HANDLER && errmsg.contains(&reason), "{errnr} {errmsg}");
        trouble(&mut api, &reason).await;
        fs::set_permissions(&path, before).expect("changes");
    }
    // To give a file away takes root.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(elsewhere.join("run"), Some(65534), None).expect("changes");
        let id = api.submit("run", "1").await;
        let (errnr, errmsg, _) = api.finished(id).await;
        assert!(
            errnr == errnr::NO_HANDLER && errmsg.contains("belongs to user 65534 instead of root"),
            "{errnr} {errmsg}"
        );
        std::os::unix::fs::chown(elsewhere.join("run"), Some(0), None).expect("changes");
    }
    let id = api.submit("run", "1").await;
    assert_eq!(api.finished(id).await.2.as_deref().map(str::trim), Some("1"));
    endpoint.stopped().await;
}

#[tokio::test]
async fn handlers_run_as_the_configured_user() {
    let mut api = ApiSide::new().await;
    let data = api.dir.path().join("data");
    let script = format!(
        "#!/bin/sh\ncat {}/*/home >/dev/null 2>&1 && exit 9\necho \"\\\"$(id -u) $(id -g) $(id -G) $HOME\\\"\"\n",
        data.display()
    );
    install(&api, "run", &script);
    // Everybody may look at handlers.
    fs::set_permissions(api.dir.path(), fs::Permissions::from_mode(0o755)).expect("changes");
    let mut config = api.config(vec![policy("run")]);
    config.settings.run_as = Some("4242:4243".into());
    if !rustix::process::geteuid().is_root() {
        let refused =
            tasker::endpoint::Agent::open(config, api.link.clone(), tasker::endpoint::Registry::new())
                .expect_err("only root can");
        assert!(
            refused.to_string().contains("endpoint.run_as cannot be followed: tasker runs as user"),
            "{refused}"
        );
        return;
    }
    let endpoint = api.started_as(config).await;
    let id = api.submit("run", "1").await;
    let (errnr, errmsg, answer) = api.finished(id).await;
    assert_eq!((errnr, answer.as_deref().map(str::trim)), (0, Some("\"4242 4243 4243 /\"")), "{errmsg}");
    // It can be ended, too.
    let pid = api.dir.path().join("handlers/../pid");
    fs::write(&pid, "").expect("written");
    fs::set_permissions(&pid, fs::Permissions::from_mode(0o666)).expect("changes");
    install(&api, "run", "#!/bin/sh\necho $$ >> ../pid\nsleep 1000\n");
    let id = api.submit("run", "1").await;
    until("the start", || lines(&pid).len() == 1).await;
    api.cancel("run", id).await;
    let report = api.end().await;
    assert!(report.task_id == id && matches!(report.event, ReportEvent::Canceled), "{report:?}");
    let pid = lines(&pid).pop().expect("a number");
    until("its end", || !lives(&pid)).await;
    endpoint.stopped().await;
    let mut config = api.config(vec![policy("run")]);
    config.settings.run_as = Some("no-such-user".into());
    let refused = tasker::endpoint::Agent::open(config, api.link.clone(), tasker::endpoint::Registry::new())
        .expect_err("nobody");
    assert!(refused.to_string().contains("/etc/passwd has no user `no-such-user`"), "{refused}");
}

#[tokio::test]
async fn a_type_s_own_user_overrides_the_endpoint_s() {
    let mut api = ApiSide::new().await;
    fs::set_permissions(api.dir.path(), fs::Permissions::from_mode(0o755)).expect("changes");
    for name in ["usual", "own", "root"] {
        install(&api, name, "#!/bin/sh\necho \"\\\"$(id -u) $(id -g) $(id -G) $HOME\\\"\"\n");
    }
    let run_as =
        |name: &str, account: Option<&str>| TypePolicy { run_as: account.map(str::to_owned), ..policy(name) };
    let mut config = api.config(vec![
        run_as("usual", None),
        run_as("own", Some("4244:4245")),
        run_as("root", Some("root")),
    ]);
    config.settings.run_as = Some("4242:4243".into());
    if !rustix::process::geteuid().is_root() {
        let open = |config| {
            tasker::endpoint::Agent::open(config, api.link.clone(), tasker::endpoint::Registry::new())
        };
        config.settings.run_as = None;
        let refused = open(config).expect_err("only root can").to_string();
        assert!(
            refused.contains("run_as of the task type `own` cannot be followed: tasker runs as user"),
            "{refused}"
        );
        return;
    }
    let endpoint = api.started_as(config).await;
    for (name, expected) in
        [("usual", "\"4242 4243 4243 /\""), ("own", "\"4244 4245 4245 /\""), ("root", "\"0 0 0 /root\"")]
    {
        let id = api.submit(name, "1").await;
        let (errnr, errmsg, answer) = api.finished(id).await;
        assert_eq!((errnr, answer.as_deref().map(str::trim)), (0, Some(expected)), "{name}: {errmsg}");
    }
    endpoint.stopped().await;
    let config = api.config(vec![run_as("own", Some("no-such-user"))]);
    let refused = tasker::endpoint::Agent::open(config, api.link.clone(), tasker::endpoint::Registry::new())
        .expect_err("nobody");
    let wanted = "run_as of the task type `own` cannot be followed: /etc/passwd has no user `no-such-user`";
    assert!(refused.to_string().contains(wanted), "{refused}");
}

#[tokio::test]
async fn the_environment_is_not_handed_down() {
    let (errnr, _, answer) =
        outcome("#!/bin/sh\nenv | sed 's/=.*//' | sort | tr '\\n' ' ' | sed 's/.*/\"&\"/'\n", "1", LONG)
            .await;
    let answer = answer.expect("an answer");
    let names: Vec<_> = answer
        .trim_matches('"')
        .split_whitespace()
        .filter(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name))
        .collect();
    let expected = [
        "HOME", "LANG", "PATH", "TASKER_ATTEMPT", "TASKER_ENDPOINT", "TASKER_IDENTIFIER", "TASKER_TASK_ID",
        "TASKER_TIME_LEFT_SECS", "TASKER_TYPE",
    ];
    assert_eq!((errnr, names), (0, expected.to_vec()));
    // The first handler is written with the table of the README.
    let readme = include_str!("../../README.md");
    let rows = readme.lines().skip_while(|line| *line != "| variable | value |").skip(2);
    let mut told: Vec<_> = rows
        .map_while(|row| row.strip_prefix("| `")?.split(" | ").next())
        .flat_map(|names| names.split(", ").map(|name| name.trim_matches('`')))
        .collect();
    told.sort_unstable();
    // Only a handler with `run_as` has these.
    told.retain(|name| !["LOGNAME", "USER"].contains(name));
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipes_holds_up_nobody() {
    let mut api = ApiSide::new().await;
    let pid = api.dir.path().join("pid");
    install(
        &api,
        "run",
        &format!(
            "#!/bin/sh\n(trap '' TERM; while :; do sleep 1; done) & echo $! > {}\necho 1\n",
            pid.display()
        ),
    );
    let endpoint = started(&mut api, LONG).await;
    let before = Instant::now();
    let id = api.submit("run", "1").await;
    assert_eq!(api.finished(id).await, (0, String::new(), Some("1".to_owned())));
    assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
    let grandchild = lines(&pid).pop().expect("a number");
    until("the grandchild's end", || !lives(&grandchild)).await;
    endpoint.stopped().await;
}

#[tokio::test]
async fn one_that_leaves_its_group_holds_up_nobody_either() {
    let before = Instant::now();
    let (errnr, _, answer) = outcome("#!/bin/sh\nsetsid sleep 30 &\necho 1\n", "1", LONG).await;
    assert_eq!((errnr, answer.as_deref().map(str::trim)), (0, Some("1")));
    assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
}

/// The shell does not wait until `setsid ... &` has left the group.
#[tokio::test]
async fn one_that_leaves_its_group_a_moment_later_goes_on() {
    let mut api = ApiSide::new().await;
    let said = api.dir.path().join("said");
    let script = format!(
        "#!/bin/sh\n(sleep 0.1; exec setsid sh -c 'sleep 1; echo on > {}') </dev/null >/dev/null 2>&1 &\nexit 0\n",
        said.display()
    );
    install(&api, "run", &script);
    let endpoint = started(&mut api, LONG).await;
    let id = api.submit("run", "1").await;
    assert_eq!(api.finished(id).await.0, 0);
    until("what it says", || said.exists()).await;
    endpoint.stopped().await;
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_killed_with_all_its_children() {
    let mut api = ApiSide::new().await;
    let pids = api.dir.path().join("pids");
    let script = format!(
        "#!/bin/sh\ntrap '' TERM\n(while :; do sleep 1; done) &\necho $! $$ > {}\nwhile :; do sleep 1; done\n",
        pids.display()
    );
    install(&api, "run", &script);
    let endpoint = started(&mut api, Duration::from_millis(500)).await;
    let id = api.submit("run", "1").await;
    let (errnr, errmsg, _) = api.finished(id).await;
    assert_eq!((errnr, errmsg.as_str()), (errnr::TIME_LIMIT, "the time limit of 500ms passed"));
    let all = lines(&pids).join(" ");
    until("their end", || {
        all.split_whitespace().count() == 2 && all.split_whitespace().all(|pid| !lives(pid))
    })
    .await;
    endpoint.stopped().await;
}

#[tokio::test]
async fn a_cancel_reaches_an_executable() {
    let mut api = ApiSide::new().await;
    let said = api.dir.path().join("said");
    install(
        &api,
        "run",
        &format!(
            "#!/bin/sh\ntrap 'echo told >> {0}; exit 0' TERM\necho up >> {0}\nwhile :; do sleep 0.05; done\n",
            said.display()
        ),
    );
    let endpoint = started(&mut api, LONG).await;
    let id = api.submit("run", "1").await;
    until("the start", || lines(&said) == ["up"]).await;
    api.cancel("run", id).await;
    let report = api.end().await;
    assert!(report.task_id == id && matches!(report.event, ReportEvent::Canceled), "{report:?}");
    assert_eq!(lines(&said), ["up", "told"]);
    endpoint.stopped().await;
}

#[tokio::test]
async fn floods_are_cut_off() {
    let (errnr, errmsg, answer) = outcome("#!/bin/sh\nhead -c 50000000 /dev/zero\n", "1", LONG).await;
    assert_eq!(
        (errnr, errmsg.as_str(), answer),
        (errnr::BAD_ANSWER, "the answer has 50000000 bytes, the limit is 262144", None)
    );
    let (errnr, errmsg, _) = outcome(
        "#!/bin/sh\nhead -c 20000000 /dev/zero | tr '\\0' x >&2\necho >&2; echo last >&2; exit 1\n",
        "1",
        LONG,
    )
    .await;
    assert!(errnr == 1 && errmsg.len() <= 4096, "{errnr} {}", errmsg.len());
}

#[tokio::test]
async fn a_large_task_is_no_trouble_for_one_that_does_not_read_it() {
    let payload = format!("\"{}\"", "x".repeat(4 << 20));
    let (errnr, _, answer) = outcome("#!/bin/sh\necho 1\n", &payload, LONG).await;
    assert_eq!((errnr, answer.as_deref().map(str::trim)), (0, Some("1")));
    // Nor for one that writes while it reads.
    let (errnr, _, _) = outcome("#!/bin/sh\ncat >&2\n", &payload, LONG).await;
    assert_eq!(errnr, 0);
}

#[tokio::test]
async fn what_a_killed_endpoint_left_running_is_ended_by_the_next() {
    // With the same types, and with others in another directory.
    for types in ["echo+run", "backup+run"] {
        let mut api = ApiSide::new().await;
        let pid = api.dir.path().join("pid");
        install(&api, "run", &format!("#!/bin/sh\necho $$ >> {}\nsleep 1000\n", pid.display()));
        // What a killed process leaves behind: the group itself, and the note about it.
        let task = tasker::domain::TaskId::new();
        let mut orphan = tokio::process::Command::new(api.handlers_dir().join("run"));
        let mut orphan =
            orphan.env("TASKER_TASK_ID", task.to_string()).process_group(0).spawn().expect("starts");
        let mut other = tokio::process::Command::new("sleep")
            .arg("1000")
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        let dir = api.dir.path().join("data/console1").join(types);
        let notes = dir.join("running");
        fs::create_dir_all(&notes).expect("a directory");
        fs::write(dir.join("lock"), "").expect("written");
        for child in [&orphan, &other] {
            fs::write(notes.join(child.id().expect("it lives").to_string()), task.to_string())
                .expect("writes");
        }
        until("the start", || lines(&pid).len() == 1).await;
        let endpoint = started(&mut api, LONG).await;
        crate::api_side::soon("its end", orphan.wait()).await.expect("ended");
        assert!(other.try_wait().expect("waits").is_none(), "the number may have gone to somebody else");
        assert_eq!(fs::read_dir(&notes).map_or(0, Iterator::count), 0);
        assert!(dir.exists() == (types == "echo+run"), "an empty directory of other types goes");
        endpoint.stopped().await;
    }
}

#[tokio::test]
async fn an_executable_can_say_that_it_restarts_its_endpoint() {
    let script = |lines: &str| format!("#!/bin/sh\n{lines}\n");
    // Ended by a signal, as a service manager ends all of a service.
    let (number, text, answer) =
        outcome(&script(r#"echo 'restarting: {"version":2}' >&2; kill -TERM $$"#), "1", LONG).await;
    assert_eq!((number, answer.as_deref()), (0, Some(r#"{"version":2}"#)), "{text}");
    for line in ["restarting:", "restarting: soon"] {
        let (number, text, answer) =
            outcome(&script(&format!("echo '{line}' >&2; kill -KILL $$")), "1", LONG).await;
        assert_eq!((number, answer), (0, None), "{text}");
    }
    // It did not come to that.
    let (number, text, _) =
        outcome(&script("echo restarting: >&2; echo no permission >&2; exit 4"), "1", LONG).await;
    assert_eq!((number, text.as_str()), (4, "no permission"));
    let (number, _, answer) = outcome(&script("echo 'restarting: 1' >&2; echo 2"), "1", LONG).await;
    assert_eq!((number, answer.as_deref()), (0, Some("2")));
}

#[tokio::test]
async fn the_examples_do_what_they_say() {
    let mut api = ApiSide::new().await;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("handlers/examples");
    for name in ["disk_usage.sh", "inventory.py"] {
        let script = fs::read_to_string(examples.join(name)).expect("an example");
        install(&api, name, &script);
    }
    let endpoint = api.started_as(api.config(vec![policy("disk_usage"), policy("inventory")])).await;
    let value = |answer: Option<String>| -> serde_json::Value {
        serde_json::from_str(&answer.expect("an answer")).expect("JSON")
    };

    let id = api.submit("disk_usage", r#"{"path":"/"}"#).await;
    let (errnr, errmsg, answer) = api.finished(id).await;
    assert_eq!(errnr, 0, "{errmsg}");
    let root = &value(answer)["filesystems"][0];
    assert!(
        root["mount"].is_string() && root["used_percent"].as_u64().is_some_and(|percent| percent <= 100),
        "{root}"
    );
    let id = api.submit("disk_usage", r#"{"path":"/","warn_percent":0}"#).await;
    let (errnr, errmsg, answer) = api.finished(id).await;
    assert!(errnr == 1 && errmsg.contains("% full") && answer.is_some(), "{errnr} {errmsg}");
    let id = api.submit("disk_usage", r#"{"path":"/no/such/place"}"#).await;
    let (errnr, errmsg, _) = api.finished(id).await;
    assert_eq!((errnr, errmsg.as_str()), (2, "there is no /no/such/place on console1"));

    let id = api.submit("inventory", r#""""#).await;
    let (errnr, errmsg, answer) = api.finished(id).await;
    assert_eq!(errnr, 0, "{errmsg}");
    let answer = value(answer);
    assert!(
        answer["memory"]["total_kb"].as_u64().is_some_and(|kb| kb > 0)
            && answer["processors"]["count"].is_u64(),
        "{answer}"
    );
    let id = api.submit("inventory", r#"{"sections":["nonsense"]}"#).await;
    let (errnr, errmsg, _) = api.finished(id).await;
    assert_eq!((errnr, errmsg.as_str()), (64, "no such section: nonsense"));
    endpoint.stopped().await;
}

#[tokio::test]
async fn a_relative_directory_is_one_below_ours() {
    let mut api = ApiSide::new().await;
    let mut config = api.config(vec![policy("inventory")]);
    // cargo runs tests at the root of the package.
    config.settings.handlers_dir = Some("handlers/examples".into());
    let endpoint = api.started_as(config).await;
    let id = api.submit("inventory", r#""""#).await;
    let (errnr, errmsg, _) = api.finished(id).await;
    assert_eq!(errnr, 0, "{errmsg}");
    endpoint.stopped().await;
}

#[tokio::test]
async fn lines_are_told_while_it_runs() {
    let mut api = ApiSide::new().await;
    let wait = |file: &str| format!("while [ ! -e {file} ]; do sleep 0.05; done\n");
    let script = format!(
        "#!/bin/sh\necho one >&2\necho 'progress: 40' >&2\n{}echo two >&2\necho three >&2\n{}",
        wait("go"),
        wait("end")
    );
    install(&api, "run", &script);
    let endpoint = started(&mut api, LONG).await;
    let id = api.submit("run", "1").await;
    let piece = async |api: &mut ApiSide| loop {
        let report = api.report().await;
        match report.event {
            ReportEvent::Log(piece) if report.task_id == id => return piece,
            ReportEvent::Received | ReportEvent::Begun | ReportEvent::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    let first = piece(&mut api).await;
    assert_eq!((first.attempt, first.first, first.text.as_str()), (1, 0, "one\n"));
    fs::write(api.handlers_dir().join("go"), "").expect("writes");
    let (mut next, mut text) = (1, String::new());
    while text != "two\nthree\n" {
        let piece = piece(&mut api).await;
        assert_eq!((piece.attempt, piece.first), (1, next));
        next += piece.text.lines().count() as u64;
        text += &piece.text;
    }
    fs::write(api.handlers_dir().join("end"), "").expect("writes");
    assert_eq!(api.finished(id).await.0, 0);
    // One that has nothing to say, or is through before it is its turn, sends nothing of the kind.
    install(&api, "run", "#!/bin/sh\necho quick >&2\n");
    let id = api.submit("run", "1").await;
    let report = api.end().await;
    assert!(
        matches!(&report.event, ReportEvent::Finished { log: Some(log), .. } if log == "quick\n"),
        "{report:?}"
    );
    assert_eq!(report.task_id, id);
    endpoint.stopped().await;
    assert!(api.unexpected().iter().all(|report| !matches!(report.event, ReportEvent::Log(_))));
}
