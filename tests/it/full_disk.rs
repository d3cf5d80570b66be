//! An endpoint whose disk takes nothing more, and then does again.
//!
//! The limit of the size of a file stands for the disk: a write beyond it fails as one to a full disk does,
//! for root and for everybody else. It holds for a whole process, so the test starts itself once more and
//! works in there.

use std::collections::HashSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tasker::broker::{Source, wire};
use tasker::domain::{ReportEvent, TaskId};
use tasker::endpoint::{AgentState, Health};

use crate::api_side::{ApiSide, policy, soon, task_type, until};
use crate::endpoint::Gate;

const NAME: &str = "full_disk::a_full_disk_stops_the_taking_of_tasks_and_nothing_else";
const INSIDE: &str = "TASKER_TEST_FULL_DISK";

#[test]
fn a_full_disk_stops_the_taking_of_tasks_and_nothing_else() -> anyhow::Result<()> {
    if env::var_os(INSIDE).is_some() {
        tracing_subscriber::fmt().with_ansi(false).init();
        return tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(inside());
    }
    // Ignored, the signal that would end the process leaves the write with its error.
    let mut alone = Command::new("sh");
    alone
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(env::current_exe()?)
        .args([NAME, "--exact", "--nocapture"]);
    let output = alone.env(INSIDE, "1").output().context("starting this program again")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(
        said.contains(
            "the journal cannot be written: no tasks are accepted reason=journal_failing why=\"File too large"
        ),
        "the log does not say so:\n{said}"
    );
    ensure!(said.contains("the journal has room again"), "the log does not say so:\n{said}");
    ensure!(!said.contains("damaged"), "something is damaged:\n{said}");
    Ok(())
}

/// Bytes that a file may have from now on; `None` for as many as before.
fn limit(bytes: Option<u64>) -> anyhow::Result<()> {
    let maximum = getrlimit(Resource::Fsize).maximum;
    Ok(setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum })?)
}

fn journal(dir: &Path) -> Vec<PathBuf> {
    let dir = dir.join("data/console1/gate");
    let files = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "journal")).collect()
}

fn is_failing(state: &AgentState) -> bool {
    matches!(&state.journal, Health::Failing { reason } if reason.starts_with("File too large"))
}

async fn inside() -> anyhow::Result<()> {
    let mut api = ApiSide::new().await;
    let (gate, mut starts) = Gate::new();
    let mut endpoint = api.start(api.config(vec![policy("gate")]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let running = api.submit("gate", "1").await;
    soon("the start", starts.recv()).await;
    api.receipt().await;

    // In the middle of a record, and then nothing at all.
    for (more, round) in [(Some(10), 0), (None, 1)] {
        let [ref file] = journal(api.dir.path())[..] else { panic!("one segment") };
        let size = file.metadata()?.len();
        limit(Some(more.map_or(0, |more| size + more)))?;
        let mut waiting = HashSet::new();
        for number in 0..20 {
            waiting.insert(api.submit("gate", &format!("\"kept by the broker {round} {number}\"")).await);
        }
        assert!(soon("the journal to fail", endpoint.handle.wait_for(is_failing)).await);
        assert!(!endpoint.handle.state().is_ready());
        let told = async {
            let says = |trouble: String| {
                trouble.starts_with("journal_failing: the journal cannot be written: File too large")
            };
            while !api.presence().await.trouble.is_some_and(says) {}
        };
        soon("the trouble to be told", told).await;
        assert!(api.unexpected().is_empty() && starts.try_recv().is_err(), "nothing was taken");
        let content = String::from_utf8_lossy(&std::fs::read(file)?).into_owned();
        assert!(!content.contains(&format!("kept by the broker {round}")), "nothing of it is in the journal");
        if round == 0 {
            // What runs goes on, and what came of it waits for the disk.
            gate.let_through(1);
            until("the handler to end", || gate.open.available_permits() == 0).await;
            assert!(is_failing(&endpoint.handle.state()) && api.unexpected().is_empty());
        }

        limit(None)?;
        assert!(soon("room", endpoint.handle.wait_for(AgentState::is_ready)).await);
        gate.let_through(waiting.len());
        waiting.extend((round == 0).then_some(running));
        let mut started: HashSet<TaskId> = waiting.clone();
        started.remove(&running);
        while !waiting.is_empty() {
            let report = api.end().await;
            assert!(
                waiting.remove(&report.task_id)
                    && matches!(report.event, ReportEvent::Finished { errnr: 0, .. }),
                "{report:?}"
            );
        }
        while !started.is_empty() {
            let (id, attempt) = soon("a start", starts.recv()).await.context("the handler lives")?;
            assert!(started.remove(&id) && attempt == 1, "{id} ran again");
        }
    }

    limit(Some(0))?;
    let kept = api.submit("gate", "1").await;
    assert!(soon("the journal to fail", endpoint.handle.wait_for(is_failing)).await);
    // Nothing of what it has in hand was acknowledged: without it the broker has it again.
    endpoint.kill().await;
    let mut queue =
        api.link.consume(Source::Tasks(vec![(task_type("gate"), "console1".parse()?)]), 10).await?;
    let again = soon("the task", queue.deliveries.recv()).await.context("the broker lives")?;
    let is_kept = |command| matches!(command, tasker::domain::Command::Task(task) if task.work.id == kept);
    assert!(wire::decode_command(&again.body).is_ok_and(is_kept));
    limit(None)?;
    again.acker.ack_through().await;
    drop(queue);

    // Nothing is missing and nothing damaged: what was done is remembered.
    let mut endpoint = api.start(api.config(vec![policy("gate")]), gate.registry()).await;
    api.welcome().await;
    soon("the welcome", endpoint.handle.wait_for(|state| state.welcomed)).await;
    let mut repeat = ApiSide::task("gate", "1");
    repeat.work.id = running;
    api.send_task(&repeat).await;
    // Whose confirmation could not be noted any more is reported once more.
    loop {
        let report = api.end().await;
        assert!(matches!(report.event, ReportEvent::Finished { errnr: 0, .. }), "{report:?}");
        if report.task_id == running {
            break;
        }
    }
    endpoint.stopped().await;
    assert!(starts.try_recv().is_err());
    Ok(())
}
