//! A worker of a farm, and what it may become.

use std::time::Duration;

use super::worker_status::WorkerStatus as S;
use super::{ObjectId, Request, SleepSchedule, WorkerStatus};
use crate::domain::Timestamp;

/// How exactly it is known when a worker was last heard of.
const SEEN_EVERY: Duration = Duration::from_secs(2);

/// What a request shows of the worker that sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When it came.
    pub at: Timestamp,
    /// From where.
    pub address: String,
    /// From which program.
    pub software: String,
}

/// A worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Its id, which it was given when it registered.
    pub id: ObjectId,
    /// What people call it.
    pub nickname: String,
    /// Its operating system: `linux`, `windows`, `darwin`.
    pub platform: String,
    /// Where it was last seen.
    pub address: String,
    /// Which program it is.
    pub software: String,
    /// What it is.
    pub status: WorkerStatus,
    /// What it is to become.
    pub requested: Option<Request>,
    /// Whether it may finish its task first.
    pub lazy: bool,
    /// The types of tasks that it performs.
    pub task_types: Vec<String>,
    /// The task that it has, or had last.
    pub current_task: Option<ObjectId>,
    /// The job of that task.
    pub current_job: Option<ObjectId>,
    /// What it last said that this task is.
    pub current_task_status: String,
    /// When it last showed that it has it.
    pub current_task_updated: Option<Timestamp>,
    /// When it was last heard of.
    pub last_activity: Option<Timestamp>,
    /// When it is to sleep.
    pub sleep: SleepSchedule,
}

impl Worker {
    /// One that has just registered.
    pub fn new(id: ObjectId, nickname: String, platform: String, task_types: Vec<String>) -> Self {
        Self {
            id,
            nickname,
            platform,
            address: String::new(),
            software: String::new(),
            status: S::Registered,
            requested: None,
            lazy: false,
            task_types,
            current_task: None,
            current_job: None,
            current_task_status: String::new(),
            current_task_updated: None,
            last_activity: None,
            sleep: SleepSchedule::default(),
        }
    }

    /// How logs and updates name it.
    pub fn identifier(&self) -> String {
        if self.nickname.is_empty() {
            self.address.clone()
        } else {
            format!("{} ({})", self.address, self.nickname)
        }
    }

    /// It has sent a request. One that has just been seen in the same place is not noted again: each note is
    /// a write.
    pub fn seen(&mut self, seen: &Seen) {
        let known = self.address == seen.address && self.software == seen.software;
        if known && self.last_activity.is_some_and(|last| seen.at.since(last) < SEEN_EVERY) {
            return;
        }
        self.last_activity = Some(seen.at);
        self.address.clone_from(&seen.address);
        self.software.clone_from(&seen.software);
    }

    /// It has shown that it has its task, and perhaps called the task something. Noted again no more often
    /// than that it was seen.
    pub fn shows_task(&mut self, called: &str, now: Timestamp) {
        const LONGEST: usize = 64;
        let called = &called[..called.floor_char_boundary(LONGEST)];
        let says_more = !called.is_empty() && called != self.current_task_status;
        if says_more {
            called.clone_into(&mut self.current_task_status);
        }
        if says_more || self.current_task_updated.is_none_or(|last| now.since(last) >= SEEN_EVERY) {
            self.current_task_updated = Some(now);
        }
    }

    /// Whether it sent something after this.
    pub fn was_heard_after(&self, time: Timestamp) -> bool {
        self.last_activity.is_some_and(|last| last > time)
    }

    /// It signs on, perhaps with other task types or another nickname; whether its task types have changed.
    pub fn sign_on(&mut self, task_types: Vec<String>, nickname: String) -> bool {
        if !nickname.is_empty() {
            self.nickname = nickname;
        }
        let changed = !task_types.is_empty() && task_types != self.task_types;
        if changed {
            self.task_types = task_types;
        }
        self.status = S::Starting;
        (self.current_task, self.current_job) = (None, None);
        changed
    }

    /// It asks for a task, or whether it may go on.
    pub fn works(&mut self) {
        if self.status != S::Testing {
            self.status = S::Awake;
        }
    }

    /// It says that it has become something.
    pub fn acknowledge(&mut self, status: WorkerStatus) {
        (self.status, self.requested, self.lazy) = (status, None, false);
    }

    /// It signs off. One that sleeps, and is not to wake up, sleeps on when it is back.
    pub fn sign_off(&mut self) {
        let sleeps = self.status == S::Asleep && matches!(self.requested, None | Some(Request::Shutdown));
        self.acknowledge(S::Offline);
        self.requested = sleeps.then_some(Request::Asleep);
    }

    /// Somebody wants it to become something.
    pub fn request(&mut self, request: Request, lazy: bool) {
        (self.requested, self.lazy) = (Some(request), lazy);
    }

    /// It was silent for too long. When it is back it is to become what it was, unless it is to become
    /// something already.
    pub fn time_out(&mut self) {
        let before = Request::ALL
            .into_iter()
            .find(|request| request.status() == self.status && *request != Request::Shutdown);
        if self.requested.is_none() {
            self.request(before.unwrap_or(Request::Awake), false);
        }
        self.status = S::Timeout;
    }

    /// Somebody has seen that it timed out; whether it had.
    pub fn acknowledge_timeout(&mut self) -> bool {
        let timed_out = self.status == S::Timeout;
        if timed_out {
            self.status = S::Offline;
        }
        timed_out
    }

    /// What it is to become at once, even if it has a task. Waking up ends no task.
    pub fn must_become(&self) -> Option<Request> {
        self.requested.filter(|request| !self.lazy && *request != Request::Awake)
    }

    /// Asks for what its schedule says, unless it is that already, or is to become it.
    pub fn follow_schedule(&mut self, weekday: &str, minute: u16) {
        if let Some(wanted) = self.sleep.wanted(weekday, minute)
            && self.requested != Some(wanted)
            && (self.requested.is_some() || self.status != wanted.status())
        {
            self.request(wanted, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::farm::DayTime;

    fn worker(status: WorkerStatus, requested: Option<Request>) -> Worker {
        let worker = Worker::new(
            ObjectId::new(Timestamp::from_micros(0)),
            "node".into(),
            "linux".into(),
            vec!["sleep".into()],
        );
        Worker { status, requested, address: "10.0.0.1".into(), ..worker }
    }

    #[test]
    fn the_table_of_the_protocol() {
        for status in WorkerStatus::ALL {
            for requested in [None, Some(Request::Awake), Some(Request::Asleep), Some(Request::Shutdown)] {
                let after = |change: fn(&mut Worker)| {
                    let mut worker = worker(status, requested);
                    change(&mut worker);
                    (worker.status, worker.requested)
                };
                assert_eq!(
                    after(|worker| _ = worker.sign_on(vec![], String::new())),
                    (S::Starting, requested)
                );
                let working = if status == S::Testing { S::Testing } else { S::Awake };
                assert_eq!(after(Worker::works), (working, requested));
                assert_eq!(after(|worker| worker.acknowledge(S::Asleep)), (S::Asleep, None));
                assert_eq!(
                    after(|worker| worker.request(Request::Asleep, true)),
                    (status, Some(Request::Asleep))
                );
                let sleeps = status == S::Asleep && matches!(requested, None | Some(Request::Shutdown));
                assert_eq!(after(Worker::sign_off), (S::Offline, sleeps.then_some(Request::Asleep)));
                let before = match status {
                    S::Asleep => Request::Asleep,
                    S::Error => Request::Error,
                    _ => Request::Awake,
                };
                assert_eq!(
                    after(Worker::time_out),
                    (S::Timeout, Some(requested.unwrap_or(before))),
                    "{status:?}"
                );
                let acknowledged = if status == S::Timeout { S::Offline } else { status };
                assert_eq!(after(|worker| _ = worker.acknowledge_timeout()), (acknowledged, requested));
            }
        }
    }

    #[test]
    fn what_it_shows_again_and_again_is_noted_now_and_then() {
        let at = |second: i64| Timestamp::from_micros(second * 1_000_000);
        let mut worker = worker(S::Awake, None);
        for (called, now, expected) in [
            ("active", 10, ("active", 10)),
            ("", 11, ("active", 10)),
            ("active", 11, ("active", 10)),
            ("completed", 11, ("completed", 11)),
            ("", 13, ("completed", 13)),
        ] {
            worker.shows_task(called, at(now));
            let (status, second) = expected;
            assert_eq!(
                (&*worker.current_task_status, worker.current_task_updated),
                (status, Some(at(second))),
                "{called} {now}"
            );
        }
        worker.shows_task(&"é".repeat(100), at(20));
        assert_eq!(worker.current_task_status, "é".repeat(32));
    }

    #[test]
    fn only_an_immediate_request_stops_a_task() {
        for (requested, lazy, stops) in [
            (None, false, false),
            (Some(Request::Awake), false, false),
            (Some(Request::Asleep), true, false),
            (Some(Request::Asleep), false, true),
            (Some(Request::Shutdown), false, true),
        ] {
            let worker = Worker { lazy, ..worker(S::Awake, requested) };
            assert_eq!(worker.must_become().is_some(), stops);
        }
    }

    #[test]
    fn signing_on_changes_only_what_is_said() {
        let mut worker = worker(S::Offline, None);
        assert!(!worker.sign_on(vec!["sleep".into()], String::new()) && worker.nickname == "node");
        assert!(
            worker.sign_on(vec!["sleep".into(), "debug".into()], "other".into())
                && worker.nickname == "other"
        );
        assert!(worker.sign_on(vec!["debug".into(), "sleep".into()], String::new()), "the order counts");
        assert_eq!(worker.identifier(), "10.0.0.1 (other)");
        worker.nickname.clear();
        assert_eq!(worker.identifier(), "10.0.0.1");
    }

    #[test]
    fn a_schedule_asks_once() {
        let sleep = SleepSchedule {
            active: true,
            start: DayTime::parse("22:00"),
            end: DayTime::parse("23:00"),
            ..Default::default()
        };
        let mut awake = Worker { sleep, ..worker(S::Awake, None) };
        awake.follow_schedule("mo", 10 * 60);
        assert_eq!(awake.requested, None);
        awake.follow_schedule("mo", 22 * 60);
        assert_eq!((awake.requested, awake.lazy), (Some(Request::Asleep), false));
        awake.acknowledge(S::Asleep);
        awake.follow_schedule("mo", 22 * 60 + 1);
        assert_eq!(awake.requested, None);
        awake.follow_schedule("mo", 23 * 60);
        assert_eq!(awake.requested, Some(Request::Awake));
    }
}
