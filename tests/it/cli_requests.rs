//! `tasker request` as it is typed, on a `tasker up` whose jobs are executables of a directory.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection};
use tasker_services::until;

use crate::support::place::{Place, Said, Up};

/// How long a test waits for what must come. Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Finds something out, and says what it was told.
const GET: &str = r#"#!/bin/sh
cat > told-get
echo '{"extras": {"email": "ada@example.net"}}'
"#;

/// Holds until it may go, fails while there is a file `broken`.
const DEL: &str = r#"#!/bin/sh
cat > "told-$TASKER_TYPE"
[ ! -e broken ] || { echo 'no such account' >&2; exit 3; }
while [ -e hold ]; do sleep 0.05; done
"#;

/// A directory with jobs, and the platform that performs them.
struct Site {
    place: Place,
    up: Up,
}

impl Site {
    fn new() -> anyhow::Result<Self> {
        let place = Place::new()?;
        for (name, text) in [("get", GET), ("del1", DEL), ("del2", DEL)] {
            place.write(&format!("jobs/{name}"), text)?;
            std::fs::set_permissions(
                place.path().join("jobs").join(name),
                std::fs::Permissions::from_mode(0o755),
            )?;
        }
        let up =
            place.up("--listen 127.0.0.1:0 --endpoints console1 --handlers-dir jobs --delivery queue")?;
        let site = Self { place, up };
        until("the jobs can be performed", PATIENCE, || {
            let said = site.typed("endpoints --json")?;
            ensure!(
                ["get", "del1", "del2"]
                    .iter()
                    .all(|job| said.out.contains(&format!(r#"{{"type":"{job}","subscribed":true"#))),
                "{said:?}"
            );
            Ok(())
        })?;
        Ok(site)
    }

    /// What a command says. A `+` stands for a blank inside of a word.
    fn typed(&self, line: &str) -> anyhow::Result<Said> {
        let words = line.split(' ').map(|word| word.replace('+', " ")).collect::<Vec<_>>();
        self.place.said(&words, &["--api", &self.up.api])
    }

    fn json(&self, line: &str) -> anyhow::Result<Value> {
        let said = self.typed(&format!("{line} --json"))?;
        serde_json::from_str(&said.out).with_context(|| format!("{line}: {said:?}"))
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.place.path().join("jobs").join(name)
    }

    /// What a job was told.
    fn told(&self, job: &str) -> anyhow::Result<Value> {
        let task: Value = serde_json::from_str(&std::fs::read_to_string(self.file(&format!("told-{job}")))?)?;
        Ok(task["payload"].clone())
    }

    fn until_status(&self, token: &str, status: &str) -> anyhow::Result<Value> {
        until(&format!("the request is {status}"), PATIENCE, || {
            let request = self.json(&format!("request show {token}"))?;
            ensure!(request["status"] == status, "{request}");
            Ok(request)
        })
    }
}

#[test]
fn a_request_is_typed_and_followed_to_its_end() -> anyhow::Result<()> {
    let site = Site::new()?;
    let done =
        site.typed("request submit --step get --step del1+del2 --param id=333 --param name=Ada --wait 60s")?;
    ensure!(done.code == Some(0) && done.err.starts_with("submitted ad-hoc (request "), "{done:?}");
    let drawn: Vec<&str> = done.out.lines().collect();
    ensure!(
        drawn[0].starts_with("Completed ad-hoc (request ") && drawn[1] == "✓ step1" && drawn[3] == "▼",
        "{done:?}"
    );
    ensure!(
        drawn[2].starts_with("│ ✓ get   completed in ") && drawn[6].starts_with("  ✓ del2  completed in "),
        "{done:?}"
    );
    ensure!(drawn[7].starts_with("3 of 3 jobs completed, in "), "{done:?}");
    // What the first job has found out reaches the others.
    let told = site.told("del2")?;
    ensure!(
        told["extras"] == json!({"email": "ada@example.net"})
            && told["params"] == json!({"id": 333, "name": "Ada"}),
        "{told}"
    );
    for (member, value) in
        [("action", json!("ad-hoc")), ("step", json!("step2")), ("job", json!("del2")), ("try", json!(1))]
    {
        ensure!(told[member] == value, "{member}: {told}");
    }
    let listed = site.typed("request list")?;
    ensure!(
        listed.out.lines().nth(1).is_some_and(|line| line.starts_with("Completed  ad-hoc  ")),
        "{listed:?}"
    );
    ensure!(site.json("request list --status Failed,Canceled")?["requests"] == json!([]));
    Ok(())
}

#[test]
fn failed_jobs_are_run_again_and_a_request_can_be_canceled() -> anyhow::Result<()> {
    let site = Site::new()?;
    std::fs::write(site.file("broken"), "")?;
    let submit =
        "request submit clean --step get --step delete:del1 --step tell(any_failed):get --request-token one";
    let failed = site.typed(&format!("{submit} --wait 60s"))?;
    ensure!(failed.code == Some(2) && failed.out.starts_with("Failed clean (request "), "{failed:?}");
    ensure!(
        failed.out.contains("✗ delete\n") && failed.out.contains("✗ del1  failed  no such account\n"),
        "{failed:?}"
    );
    ensure!(failed.out.contains("✓ tell (any_failed)\n"), "{failed:?}");
    // The same again is the same request.
    let again = site.typed(submit)?;
    ensure!(
        again.code == Some(0) && again.out.starts_with("was there already: clean (request "),
        "{again:?}"
    );
    let token = site.json(submit)?["token"].as_str().context("a token")?.to_owned();
    let other = site.typed(&format!("{submit} --param id=1"))?;
    ensure!(other.code == Some(1) && other.err.contains(&token), "{other:?}");

    std::fs::remove_file(site.file("broken"))?;
    std::fs::write(site.file("hold"), "")?;
    let begun = site.typed(&format!("request retry {token}"))?;
    ensure!(begun.code == Some(0) && begun.out.starts_with("Inprogress clean "), "{begun:?}");
    let timed_out = site.typed(&format!("request show {token} --wait 1s"))?;
    ensure!(
        timed_out.code == Some(124)
            && timed_out.err.contains(&format!("cancel it:  tasker request cancel {token}")),
        "{timed_out:?}"
    );
    std::fs::remove_file(site.file("hold"))?;
    let done = site.typed(&format!("request show {token} --wait 60s --all"))?;
    ensure!(
        done.code == Some(0)
            && done.out.contains("try 1  failed ")
            && done.out.contains("✓ del1  completed at try 2"),
        "{done:?}"
    );

    std::fs::write(site.file("hold"), "")?;
    let running =
        site.json("request submit --step del1 --step del2")?["token"].as_str().context("a token")?.to_owned();
    site.until_status(&running, "Inprogress")?;
    let canceled = site.typed(&format!("request cancel {running}"))?;
    ensure!(canceled.code == Some(0) && canceled.out.starts_with("Canceled ad-hoc "), "{canceled:?}");
    let shown = site.typed(&format!("request show {running}"))?;
    ensure!(shown.code == Some(5) && shown.out.contains("not run"), "{shown:?}");
    let ended = site.typed(&format!("request cancel {token} nothing"))?;
    ensure!(ended.code == Some(1) && ended.err.contains("is Completed and cannot be canceled"), "{ended:?}");
    ensure!(ended.err.contains(r#"request "nothing" not found"#), "{ended:?}");
    for line in [format!("request retry {token}"), format!("request retry {token} --wait 60s")] {
        let refused = site.typed(&line)?;
        ensure!(
            refused.code == Some(1)
                && refused.out.is_empty()
                && refused.err.contains("only the jobs of a Failed one"),
            "{line}: {refused:?}"
        );
    }
    Ok(())
}

#[test]
fn a_retry_can_be_waited_for() -> anyhow::Result<()> {
    let site = Site::new()?;
    std::fs::write(site.file("broken"), "")?;
    let failed = |name: &str| -> anyhow::Result<String> {
        let submitted =
            site.typed(&format!("request submit --step del1 --request-token {name} --wait 60s"))?;
        ensure!(submitted.code == Some(2), "{submitted:?}");
        let listed = site.json(&format!("request list --request-token {name}"))?;
        Ok(listed["requests"][0]["token"].as_str().context("a token")?.to_owned())
    };
    let (one, two) = (failed("one")?, failed("two")?);
    // It fails again, as a submission that is waited for does.
    let again = site.typed(&format!("request retry {one} --wait 60s"))?;
    ensure!(
        again.code == Some(2)
            && again.err.starts_with(&format!("retried ad-hoc (request {one})"))
            && again.out.starts_with("Failed ad-hoc "),
        "{again:?}"
    );
    std::fs::remove_file(site.file("broken"))?;
    std::fs::write(site.file("hold"), "")?;
    let timed_out = site.typed(&format!("request retry {one} {two} --wait 1s"))?;
    ensure!(timed_out.code == Some(124), "{timed_out:?}");
    for token in [&one, &two] {
        let watch = format!("watch it:   tasker request show {token}");
        ensure!(timed_out.err.contains(&watch), "{timed_out:?}");
    }
    let canceled = site.typed(&format!("request cancel {one}"))?;
    ensure!(canceled.code == Some(0), "{canceled:?}");
    std::fs::remove_file(site.file("hold"))?;
    site.until_status(&two, "Completed")?;
    // The refusal of one does not keep the other from being waited for.
    std::fs::write(site.file("broken"), "")?;
    let three = failed("three")?;
    std::fs::remove_file(site.file("broken"))?;
    let some = site.typed(&format!("request retry {two} {three} --wait 60s"))?;
    ensure!(
        some.code == Some(1) && some.err.contains(&two) && some.out.starts_with("Completed ad-hoc "),
        "{some:?}"
    );
    std::fs::write(site.file("broken"), "")?;
    let four = failed("four")?;
    std::fs::remove_file(site.file("broken"))?;
    let told = site.typed(&format!("request retry {four} --wait 60s --json"))?;
    let request: Value = serde_json::from_str(&told.out).with_context(|| format!("{told:?}"))?;
    ensure!(told.code == Some(0) && request["status"] == "Completed", "{told:?}");
    ensure!(told.err.contains(&format!(r#"{{"retried":{{"token":"{four}"}}}}"#)), "{told:?}");
    Ok(())
}

#[test]
fn requests_are_verified() -> anyhow::Result<()> {
    let site = Site::new()?;
    for (line, words, json) in [
        (
            "request list",
            "no requests: `tasker request submit` makes one\n",
            r#"{"requests":[],"next_cursor":null}"#,
        ),
        (
            "schedules",
            "no schedules: `schedules` in the configuration of the API lists them",
            r#"{"schedules":[]}"#,
        ),
    ] {
        let empty = site.typed(line)?;
        ensure!(
            empty.code == Some(0) && empty.out.is_empty() && empty.err.starts_with(words),
            "{line}: {empty:?}"
        );
        let empty = site.typed(&format!("{line} --json"))?;
        ensure!(empty.err.is_empty() && empty.out.trim_end() == json, "{line}: {empty:?}");
    }
    let none = site.typed("verify")?;
    ensure!(none.code == Some(0) && !none.out.contains("requests"), "{none:?}");
    ensure!(site.typed("request submit --step get --step del1 --wait 60s")?.code == Some(0));
    let such = site.typed("request list --status Failed")?;
    ensure!(such.out.is_empty() && such.err.starts_with("no such requests: "), "{such:?}");
    let good = site.typed("verify --ended")?;
    ensure!(
        good.code == Some(0) && good.out.contains("\nrequests  1         1          0        -          0 "),
        "{good:?}"
    );

    // Completed with one of its two jobs, as no request becomes.
    let rows = r#"
        INSERT INTO requests (token, action, params, steps, status, completed)
        VALUES ('half', 'go', '1', '[{"name": "s", "jobs": ["get", "del1"]}]', 2, 1577836800000000);
        INSERT INTO jobs (name, token, step, status) VALUES ('get', 'half', 0, 2);"#;
    let ledger = format!("sqlite://{}", site.place.path().join("tasker-data/tasker.db").display());
    tokio::runtime::Runtime::new()?.block_on(async {
        let mut producer = SqliteConnection::connect(&ledger).await?;
        producer.execute(rows).await?;
        producer.close().await
    })?;
    let bad = site.typed("verify")?;
    ensure!(
        bad.code == Some(2)
            && bad.out.contains("request half: it is Completed and job `del1` of step 1 is not\n"),
        "{bad:?}"
    );
    ensure!(
        bad.out.ends_with("0 tasks do not add up, 0 responses were run twice, 1 requests do not add up\n"),
        "{bad:?}"
    );
    let sums = site.json("verify")?;
    let requests = sums.as_array().and_then(|sums| sums.last()).context("sums")?;
    ensure!(
        requests["type"] == "requests" && requests["missing"] == 1 && requests["flaws"][0]["token"] == "half",
        "{sums}"
    );
    ensure!(site.typed("verify get")?.code == Some(0), "types that are named are verified alone");
    Ok(())
}

#[test]
fn attempts_of_the_type_multiply_with_tries_of_the_job() -> anyhow::Result<()> {
    let place = Place::new()?;
    for job in ["twice", "once"] {
        place.write(&format!("jobs/{job}"), "#!/bin/sh\necho run >> runs-$TASKER_TYPE\nexit 75\n")?;
        std::fs::set_permissions(
            place.path().join("jobs").join(job),
            std::fs::Permissions::from_mode(0o755),
        )?;
    }
    place.write(
        "requests.yaml",
        "task_types:
  - {name: twice, delivery: queue, attempts: 2, backoff: {first: 10ms, max: 10ms}}
  - {name: once, delivery: queue, attempts: 1}
requests: {retry: {tries: 3, first: 10ms, max: 10ms}}
endpoint: {handlers_dir: jobs}
",
    )?;
    let up = place.up("--config requests.yaml --listen 127.0.0.1:0")?;
    for (job, runs) in [("twice", 6), ("once", 3)] {
        let words = ["request", "submit", "--step", job, "--wait", "60s", "--json"].map(str::to_owned);
        let said = place.said(&words, &["--api", &up.api])?;
        let request: Value = serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))?;
        let tries: Vec<_> = request["jobs"]
            .as_array()
            .context("jobs")?
            .iter()
            .map(|job| (&job["try"], &job["status"]))
            .collect();
        let wanted =
            [(&json!(1), &json!("retry")), (&json!(2), &json!("retry")), (&json!(3), &json!("failed"))];
        ensure!(said.code == Some(2) && tries == wanted, "{request}");
        let ran = std::fs::read_to_string(place.path().join(format!("jobs/runs-{job}")))?.lines().count();
        ensure!(ran == runs, "{job} ran {ran} times");
    }
    Ok(())
}

#[test]
fn what_cannot_be_typed_is_told_in_words_of_the_command_line() -> anyhow::Result<()> {
    let site = Site::new()?;
    for (line, words) in [
        ("request submit", "<ACTION>"),
        ("request submit remove", r#"ACTION: unknown action "remove" (configured: none)"#),
        ("request submit --step gte", r#"job 1 of --step 1: unknown job "gte""#),
        ("request submit --step get+get", "job 2 of --step 1: is the job `get`"),
        (
            "request submit --step never(sometimes):get",
            "`sometimes` is not one of all_ok, all_done, any_failed",
        ),
        ("request submit --step get --param id", "expected KEY=VALUE"),
        ("request submit --step get --param id=1 --param id=2", "--param gives `id` twice"),
        ("request submit --step get --params {", "--params: not JSON: "),
        ("request list --status Done", "expected one of Queuing, Inprogress"),
        ("request show a+b", r#""a b" is not a token"#),
        ("request list --cursor x", "--cursor: "),
    ] {
        let said = site.typed(line)?;
        ensure!(said.code == Some(1) && said.out.is_empty() && said.err.contains(words), "{line}: {said:?}");
    }
    let json = site.typed("request show nothing --json")?;
    ensure!(json.code == Some(1) && json.err.contains(r#""code":"unknown_request""#), "{json:?}");
    Ok(())
}
