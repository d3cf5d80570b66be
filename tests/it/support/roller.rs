//! Runs rollouts while a platform is broken, and judges what has become of them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::fleet::{Fleet, TYPE};
use super::loader::marks;
use super::platform::PATIENCE;

/// Attempts that the platform of the tests allows.
const ATTEMPTS: u64 = 3;
/// How often a rollout starts an endpoint by itself.
const ROUNDS: u64 = 2;
/// The endpoint is lost with what it had received, or its process ended while its last attempt ran.
const LOST: [i64; 2] = [69, 71];
/// In which statuses a rollout ends that nobody aborts.
const ENDED: [&str; 2] = ["DONE", "PARTIAL"];

/// How many rollouts there are to be.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The time between two of them.
    pub every: Duration,
    /// The number of the last one.
    pub most: usize,
    /// Lanes that they take by turns.
    pub lanes: usize,
}

/// What has become of the rollouts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rolled {
    /// How many.
    pub rollouts: usize,
    /// Their endpoints, by state.
    pub targets: BTreeMap<String, u64>,
    /// Executions that began, as handlers have marked.
    pub executions: u64,
}

/// Submits rollouts over the whole fleet, from a thread of its own.
pub struct Roller {
    stop: CancellationToken,
    marks: PathBuf,
    thread: JoinHandle<anyhow::Result<Vec<String>>>,
}

impl Roller {
    /// Begins at once, by turns at all API processes.
    pub fn start(fleet: &Fleet, pace: Pace) -> Self {
        let (stop, urls) = (CancellationToken::new(), fleet.urls());
        let marks = marks(fleet).with_extension("rollouts");
        let (until, of) = (stop.clone(), marks.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(submit_until(&urls, pace, of, until))
        });
        Self { stop, marks, thread }
    }

    /// Waits until the last one is submitted.
    pub fn until_submitted(&self, fleet: &mut Fleet) -> anyhow::Result<()> {
        fleet.until("every rollout is submitted", |_| {
            if self.thread.is_finished() { Ok(()) } else { bail!("not yet") }
        })
    }

    /// Submits nothing new, waits until all have ended, and judges them.
    ///
    /// # Errors
    /// When one does not end, or an endpoint was started more or less often than its state says.
    pub fn finish(self, fleet: &mut Fleet) -> anyhow::Result<Rolled> {
        self.stop.cancel();
        self.until_submitted(fleet)?;
        let names = self.thread.join().map_err(|_| anyhow!("the submitter of rollouts panicked"))??;
        for name in &names {
            fleet.until("the rollout has ended", |fleet| {
                let (status, rollout) = fleet.get(&format!("/rollouts/{name}"))?;
                let ended = rollout["status"].as_str().is_some_and(|status| ENDED.contains(&status));
                ensure!(status == 200 && ended, "{status}: {rollout}");
                Ok(())
            })?;
        }
        let executed = executions(&self.marks)?;
        let mut rolled = Rolled { rollouts: names.len(), ..Rolled::default() };
        for name in names {
            let (_, page) = fleet.get(&format!("/rollouts/{name}/targets?limit=1000"))?;
            for target in page["targets"].as_array().context("targets")? {
                let state = target["state"].as_str().context("a state")?;
                let endpoint = target["endpoint"].as_str().context("a name")?;
                let executed = executed.get(&(name.clone(), endpoint.to_owned())).copied().unwrap_or(0);
                judge(state, target, executed).with_context(|| format!("{name}: {target}"))?;
                *rolled.targets.entry(state.to_owned()).or_default() += 1;
                rolled.executions += executed;
            }
        }
        Ok(rolled)
    }
}

fn judge(state: &str, target: &Value, executed: u64) -> anyhow::Result<()> {
    let round = target["round"].as_u64().context("a round")?;
    ensure!(round <= ROUNDS, "started {round} times by itself");
    ensure!(executed <= round * ATTEMPTS, "executed {executed} times in {round} rounds");
    match state {
        "OK" => ensure!(executed >= 1, "never executed"),
        "FAILED" => ensure!(
            target["errnr"].as_i64().is_none_or(|errnr| LOST.contains(&errnr)),
            "the handler itself never fails"
        ),
        "SKIPPED" | "SUPERSEDED" => {}
        _ => bail!("no state in which an endpoint stays"),
    }
    Ok(())
}

/// How often each endpoint has executed a task of each rollout.
fn executions(marks: &Path) -> anyhow::Result<HashMap<(String, String), u64>> {
    let mut executed = HashMap::new();
    let (directory, prefix) = (
        marks.parent().context("a directory")?,
        format!("{}-", marks.file_name().context("a name")?.to_string_lossy()),
    );
    for entry in std::fs::read_dir(directory)? {
        let file = entry?;
        let name = file.file_name().to_string_lossy().into_owned();
        let Some(rollout) = name.strip_prefix(&prefix) else { continue };
        for line in std::fs::read_to_string(file.path())?.lines() {
            let endpoint = line.split(' ').nth(1).with_context(|| format!("{name}: {line}"))?;
            *executed.entry((rollout.to_owned(), endpoint.to_owned())).or_default() += 1;
        }
    }
    Ok(executed)
}

async fn submit_until(
    urls: &[String],
    pace: Pace,
    marks: PathBuf,
    stop: CancellationToken,
) -> anyhow::Result<Vec<String>> {
    let http = tasker::https::client().timeout(Duration::from_secs(5)).build()?;
    let prefix = uuid::Uuid::new_v4().simple().to_string();
    let any = json!({"failed": "none", "unreachable": "none"});
    let mut names = Vec::new();
    while names.len() < pace.most && !stop.is_cancelled() {
        let number = names.len();
        let name = format!("{prefix}-{number}");
        let mark = format!("{}-{name}", marks.display());
        let document = json!({
            "identifier": name, "type": TYPE, "payload": {"do": "ok", "mark": mark}, "lane": format!("lane{}", number % pace.lanes),
            "targets": {"max_absent": "none"}, "waves": [1, "rest"], "budget": {"wave": any, "total": any},
            // For as long as a fault lasts.
            "receive_within": "1m", "catch_up_for": "20s",
        });
        let begin = Instant::now();
        for turn in number.. {
            // One that got no answer is submitted again.
            let url = format!("{}/rollouts", urls[turn % urls.len()]);
            let trouble = match http.post(url).json(&document).send().await {
                Ok(answer) if answer.status().is_success() => break,
                Ok(answer) if answer.status().is_client_error() && answer.status().as_u16() != 429 => {
                    bail!("{name} is refused: {}", answer.text().await?)
                }
                Ok(answer) => answer.status().to_string(),
                Err(error) => error.to_string(),
            };
            ensure!(begin.elapsed() < PATIENCE, "{name} is not taken within {PATIENCE:?}: {trouble}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        names.push(name);
        stop.run_until_cancelled(tokio::time::sleep(pace.every)).await;
    }
    Ok(names)
}
