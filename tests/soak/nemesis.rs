//! What breaks things: one fault at a time, chosen at random.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::Signal;

use crate::support::clock::Shift;
use crate::support::fleet::{API_FAILPOINTS, ENDPOINT_FAILPOINTS, Fleet};
use crate::support::loader::Loader;
use crate::support::proxy::Proxy;
use crate::support::tap::Tap;

const APIS: [&str; 2] = ["api1", "api2"];
const WORKERS: [&str; 2] = ["worker1", "worker2"];
const ENDPOINTS: [&str; 4] = ["console1", "console2", "console3", "console4"];

/// Everything that can be broken, and what was.
pub struct Nemesis {
    random: fastrand::Rng,
    links: Vec<(&'static str, Proxy)>,
    clock: Shift,
    kills: BTreeMap<&'static str, u32>,
    /// Faults that may come.
    faults: Vec<Fault>,
    /// Those that have not come since each of them came.
    left: Vec<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    KillApi,
    KillEndpoint,
    KillWorker,
    KillBetweenSteps,
    KillBroker,
    KillDatabase,
    FreezeBroker,
    FreezeDatabase,
    /// For up to 40 seconds, with whatever it was delivered; the next ones too.
    FreezeApi,
    FreezeEndpoint,
    FreezeWorker,
    /// Large answers, until the small journals are short of room, and all messages once more.
    PressJournals,
    ReadOnlyDatabase,
    EndConnections,
    FullDatabase,
    /// `SIGTERM` of an endpoint or a worker, with handlers that take longer than a process may take to stop.
    Stop,
    /// `SIGHUP` of any process.
    HangUp,
    Cut,
    Refuse,
    BlackHole,
    Slow,
    Repeat,
    Clock,
}

impl Fault {
    /// All of them, with their names on the command line.
    pub const NAMES: &[(&str, Self)] = &[
        ("kill-api", Self::KillApi),
        ("kill-endpoint", Self::KillEndpoint),
        ("kill-worker", Self::KillWorker),
        ("kill-between-steps", Self::KillBetweenSteps),
        ("kill-broker", Self::KillBroker),
        ("kill-database", Self::KillDatabase),
        ("freeze-broker", Self::FreezeBroker),
        ("freeze-database", Self::FreezeDatabase),
        ("freeze-api", Self::FreezeApi),
        ("freeze-endpoint", Self::FreezeEndpoint),
        ("freeze-worker", Self::FreezeWorker),
        ("press-journals", Self::PressJournals),
        ("read-only-database", Self::ReadOnlyDatabase),
        ("end-connections", Self::EndConnections),
        ("full-database", Self::FullDatabase),
        ("stop", Self::Stop),
        ("hang-up", Self::HangUp),
        ("cut", Self::Cut),
        ("refuse", Self::Refuse),
        ("black-hole", Self::BlackHole),
        ("slow", Self::Slow),
        ("repeat", Self::Repeat),
        ("clock", Self::Clock),
    ];

    /// Whether once is enough of it.
    fn is_long(self) -> bool {
        matches!(
            self,
            Self::FreezeApi
                | Self::FreezeEndpoint
                | Self::FreezeWorker
                | Self::PressJournals
                | Self::FullDatabase
        )
    }
}

impl Nemesis {
    /// Starts the processes of a fleet so that all of them can be broken.
    pub fn of(fleet: &mut Fleet, seed: u64, faults: Vec<Fault>) -> anyhow::Result<Self> {
        let mut database = reqwest::Url::parse(&fleet.platform.database())?;
        let to_database = fleet.platform.proxy_to(database.as_str())?;
        database.set_port(Some(to_database.address().port())).expect("a database is at a port");
        let [api_to_broker, endpoint_to_broker] = [
            fleet.platform.proxy_to(&fleet.platform.amqp())?,
            fleet.platform.proxy_to(&fleet.platform.amqp())?,
        ];
        let broker =
            |link: &Proxy| ("TASKER_MANAGER__MESSAGE_QUEUE__PORT", link.address().port().to_string());
        let clock = Shift::new(fleet.platform.home(), "clock")?;
        let mut environment = vec![broker(&api_to_broker), ("TASKER_MANAGER__DB__URI", database.to_string())];
        environment.extend(clock.environment.iter().cloned());
        fleet.start_api(APIS[0], &environment)?;
        fleet.start_api(APIS[1], &[])?;
        let mut environment = vec![broker(&endpoint_to_broker)];
        environment.extend(clock.environment.iter().cloned());
        fleet.start_endpoint(ENDPOINTS[0], &environment)?;
        let small = [("TASKER_ENDPOINT__JOURNAL_LIMIT", "2MiB".to_owned())];
        for name in &ENDPOINTS[1..] {
            fleet.start_endpoint(name, if *name == ENDPOINTS[3] { &small } else { &[] })?;
        }
        fleet.start_worker(WORKERS[0], &environment)?;
        fleet.start_worker(WORKERS[1], &small)?;
        fleet.ready()?;
        let links = vec![
            ("API and broker", api_to_broker),
            ("endpoint and broker", endpoint_to_broker),
            ("API and database", to_database),
        ];
        Ok(Self {
            random: fastrand::Rng::with_seed(seed),
            links,
            clock,
            kills: BTreeMap::new(),
            faults,
            left: Vec::new(),
        })
    }

    /// How often the servers were killed.
    pub fn kills(&self) -> &BTreeMap<&'static str, u32> {
        &self.kills
    }

    /// Does one kind of harm, a few times, and mends it. Says what it was.
    pub fn strike(&mut self, fleet: &mut Fleet, loader: &Loader) -> anyhow::Result<String> {
        // In any order, but each as often as the others.
        if self.left.is_empty() {
            self.left = self.faults.clone();
            self.random.shuffle(&mut self.left);
        }
        let fault = self.left.pop().unwrap_or(Fault::KillApi);
        let (times, link) = (self.random.usize(1..4), self.random.usize(..self.links.len()));
        let times = if fault.is_long() { 1 } else { times };
        let mut what = format!("{fault:?} x {times}");
        if matches!(fault, Fault::Cut | Fault::Refuse | Fault::BlackHole | Fault::Slow) {
            what += &format!(" between {}", self.links[link].0);
        }
        for _ in 0..times {
            self.harm(fault, link, fleet, loader).with_context(|| what.clone())?;
            fleet.pass(Duration::from_millis(self.random.u64(500..2000)))?;
        }
        Ok(what)
    }

    fn harm(&mut self, fault: Fault, link: usize, fleet: &mut Fleet, loader: &Loader) -> anyhow::Result<()> {
        let lasts = Duration::from_millis(self.random.u64(500..5000));
        let proxy = &self.links[link].1;
        match fault {
            Fault::KillApi => fleet.kill(APIS[self.random.usize(..APIS.len())])?,
            Fault::KillEndpoint => fleet.kill(ENDPOINTS[self.random.usize(..ENDPOINTS.len())])?,
            Fault::KillWorker => fleet.kill(WORKERS[self.random.usize(..WORKERS.len())])?,
            Fault::KillBetweenSteps => self.kill_between_steps(fleet)?,
            Fault::KillBroker => {
                *self.kills.entry("RabbitMQ").or_default() += 1;
                fleet.platform.servers().0.kill()?;
                fleet.pass(lasts)?;
                fleet.platform.servers().0.restart()?;
            }
            Fault::KillDatabase => {
                *self.kills.entry("MariaDB").or_default() += 1;
                fleet.platform.servers().1.kill()?;
                fleet.pass(lasts)?;
                fleet.platform.servers().1.restart()?;
            }
            Fault::FreezeBroker => {
                fleet.platform.servers().0.pause()?;
                fleet.pass(lasts)?;
                fleet.platform.servers().0.resume()?;
            }
            Fault::FreezeDatabase => {
                fleet.platform.servers().1.pause()?;
                fleet.pass(lasts)?;
                fleet.platform.servers().1.resume()?;
            }
            Fault::FreezeApi => self.freeze(&APIS, fleet, loader)?,
            Fault::FreezeEndpoint => self.freeze(&ENDPOINTS, fleet, loader)?,
            Fault::FreezeWorker => self.freeze(&WORKERS, fleet, loader)?,
            Fault::PressJournals => {
                let mut tap = fleet.platform.block_on(Tap::of(fleet, self.random.u64(..)))?;
                loader.large(true);
                fleet.pass(Duration::from_secs(5) + lasts)?;
                loader.large(false);
                fleet.pass(Duration::from_secs(1))?;
                fleet.platform.block_on(tap.repeat(1))?;
            }
            Fault::ReadOnlyDatabase => {
                // The first is refused to every session that begins then, the second to all but
                // administrators.
                let mode = if self.random.bool() { "tx_read_only" } else { "read_only" };
                fleet.platform.sql(&[&format!("SET GLOBAL {mode} = 1")])?;
                fleet.platform.end_connections()?;
                fleet.pass(lasts)?;
                fleet.platform.sql(&[&format!("SET GLOBAL {mode} = 0")])?;
                // Sessions of that time may be left, and be read-only as long as they last.
                if self.random.bool() {
                    fleet.platform.end_connections()?;
                }
            }
            Fault::EndConnections => {
                let end = Instant::now() + lasts;
                while Instant::now() < end {
                    fleet.platform.end_connections()?;
                    fleet.pass(Duration::from_millis(self.random.u64(20..300)))?;
                }
            }
            Fault::FullDatabase => {
                loader.large(true);
                fleet.platform.servers().1.fill_disk()?;
                fleet.pass(Duration::from_secs(4) + lasts)?;
                fleet.platform.servers().1.free_disk()?;
                loader.large(false);
                // Some servers end by themselves when the disk is full.
                fleet.pass(Duration::from_secs(2))?;
                if fleet.platform.servers().1.revive()? {
                    *self.kills.entry("MariaDB").or_default() += 1;
                }
            }
            Fault::Stop => {
                let names = [&ENDPOINTS[..], &WORKERS[..]].concat();
                let name = names[self.random.usize(..names.len())];
                loader.long(true);
                fleet.pass(Duration::from_secs(2))?;
                fleet.ask(name, Signal::TERM)?;
                fleet.until_left(name)?;
                loader.long(false);
            }
            Fault::HangUp => {
                let names = [&APIS[..], &ENDPOINTS[..], &WORKERS[..]].concat();
                let name = names[self.random.usize(..names.len())];
                fleet.ask(name, Signal::HUP)?;
                fleet.until_left_or(name, Duration::from_secs(20))?;
            }
            Fault::Cut => proxy.cut(),
            Fault::Refuse => {
                proxy.refuse();
                fleet.pass(lasts)?;
                proxy.pass();
            }
            Fault::BlackHole => {
                proxy.black_hole();
                fleet.pass(lasts)?;
                proxy.cut();
                proxy.pass();
            }
            Fault::Slow => {
                proxy.slow(Duration::from_millis(self.random.u64(10..200)), self.random.u32(5_000..50_000));
                fleet.pass(lasts)?;
                proxy.pass();
            }
            Fault::Repeat => {
                let mut tap = fleet.platform.block_on(Tap::of(fleet, self.random.u64(..)))?;
                fleet.pass(lasts)?;
                fleet.platform.block_on(tap.repeat(3))?;
            }
            Fault::Clock => {
                self.clock.set(self.random.i64(-1_000_000_000..1_000_000_000))?;
                // Under processes that run, or that start in another year and come back from there when they
                // die the next time.
                if self.random.bool() {
                    fleet.kill(APIS[0])?;
                    fleet.kill(ENDPOINTS[0])?;
                }
                fleet.pass(lasts)?;
                self.clock.set(0)?;
            }
        }
        Ok(())
    }

    /// Freezes one of these while tasks go on, some with large answers.
    fn freeze(&mut self, names: &[&str], fleet: &mut Fleet, loader: &Loader) -> anyhow::Result<()> {
        let name = names[self.random.usize(..names.len())];
        loader.large(self.random.bool());
        fleet.freeze(name)?;
        fleet.pass(Duration::from_millis(self.random.u64(1_000..40_000)))?;
        fleet.thaw(name)?;
        loader.large(false);
        Ok(())
    }

    fn kill_between_steps(&mut self, fleet: &mut Fleet) -> anyhow::Result<()> {
        let (names, points) = match self.random.u8(..3) {
            0 => (&APIS[..], &API_FAILPOINTS[..]),
            1 => (&WORKERS[..], &ENDPOINT_FAILPOINTS[..]),
            _ => (&ENDPOINTS[..], &ENDPOINT_FAILPOINTS[..]),
        };
        let (name, point) =
            (names[self.random.usize(..names.len())], points[self.random.usize(..points.len())]);
        fleet.arm(name, [(point, self.random.u32(1..10))])?;
        fleet.until_lives_are_spent()
    }
}
