//! Why a task does not run: from what the ledger has at one time to reasons. No I/O, no clock.
//!
//! The store reads a [`Snapshot`]. [`Snapshot::reasons`] says how the task stands, [`Snapshot::reasons_at`]
//! how it stands at one endpoint; where several things are in the way, the one that has to be mended first
//! comes first. [`Summary`] adds up the endpoints of a task.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::reason::{Evidence, Reason, ReasonCode};
use super::{EndpointName, ResponseStatus, Task, TaskId, TaskStatus, Timestamp, TokenName, errnr};

/// What the ledger has of a task at one time, as far as it says why the task does not run.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The task.
    pub task: Task,
    /// Whether it is settled who must answer.
    pub frozen: bool,
    /// How often endpoints were asked for it again.
    pub asks: u32,
    /// When an API process looks at it next.
    pub due_at: Timestamp,
    /// Its place in the work queue of its type; none for a task that endpoints perform, and for one that has
    /// left its queue.
    pub line: Option<Line>,
    /// How it stands at the worker that has it, or at the endpoint that was asked about.
    pub standing: Option<Standing>,
}

/// The place of a task in its work queue.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it waits for.
    pub place: LinePlace,
    /// Since when it is in the line.
    pub since: Timestamp,
    /// Since when the queue is paused, and with which token somebody said so.
    pub paused: Option<(Timestamp, Option<TokenName>)>,
    /// Tasks before it, counted up to [`Line::MOST_AHEAD`] and one.
    pub ahead: u32,
    /// Tasks with its limit key that run, and some of their ids; none when it has no limit key.
    pub of_key: Option<(u32, Vec<TaskId>)>,
    /// Tasks of its type that run.
    pub running: u32,
    /// Who could perform it.
    pub workers: Workers,
}

impl Line {
    /// So many tasks before one are counted.
    pub const MOST_AHEAD: u32 = 10_000;
}

/// What a task in a work queue waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinePlace {
    /// A worker with room.
    Worker,
    /// Its limit key.
    Key,
    /// Its time.
    Time,
    /// Nothing: a worker has it, or it has ended.
    Nothing,
}

/// The workers of a type.
#[derive(Debug, Clone, Default)]
pub struct Workers {
    /// Those that are there.
    pub present: u32,
    /// How many tasks those without trouble perform at the same time.
    pub slots: u32,
    /// How many more they take.
    pub room: u32,
    /// Some of those that take none, each with the reason.
    pub troubled: Vec<(EndpointName, String)>,
    /// How many those are.
    pub in_trouble: u32,
    /// When the last one was heard of, if none is there.
    pub last_seen: Option<Timestamp>,
}

/// How many tasks may run at the same time.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunLimits {
    /// Of one type.
    pub of_type: Option<u32>,
    /// Of one limit key.
    pub of_key: Option<u32>,
}

/// How a task stands at an endpoint.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Which.
    pub endpoint: EndpointName,
    /// The response that it owes or has given; none when it does not have to answer.
    pub response: Option<Owed>,
    /// What it is to the type.
    pub subscription: Option<Subscribed>,
    /// When the endpoint was last heard of, whatever it said; none for one that is not known.
    pub last_seen: Option<Timestamp>,
}

/// The response of an endpoint.
#[derive(Debug, Clone)]
pub struct Owed {
    /// Where it stands.
    pub status: ResponseStatus,
    /// 0 for success.
    pub errnr: Option<i32>,
    /// When the endpoint had received it.
    pub received_at: Option<Timestamp>,
    /// When it last changed.
    pub changed_at: Timestamp,
    /// The journal that has it.
    pub home: Option<Uuid>,
    /// Percent done.
    pub progress: Option<u8>,
}

/// The subscription of an endpoint to the type.
#[derive(Debug, Clone)]
pub struct Subscribed {
    /// How.
    pub presence: PresenceNow,
    /// When it was last heard of for this type.
    pub last_seen: Timestamp,
    /// Its journal.
    pub home: Option<Uuid>,
    /// Why it takes no tasks.
    pub trouble: Option<String>,
    /// Another process of its name: since when, and whether it has another journal.
    pub second: Option<(Timestamp, bool)>,
}

/// Whether an endpoint is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceNow {
    /// It is.
    There,
    /// It said goodbye.
    Stopped,
    /// It went silent.
    Gone,
    /// It would take tasks of the type and never could.
    Never,
}

impl Snapshot {
    /// How the task stands. Of an open task that endpoints perform nothing is said where it depends on the
    /// endpoint.
    pub fn reasons(&self, limits: RunLimits) -> Vec<Reason> {
        if self.task.status.is_final() {
            return self.ended(limits);
        }
        if self.task.queued.is_some() {
            return match (&self.line, &self.standing) {
                (Some(line), _) if line.place != LinePlace::Nothing => self.in_line(line, limits),
                (_, Some(standing)) => self.reasons_at(standing),
                _ => Vec::new(),
            };
        }
        if self.task.status == TaskStatus::Created && self.task.published_at.is_none() || !self.frozen {
            return vec![self.not_published()];
        }
        if self.task.counts.expected == 0 {
            let text = "no endpoint was subscribed to the type when the task was submitted, so none has to perform it";
            let reason = Reason::new(ReasonCode::NobodySubscribed, text).since(self.task.start_time);
            return vec![reason.then(self.task.expires_at, "the task expires")];
        }
        Vec::new()
    }

    /// How the task stands at one endpoint.
    pub fn reasons_at(&self, standing: &Standing) -> Vec<Reason> {
        let of = |reason: Reason| {
            let evidence = Evidence { endpoint: Some(standing.endpoint.clone()), ..reason.evidence };
            Reason { evidence, ..reason }
        };
        let reasons = match &standing.response {
            None => self.not_expected(standing),
            Some(owed) => match owed.status {
                ResponseStatus::Finished => vec![finished(owed)],
                ResponseStatus::Canceled => {
                    vec![
                        Reason::new(
                            ReasonCode::Canceled,
                            "the task was canceled before the endpoint finished it",
                        )
                        .since(owed.changed_at),
                    ]
                }
                ResponseStatus::Expired => self.expired_at(standing, owed),
                ResponseStatus::Created => self.received_at(standing, owed),
                ResponseStatus::Expected => self.expected_at(standing),
            },
        };
        reasons.into_iter().map(of).collect()
    }

    fn not_published(&self) -> Reason {
        let text = "the task is recorded, and the broker has not confirmed it yet";
        let reason = Reason::new(ReasonCode::NotPublished, text).since(self.task.start_time);
        reason.then(self.due_at, "an API process publishes the task")
    }

    fn ended(&self, limits: RunLimits) -> Vec<Reason> {
        let task = &self.task;
        let since = task.finished_at;
        let one = |code, text: String| vec![Reason::new(code, text).since(since)];
        match task.status {
            TaskStatus::Done if task.counts.failed == 0 => {
                one(ReasonCode::Done, "the task was performed without an error".to_owned())
            }
            TaskStatus::Done => {
                let text =
                    format!("{} of {} finished with an error", task.counts.failed, task.counts.expected);
                one(ReasonCode::Failed, text)
            }
            TaskStatus::Canceled => {
                let new = task.queued.as_ref().and_then(|queued| queued.replaced_by);
                let mut reasons = match new {
                    Some(new) => {
                        let text = "a newer task with the same unique key has taken its place";
                        let evidence = Evidence { tasks: vec![new], ..Evidence::default() };
                        vec![Reason::new(ReasonCode::Replaced, text).since(since).with(evidence)]
                    }
                    None => one(ReasonCode::Canceled, "the task was canceled".to_owned()),
                };
                if task.counts.open() > 0 {
                    let text = format!(
                        "{} of {} have not confirmed that they stopped",
                        task.counts.open(),
                        task.counts.expected
                    );
                    let reason = Reason::new(ReasonCode::Stopping, text).since(since);
                    reasons.push(reason.then(self.due_at, "they are told again to stop"));
                }
                reasons
            }
            _ => {
                let text = match task.counts.expected {
                    0 if task.queued.is_some() => {
                        "the time of the task was over before a worker took it".to_owned()
                    }
                    0 => "the time of the task was over, and no endpoint had to perform it".to_owned(),
                    expected => {
                        let finished = task.counts.finished;
                        format!("the time of the task was over when {finished} of {expected} had finished")
                    }
                };
                let mut reasons = one(ReasonCode::Expired, text);
                // What was in the way then, as far as it still is.
                if let (Some(line), Some(end)) = (&self.line, since) {
                    reasons.extend(before(self.in_line(line, limits), end));
                }
                reasons
            }
        }
    }

    fn in_line(&self, line: &Line, limits: RunLimits) -> Vec<Reason> {
        let expires = |reason: Reason| {
            reason.then(self.task.expires_at, "the task expires unless a worker has taken it")
        };
        let mut reasons = Vec::new();
        if let Some((since, by)) = &line.paused {
            let text =
                "the queue of the type is paused: workers get no tasks of it until somebody resumes it";
            let evidence = Evidence { by: by.clone(), ..Evidence::default() };
            reasons.push(expires(Reason::new(ReasonCode::QueuePaused, text).since(*since).with(evidence)));
        }
        if line.place == LinePlace::Time {
            let run_at = self.task.queued.as_ref().and_then(|queued| queued.run_at);
            let reason = Reason::new(ReasonCode::WaitsForRunAt, "the task is not to begin yet")
                .since(self.task.start_time);
            reasons.push(reason.then(run_at, "the task gets into the line"));
        }
        if let Some((running, tasks)) = &line.of_key
            && (line.place == LinePlace::Key || limits.of_key.is_some_and(|limit| *running >= limit))
        {
            let text = format!("tasks with the same limit key run: {running}, and no more may");
            let evidence = Evidence {
                tasks: tasks.clone(),
                limit: limits.of_key,
                running: Some(*running),
                ..Evidence::default()
            };
            let reason = Reason::new(ReasonCode::LimitKeyHeld, text).with(evidence);
            reasons.push(reason.then(None, "one more of the key begins when one of these tasks ends"));
        }
        if let Some(limit) = limits.of_type.filter(|limit| line.running >= *limit) {
            let text = format!("{} tasks of the type run, and no more may (max_running)", line.running);
            let evidence =
                Evidence { limit: Some(limit), running: Some(line.running), ..Evidence::default() };
            let reason = Reason::new(ReasonCode::LimitReached, text).with(evidence);
            reasons.push(reason.then(None, "the next begins when one of them ends"));
        }
        reasons.extend(no_room(&line.workers).map(expires));
        for (endpoint, trouble) in &line.workers.troubled {
            let evidence = Evidence {
                endpoint: Some(endpoint.clone()),
                trouble: Some(trouble.clone()),
                ..Evidence::default()
            };
            let text = format!("worker {endpoint} takes no tasks: {trouble}");
            reasons.push(Reason::new(ReasonCode::of_trouble(trouble), text).with(evidence));
        }
        if line.place == LinePlace::Worker {
            let (ahead, more) = (line.ahead.min(Line::MOST_AHEAD), line.ahead > Line::MOST_AHEAD);
            let text = match (ahead, more) {
                (0, _) => "the task is the next of its queue".to_owned(),
                (ahead, true) => format!("more than {ahead} tasks of the queue are before it"),
                (ahead, false) => format!("tasks of the queue before it: {ahead}"),
            };
            let lost = self.task.queued.as_ref().map_or(0, |queued| queued.attempts.len());
            let attempts = u32::try_from(lost).ok().filter(|lost| *lost > 0);
            let evidence = Evidence { ahead: Some(ahead), more, attempts, ..Evidence::default() };
            let reason = Reason::new(ReasonCode::WaitsBehind, text).since(line.since).with(evidence);
            reasons
                .push(reason.then(None, "a worker gets the task when it has room and it is the task's turn"));
        }
        reasons
    }

    fn not_expected(&self, standing: &Standing) -> Vec<Reason> {
        let text = match (self.task.queued.is_some(), self.task.endpoints.is_empty()) {
            (true, _) => "the task is of a work queue, and this worker does not have it",
            (false, true) if !self.frozen => return vec![self.not_published()],
            (false, true) => "the endpoint was not subscribed to the type when the task was submitted",
            (false, false) => "the submission does not name the endpoint, or its target did not choose it",
        };
        let mut reasons = vec![Reason::new(ReasonCode::NotExpected, text)];
        match self.trouble(standing) {
            // Its target may have chosen it by other labels.
            Some(reason) if !reason.code.hinders() => reasons.insert(0, reason),
            Some(reason) if self.task.queued.is_some() => reasons.push(Reason { next: None, ..reason }),
            _ => {}
        }
        reasons.extend(self.away(standing));
        reasons
    }

    fn received_at(&self, standing: &Standing, owed: &Owed) -> Vec<Reason> {
        let evidence =
            Evidence { received_at: owed.received_at, progress: owed.progress, ..Evidence::default() };
        let there =
            standing.subscription.as_ref().filter(|subscription| subscription.presence == PresenceNow::There);
        let other =
            there.is_some_and(|there| there.home.is_some() && owed.home.is_some() && there.home != owed.home);
        let mut reasons = Vec::new();
        if self.task.status == TaskStatus::Canceled {
            let text = "the task was canceled, and the endpoint has not confirmed that it stopped";
            let reason =
                Reason::new(ReasonCode::Stopping, text).since(self.task.finished_at).with(evidence.clone());
            reasons.push(reason.then(self.due_at, "the endpoint is told again to stop"));
        }
        let lost = "the response fails as lost";
        if other {
            let text = "the endpoint received the task into another journal than the one it has now, which alone knows how far the task came";
            let reason = Reason::new(ReasonCode::JournalGone, text).since(owed.changed_at).with(evidence);
            reasons.push(reason.then(self.task.expires_at, lost));
        } else if there.is_none() {
            let away = self.away(standing).into_iter().map(|reason| {
                let text = format!("{}; it had received the task before", reason.text);
                let evidence = Evidence { received_at: owed.received_at, ..reason.evidence.clone() };
                Reason { text, ..reason }.with(evidence).then(self.task.expires_at, lost)
            });
            reasons.extend(away);
        } else if self.task.status != TaskStatus::Canceled {
            let (code, text) = match owed.progress {
                Some(_) => (ReasonCode::Running, "the endpoint performs the task and has not finished it"),
                None => (
                    ReasonCode::Received,
                    "the endpoint has received the task and has not said that it has begun: it waits there for its turn (the `concurrency` of the type), or \
                     the endpoint is of an older version that does not say so",
                ),
            };
            let reason = Reason::new(code, text).since(owed.received_at).with(evidence);
            let running =
                reason.then(self.task.expires_at, "the task expires unless the endpoint has finished it");
            let trouble = self.trouble(standing);
            // What has said how far it is has begun before.
            let stopped = owed.progress.is_none()
                && trouble.as_ref().is_some_and(|trouble| trouble.code == ReasonCode::StopFile);
            let both = if stopped { [trouble, Some(running)] } else { [Some(running), trouble] };
            reasons.extend(both.into_iter().flatten());
        }
        reasons
    }

    fn expected_at(&self, standing: &Standing) -> Vec<Reason> {
        let there = standing
            .subscription
            .as_ref()
            .is_some_and(|subscription| subscription.presence == PresenceNow::There);
        let hinders = |reason: &Reason| reason.code.hinders();
        let mut reasons: Vec<Reason> = self.trouble(standing).into_iter().filter(hinders).collect();
        if !there {
            reasons.extend(self.away(standing));
            return reasons;
        }
        if let Some((since, other)) =
            standing.subscription.as_ref().and_then(|subscription| subscription.second)
        {
            let (code, text) = match other {
                true => (
                    ReasonCode::Fenced,
                    "a second process of this name, with another journal, is kept out: the first one has the task",
                ),
                false => (
                    ReasonCode::StandsBy,
                    "a second process of this name stands by: the first one has the task",
                ),
            };
            let reason = Reason::new(code, text).since(since);
            reasons.push(
                reason.then(None, "the second process takes over when the first says goodbye or is missed"),
            );
        }
        if self.task.status == TaskStatus::Created && self.task.published_at.is_none() {
            reasons.push(self.not_published());
            return reasons;
        }
        let text = "the endpoint is there, was sent the task, and has not confirmed that it received it";
        let evidence = Evidence { attempts: Some(self.asks.saturating_add(1)), ..Evidence::default() };
        let reason = Reason::new(ReasonCode::RetryAt, text).since(self.task.published_at).with(evidence);
        reasons.push(reason.then(self.due_at, "the endpoint is asked again"));
        reasons
    }

    fn expired_at(&self, standing: &Standing, owed: &Owed) -> Vec<Reason> {
        let text = match owed.received_at {
            None => "the time of the task was over before the endpoint received it",
            Some(_) => "the time of the task was over before the endpoint finished it",
        };
        let evidence = Evidence { received_at: owed.received_at, ..Evidence::default() };
        let mut reasons = vec![Reason::new(ReasonCode::Expired, text).since(owed.changed_at).with(evidence)];
        reasons.extend(before(self.away(standing).into_iter().collect(), owed.changed_at));
        reasons
    }

    /// Why an endpoint that is there, or was heard of since, takes no tasks.
    fn trouble(&self, standing: &Standing) -> Option<Reason> {
        let subscription = standing.subscription.as_ref()?;
        let now = match subscription.presence {
            PresenceNow::There | PresenceNow::Never => true,
            // One that is silent for this type alone is refused it.
            PresenceNow::Stopped | PresenceNow::Gone => {
                standing.last_seen.is_some_and(|heard| heard > subscription.last_seen)
            }
        };
        let trouble = subscription.trouble.as_ref().filter(|_| now)?;
        let evidence = Evidence { trouble: Some(trouble.clone()), ..Evidence::default() };
        let code = ReasonCode::of_trouble(trouble);
        let (text, next) = match code.hinders() {
            true => ("takes no tasks now", "the endpoint is asked for the task when it takes tasks again"),
            false => (
                "takes tasks, and its labels may be old",
                "the endpoint tells its labels when it can read them",
            ),
        };
        let reason = Reason::new(code, format!("the endpoint {text}: {trouble}")).with(evidence);
        Some(reason.then(None, next))
    }

    /// Where an endpoint is that is not there; nothing for one that is.
    fn away(&self, standing: &Standing) -> Option<Reason> {
        let asked = "the endpoint is asked for the task when it is back";
        let reason = match (&standing.subscription, standing.last_seen) {
            (None, None) => Reason::new(
                ReasonCode::NeverHeardOf,
                "no endpoint of this name is known: none has ever been there, or it was forgotten",
            ),
            (None, Some(_)) => Reason::new(
                ReasonCode::NotSubscribed,
                "the endpoint is known, and never subscribed to the type",
            ),
            (Some(Subscribed { presence: PresenceNow::There, .. }), _) => return None,
            // That says why.
            (Some(Subscribed { presence: PresenceNow::Never, trouble: Some(_), .. }), _) => return None,
            (Some(Subscribed { presence: PresenceNow::Never, trouble: None, .. }), _) => Reason::new(
                ReasonCode::NotSubscribed,
                "the endpoint is known, and could never subscribe to the type",
            ),
            (Some(Subscribed { presence: PresenceNow::Stopped, last_seen, .. }), _) => {
                Reason::new(ReasonCode::EndpointStopped, "the endpoint was stopped: it said goodbye")
                    .since(*last_seen)
            }
            (Some(Subscribed { presence: PresenceNow::Gone, last_seen, .. }), _) => {
                Reason::new(ReasonCode::EndpointGone, "the endpoint went silent without a goodbye")
                    .since(*last_seen)
            }
        };
        let owes = standing.response.as_ref().is_some_and(|owed| !owed.status.is_final());
        Some(if owes { reason.then(None, asked) } else { reason })
    }
}

fn finished(owed: &Owed) -> Reason {
    let evidence = Evidence { errnr: owed.errnr, received_at: owed.received_at, ..Evidence::default() };
    let (code, text) = match owed.errnr {
        None | Some(0) => (ReasonCode::Done, "the endpoint performed the task without an error".to_owned()),
        Some(errnr::LOST) => (
            ReasonCode::Failed,
            "what came of the task is lost with the endpoint that had received it".to_owned(),
        ),
        Some(number) => (ReasonCode::Failed, format!("the endpoint finished the task with error {number}")),
    };
    Reason::new(code, text).since(owed.changed_at).with(evidence)
}

/// Why no worker has room.
fn no_room(workers: &Workers) -> Option<Reason> {
    let Workers { present, slots, room, in_trouble, last_seen, .. } = *workers;
    let evidence = Evidence { workers: Some(present), slots: Some(slots), ..Evidence::default() };
    if present == 0 {
        let text = match last_seen {
            Some(_) => "no worker of the type is there",
            None => "no worker of the type is known",
        };
        return Some(Reason::new(ReasonCode::NoWorker, text).since(last_seen).with(evidence));
    }
    if in_trouble == present {
        let text = format!("no worker takes tasks of the type: all that are there ({present}) have trouble");
        return Some(Reason::new(ReasonCode::NoWorker, text).with(evidence));
    }
    (room == 0).then(|| {
        let text = format!(
            "the workers of the type that are there ({present}) perform as many tasks as they take: {slots}"
        );
        Reason::new(ReasonCode::WorkersBusy, text).with(evidence)
    })
}

/// Those of the reasons that held at a time already. What would happen next does not any more.
fn before(reasons: Vec<Reason>, end: Timestamp) -> Vec<Reason> {
    let held = reasons.into_iter().filter(|reason| reason.since.is_some_and(|since| since <= end));
    held.map(|reason| Reason { next: None, ..reason }).collect()
}

/// The endpoints of a task by reason.
#[derive(Debug, Default)]
pub struct Summary {
    groups: BTreeMap<ReasonCode, Group>,
}

/// Endpoints with the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// How many.
    pub count: u32,
    /// Some of them: those that were added first.
    pub endpoints: Vec<EndpointName>,
    /// The reason of the first.
    pub example: Reason,
}

impl Summary {
    /// Names in a group at most.
    pub const NAMES: usize = 10;

    /// Adds an endpoint with its first reason.
    pub fn add(&mut self, endpoint: EndpointName, reasons: Vec<Reason>) {
        let Some(reason) = reasons.into_iter().next() else { return };
        let new = |example| Group { count: 0, endpoints: Vec::new(), example };
        let group = self.groups.entry(reason.code).or_insert_with(|| new(reason));
        group.count += 1;
        if group.endpoints.len() < Self::NAMES {
            group.endpoints.push(endpoint);
        }
    }

    /// The groups, the largest first.
    pub fn groups(self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        groups
    }
}

#[cfg(test)]
mod tests;
