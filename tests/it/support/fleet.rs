//! A platform whose processes may end at any time: whatever ended is started again, as a supervisor would.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tasker::failpoint::{self, Failpoint};
use tasker_services::{Port, Process};

use super::platform::{PATIENCE, Platform};

/// Between which steps an API process can be killed.
pub const API_FAILPOINTS: [Failpoint; 4] = [
    failpoint::ACCEPTOR_RECORDED,
    failpoint::PUBLISHER_FROZEN,
    failpoint::PUBLISHER_CONFIRMED,
    failpoint::COLLECTOR_WRITTEN,
];
/// Between which steps an endpoint process can be killed.
pub const ENDPOINT_FAILPOINTS: [Failpoint; 5] = [
    failpoint::INTAKE_TAKEN,
    failpoint::INTAKE_JOURNALED,
    failpoint::PERFORMER_STARTED,
    failpoint::PERFORMER_JOURNALED,
    failpoint::REPORTER_CONFIRMED,
];

/// The type whose handler does what its payload says and marks what it did.
pub const TYPE: &str = "steered";
/// The type with a work queue, in a fleet that has workers.
pub const QUEUE: &str = "worker";

/// Performs [`QUEUE`]: marks on disk that it begins, as the handler of [`TYPE`] does, takes `seconds`,
/// answers `bytes` letters.
const QUEUE_HANDLER: &str = r#"#!/bin/sh
member() { printf '%s' "$payload" | sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"; }
payload=$(cat)
mark=$(member mark)
printf '%s %s %s
' "$TASKER_TASK_ID" "$TASKER_ENDPOINT" "$TASKER_ATTEMPT" >> "$mark" && sync -d "$mark" || exit 73
sleep "$(member seconds)"
bytes=$(member bytes)
printf '"%s"' "$(head -c "${bytes:-1}" /dev/zero | tr '\0' x)"
"#;

/// A process and how it is started again.
struct Post {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// The failpoints of its next lives; a life without one lasts.
    lives: VecDeque<String>,
    /// Whether its present life has one.
    armed: bool,
    /// Whether it was asked to end.
    leaves: bool,
    process: Process,
}

/// API and endpoint processes on one platform, with whatever breaks them.
pub struct Fleet {
    pub platform: Platform,
    http: reqwest::Client,
    apis: BTreeMap<String, Port>,
    posts: BTreeMap<String, Post>,
    kills: BTreeMap<String, u32>,
    workers: BTreeSet<String>,
    /// The types that workers perform.
    queues: Vec<String>,
    frozen: BTreeSet<String>,
}

impl Fleet {
    /// Without any process so far.
    pub fn new(platform: Platform) -> anyhow::Result<Self> {
        let http = tasker::https::client().timeout(Duration::from_secs(20)).build()?;
        let (apis, posts, kills) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self {
            platform,
            http,
            apis,
            posts,
            kills,
            workers: BTreeSet::new(),
            queues: Vec::new(),
            frozen: BTreeSet::new(),
        })
    }

    /// The same, and tasks of [`QUEUE`] wait for workers. They may lose as many of those as they like.
    pub fn with_queue(platform: Platform) -> anyhow::Result<Self> {
        Self::with_queues(platform, vec![json!({"name": QUEUE, "delivery": "queue", "attempts": 100})])
    }

    /// The same with these types instead, of which [`QUEUE`] is one.
    pub fn with_queues(platform: Platform, types: Vec<Value>) -> anyhow::Result<Self> {
        let mut fleet = Self::new(platform)?;
        let names =
            types.iter().map(|one| one["name"].as_str().map(str::to_owned).context("a type has a name"));
        fleet.queues = names.collect::<anyhow::Result<_>>()?;
        let handlers = fleet.platform.home().join("handlers");
        std::fs::create_dir(&handlers)?;
        for queue in &fleet.queues {
            let handler = handlers.join(queue);
            std::fs::write(&handler, QUEUE_HANDLER)?;
            std::fs::set_permissions(&handler, PermissionsExt::from_mode(0o700))?;
        }
        fleet.configure(|config| {
            let others = config["task_types"]
                .as_array()
                .context("types")?
                .iter()
                .filter(|one| **one != QUEUE)
                .cloned();
            config["task_types"] = others.chain(types).collect();
            config["endpoint"]["handlers_dir"] = json!(handlers);
            config["endpoint"]["output_limit"] = json!("1MiB");
            Ok(())
        })?;
        Ok(fleet)
    }

    /// Changes the configuration with which processes start from now on.
    pub fn configure(&self, change: impl FnOnce(&mut Value) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let path = self.platform.home().join("config.yaml");
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        change(&mut config)?;
        Ok(std::fs::write(&path, config.to_string())?)
    }

    /// Gives endpoints and workers that start from now on less time to stop than the long tasks of a loader
    /// take.
    pub fn with_short_stop(self) -> anyhow::Result<Self> {
        self.configure(|config| {
            config["endpoint"]["stop_timeout"] = json!("1s");
            Ok(())
        })?;
        Ok(self)
    }

    /// With `api1` and `api2`, and `console1` and `console2`, all ready.
    pub fn usual(platform: Platform) -> anyhow::Result<Self> {
        Self::new(platform)?.with_processes()
    }

    /// The same, with `worker1` and `worker2` besides.
    pub fn with_workers(platform: Platform) -> anyhow::Result<Self> {
        Self::with_queue(platform)?.with_processes()
    }

    /// Starts the usual processes and waits until all are ready.
    pub fn with_processes(mut self) -> anyhow::Result<Self> {
        for name in ["api1", "api2"] {
            self.start_api(name, &[])?;
        }
        for name in ["console1", "console2"] {
            self.start_endpoint(name, &[])?;
        }
        if !self.queues.is_empty() {
            for name in ["worker1", "worker2"] {
                self.start_worker(name, &[])?;
            }
        }
        self.ready()?;
        Ok(self)
    }

    /// Starts an API process.
    pub fn start_api(&mut self, name: &str, environment: &[(&str, String)]) -> anyhow::Result<()> {
        let port = Port::free()?;
        let own = [("TASKER_API__PORT", port.number().to_string())];
        self.apis.insert(name.to_owned(), port);
        self.post(name, &["api"], own.iter().chain(environment))
    }

    /// Starts an endpoint process.
    pub fn start_endpoint(&mut self, name: &str, environment: &[(&str, String)]) -> anyhow::Result<()> {
        self.post(name, &["endpoint", "-e", name, "-t", TYPE], environment.iter())
    }

    /// Starts a worker process.
    pub fn start_worker(&mut self, name: &str, environment: &[(&str, String)]) -> anyhow::Result<()> {
        self.workers.insert(name.to_owned());
        self.post(name, &["worker", "-e", name, "--concurrency", "4"], environment.iter())
    }

    /// Starts a process with these arguments besides from its next life on.
    pub fn add_arguments(&mut self, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let post = self.posts.get_mut(name).with_context(|| format!("there is no process {name}"))?;
        post.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        Ok(())
    }

    fn post<'a>(
        &mut self,
        name: &str,
        arguments: &[&str],
        environment: impl Iterator<Item = &'a (&'a str, String)>,
    ) -> anyhow::Result<()> {
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let environment: Vec<_> =
            environment.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let process = self.platform.launch(name, &arguments, &environment)?;
        self.posts.insert(
            name.to_owned(),
            Post { arguments, environment, lives: VecDeque::new(), armed: false, leaves: false, process },
        );
        Ok(())
    }

    /// Waits until all API processes are ready and all endpoints and workers subscribed.
    pub fn ready(&mut self) -> anyhow::Result<()> {
        let apis: Vec<_> = self.apis.values().map(Port::number).collect();
        let mut subscribers: Vec<_> =
            self.endpoints().into_iter().map(|name| (name, TYPE.to_owned())).collect();
        subscribers.extend(
            self.workers
                .iter()
                .flat_map(|name| self.queues.iter().map(|queue| (name.clone(), queue.clone()))),
        );
        self.until("the fleet is ready", |fleet| {
            for port in &apis {
                let (status, body) = fleet.get_from(*port, "/ready")?;
                ensure!(status == 200, "{status}: {body}");
            }
            let (_, page) = fleet.get("/endpoints?limit=1000")?;
            for (name, task_type) in &subscribers {
                let there = page["endpoints"].as_array().into_iter().flatten().any(|endpoint| {
                    let subscribed = |kind: &Value| kind["type"] == *task_type && kind["subscribed"] == true;
                    endpoint["name"] == *name
                        && endpoint["types"].as_array().is_some_and(|types| types.iter().any(subscribed))
                });
                ensure!(there, "{name} is not subscribed: {page}");
            }
            Ok(())
        })
    }

    /// The names of its endpoints.
    pub fn endpoints(&self) -> Vec<String> {
        self.posts
            .keys()
            .filter(|name| !self.apis.contains_key(*name) && !self.workers.contains(*name))
            .cloned()
            .collect()
    }

    /// The names of its workers.
    pub fn workers(&self) -> Vec<String> {
        self.workers.iter().cloned().collect()
    }

    /// The types that its workers perform.
    pub fn queues(&self) -> &[String] {
        &self.queues
    }

    /// The addresses of its API processes.
    pub fn urls(&self) -> Vec<String> {
        self.apis.values().map(|port| format!("http://127.0.0.1:{}", port.number())).collect()
    }

    /// Ends a process as `kill -9` does; it is started again as soon as somebody waits for something.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.process(name)?.signal(Signal::KILL)
    }

    /// Freezes a process: its connections stay open, and it holds what it was delivered.
    pub fn freeze(&mut self, name: &str) -> anyhow::Result<()> {
        self.frozen.insert(name.to_owned());
        self.process(name)?.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn thaw(&mut self, name: &str) -> anyhow::Result<()> {
        self.frozen.remove(name);
        self.process(name)?.signal(Signal::CONT)
    }

    /// Asks a process to end, or to do what else a signal means to it. If it ends well it is started again.
    pub fn ask(&mut self, name: &str, signal: Signal) -> anyhow::Result<()> {
        let post = self.posts.get_mut(name).with_context(|| format!("there is no process {name}"))?;
        post.leaves = true;
        post.process.signal(signal)
    }

    /// Waits for a process that was sent a signal which may mean something else to it than to end.
    pub fn until_left_or(&mut self, name: &str, stays: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + stays;
        while self.posts.get(name).is_some_and(|post| post.leaves) && Instant::now() < end {
            self.pass(Duration::from_millis(100))?;
        }
        self.posts.get_mut(name).with_context(|| format!("there is no process {name}"))?.leaves = false;
        Ok(())
    }

    /// Waits until a process that was asked to end has done so and was started again.
    pub fn until_left(&mut self, name: &str) -> anyhow::Result<()> {
        let name = name.to_owned();
        self.until("the process ends", |fleet| {
            ensure!(!fleet.posts[&name].leaves, "{name} still runs");
            Ok(())
        })
    }

    /// Kills a process; each of its next lives ends when it comes by one of these failpoints, at the given
    /// time of all.
    pub fn arm(
        &mut self,
        name: &str,
        deaths: impl IntoIterator<Item = (Failpoint, u32)>,
    ) -> anyhow::Result<()> {
        let post = self.posts.get_mut(name).with_context(|| format!("there is no process {name}"))?;
        post.lives.extend(deaths.into_iter().map(|(point, time)| format!("{}:kill:{time}", point.name())));
        self.kill(name)
    }

    /// A process.
    pub fn process(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        self.posts
            .get_mut(name)
            .map(|post| &mut post.process)
            .with_context(|| format!("there is no process {name}"))
    }

    /// How often processes of each kind were killed.
    pub fn kills(&self) -> &BTreeMap<String, u32> {
        &self.kills
    }

    /// The lives that failpoints take and have not taken yet: for each process that has one now, those that
    /// come after it.
    pub fn lives(&self) -> Vec<&VecDeque<String>> {
        self.posts
            .values()
            .filter(|post| post.armed || !post.lives.is_empty())
            .map(|post| &post.lives)
            .collect()
    }

    /// Waits until every life that a failpoint takes has been taken.
    pub fn until_lives_are_spent(&mut self) -> anyhow::Result<()> {
        self.until("every failpoint has been reached", |fleet| {
            let left = fleet.lives();
            ensure!(left.is_empty(), "one, and then {left:?}");
            Ok(())
        })
    }

    /// Starts again what was killed, and what has ended well when it was asked to. What ended in any other
    /// way is a failure.
    pub fn tend(&mut self) -> anyhow::Result<()> {
        for (name, post) in &mut self.posts {
            let Some(status) = post.process.ended()? else { continue };
            match status.signal() {
                Some(signal) if signal == Signal::KILL.as_raw() => {
                    *self.kills.entry(name.clone()).or_default() += 1
                }
                _ => ensure!(
                    post.leaves && status.success(),
                    "{name} ended with {status}:\n{}",
                    post.process.log()
                ),
            }
            post.leaves = false;
            let mut environment = post.environment.clone();
            let failpoint = post.lives.pop_front();
            post.armed = failpoint.is_some();
            environment.extend(failpoint.map(|failpoint| ("TASKER_FAILPOINT".to_owned(), failpoint)));
            post.process = self.platform.launch(name, &post.arguments, &environment)?;
        }
        Ok(())
    }

    /// Tends the processes until the answer is good; shows all logs when it never is.
    pub fn until<T>(&mut self, what: &str, probe: impl Fn(&Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.tend()?;
            match probe(self) {
                Ok(value) => return Ok(value),
                Err(error) if Instant::now() >= deadline => {
                    return Err(error.context(format!("{what}: not within {PATIENCE:?}\n{}", self.logs())));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Tends the processes for a time: how long a fault lasts.
    pub fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.tend()?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Stops all processes in order, endpoints first, and expects each to end well.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let (apis, endpoints): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.posts).into_iter().partition(|(name, _)| name.starts_with("api"));
        for group in [endpoints, apis] {
            for (_, post) in &group {
                post.process.signal(Signal::TERM)?;
            }
            for (name, mut post) in group {
                let deadline = Instant::now() + PATIENCE;
                let status = loop {
                    match post.process.ended()? {
                        Some(status) => break status,
                        None if Instant::now() >= deadline => {
                            bail!("{name} does not stop:\n{}", post.process.log())
                        }
                        None => thread::sleep(Duration::from_millis(10)),
                    }
                };
                ensure!(status.success(), "{name} stops with {status}:\n{}", post.process.log());
            }
        }
        Ok(())
    }

    /// GET from the first API process that answers: status and body.
    pub fn get(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        let answers = self.awake().map(|port| self.get_from(port.number(), path));
        answers.reduce(|first, second| first.or(second)).context("there is no API process")?
    }

    /// The ports of the API processes that are not frozen.
    fn awake(&self) -> impl Iterator<Item = &Port> {
        self.apis.iter().filter(|(name, _)| !self.frozen.contains(*name)).map(|(_, port)| port)
    }

    /// How often the living API processes have asked for a task again.
    pub fn asks(&self) -> u64 {
        self.awake().map(|port| self.counted(port.number(), "tasker_asks_total")).sum()
    }

    /// What an API process counts under a name, or under names that begin so; 0 when it does not answer.
    fn counted(&self, port: u16, metric: &str) -> u64 {
        let Ok((200, Value::String(text))) = self.get_from(port, "/metrics") else { return 0 };
        let of_it = text.lines().filter(|line| line.starts_with(metric));
        of_it.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// The metrics of each API process.
    pub fn metrics(&self) -> anyhow::Result<Vec<String>> {
        let read = |port: &Port| match self.get_from(port.number(), "/metrics")? {
            (200, Value::String(text)) => Ok(text),
            (status, body) => bail!("{status}: {body}"),
        };
        self.apis.values().map(read).collect()
    }

    /// The API process that has counted the most under a name, and all that were counted.
    pub fn foremost(&self, metric: &str) -> anyhow::Result<(String, u64)> {
        let counts = self.apis.iter().map(|(name, port)| (self.counted(port.number(), metric), name.clone()));
        let counts: Vec<_> = counts.collect();
        let (_, name) = counts.iter().max().context("there is no API process")?;
        Ok((name.clone(), counts.iter().map(|(count, _)| count).sum()))
    }

    fn get_from(&self, port: u16, path: &str) -> anyhow::Result<(u16, Value)> {
        let request = self.http.get(format!("http://127.0.0.1:{port}{path}"));
        self.platform.block_on(async {
            let answer = request.send().await?;
            let status = answer.status().as_u16();
            let text = answer.text().await?;
            Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
        })
    }

    fn logs(&self) -> String {
        self.posts.iter().map(|(name, post)| format!("--- {name}\n{}\n", post.process.log())).collect()
    }
}
