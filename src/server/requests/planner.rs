//! Decides the changes of a request from its row, its jobs and the states of their tasks. No I/O, no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::domain::{
    EndpointName, JobStatus, NewTask, Request, RequestStatus, TaskId, TaskStatus, Timestamp, answered_extras,
    errnr, likeness, too_many_extras,
};
use crate::store::{Answer, Call, JobChange, NewJob, RequestChange, RequestView, Standing};

/// How often a job is tried, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Attempts at most.
    pub tries: u32,
    /// How long to wait before the next one.
    pub backoff: Backoff,
    /// How long an attempt may take; none for as long as its task lives.
    pub finish_within: Option<Duration>,
}

/// What the planner asks the configuration.
pub trait Jobs {
    /// How patient to be with the job of this name.
    fn patience(&self, job: &str) -> Patience;

    /// The task that performs a job.
    ///
    /// # Errors
    /// Why none can, as a sentence: the job has failed.
    fn task(&self, call: &Call<'_>, now: Timestamp) -> Result<NewTask, String>;

    /// How long a request may take.
    fn life(&self) -> Duration;
}

/// The changes of a request now; none when nothing changes.
pub fn next(view: &RequestView, jobs: &dyn Jobs, now: Timestamp) -> Option<RequestChange> {
    let mut course = Course::new(view, jobs, now);
    let closed = course.close();
    if course.request.status.is_final() {
        return closed.then(|| course.change());
    }
    if let Some(flaw) = course.request.flaw.clone() {
        course.give_up(flaw, "the request cannot be carried out");
    } else if course.expires_at <= now {
        course.give_up(
            format!("its time is over: it was to complete by {}", course.expires_at),
            "the time of the request is over",
        );
    } else {
        course.go_on();
    }
    Some(course.change())
}

/// An attempt as it was read, or is to be recorded, with what becomes of it.
#[derive(Debug, Clone)]
struct Attempt {
    /// Its number and the state it was read in; none for one that is to be recorded.
    recorded: Option<(u64, JobStatus)>,
    name: String,
    step: u32,
    number: u32,
    last: Option<u32>,
    status: JobStatus,
    error: Option<String>,
    extras: Option<BTreeMap<String, String>>,
    /// From when on it may run.
    begins: Timestamp,
    due_at: Option<Timestamp>,
    task_id: Option<TaskId>,
    /// The task that it is to be given.
    task: Option<Box<NewTask>>,
}

/// A request on its way through the steps.
struct Course<'a> {
    request: Request,
    attempts: Vec<Attempt>,
    standing: &'a std::collections::HashMap<TaskId, Standing>,
    jobs: &'a dyn Jobs,
    expires_at: Timestamp,
    extras_changed: bool,
    withdrawn: Vec<TaskId>,
    canceled: Vec<TaskId>,
    now: Timestamp,
}

impl<'a> Course<'a> {
    fn new(view: &'a RequestView, jobs: &'a dyn Jobs, now: Timestamp) -> Self {
        let attempt = |job: &crate::domain::Job| Attempt {
            recorded: Some((job.id, job.status)),
            name: job.name.clone(),
            step: job.step,
            number: job.attempt,
            last: job.last_attempt,
            status: job.status,
            error: job.error.clone(),
            extras: job.extras.clone(),
            begins: job.due_at.unwrap_or(job.created),
            due_at: job.due_at,
            task_id: job.task_id,
            task: None,
        };
        Self {
            request: view.request.clone(),
            attempts: view.jobs.iter().map(attempt).collect(),
            standing: &view.standing,
            jobs,
            expires_at: view.request.expires_at.unwrap_or_else(|| now.after(jobs.life())),
            extras_changed: false,
            withdrawn: Vec::new(),
            canceled: Vec::new(),
            now,
        }
    }

    /// Closes the attempts whose tasks have ended, or take too long. Answers whether there were any.
    fn close(&mut self) -> bool {
        let mut closed = false;
        for at in 0..self.attempts.len() {
            let attempt = &self.attempts[at];
            if attempt.status != JobStatus::Inprogress {
                continue;
            }
            let end = match attempt.task_id.map(|id| (id, self.standing.get(&id))) {
                None => End::failed("no task performs it: it was begun by another program"),
                Some((_, None)) => End::failed("its task was forgotten before its outcome was looked at"),
                Some((_, Some(Standing::Ended { status, unfinished, failed, answers, .. }))) => {
                    End::of(*status, *unfinished, *failed, answers)
                }
                Some((id, Some(standing))) => {
                    let within = self.jobs.patience(&attempt.name).finish_within;
                    let Some(within) = within.filter(|within| attempt.begins.after(*within) <= self.now)
                    else {
                        continue;
                    };
                    self.canceled.push(id);
                    End::failed(&too_late(within, standing))
                }
            };
            closed = true;
            self.end(at, end);
        }
        closed
    }

    /// Ends an attempt; what it has found out goes into the extras of the request, in the order of the
    /// attempts of its step.
    fn end(&mut self, at: usize, mut end: End) {
        if !end.extras.is_empty() {
            let before = self.attempts[at].extras.replace(std::mem::take(&mut end.extras));
            let mut merged = self.request.extras.clone();
            let of_step = self.attempts.iter().filter(|attempt| attempt.step == self.attempts[at].step);
            for (key, text) in of_step.filter_map(|attempt| attempt.extras.as_ref()).flatten() {
                merged.insert(key.clone(), text.clone());
            }
            match too_many_extras(&merged) {
                None => {
                    self.extras_changed |= merged != self.request.extras;
                    self.request.extras = merged;
                }
                Some(told) => {
                    self.attempts[at].extras = before;
                    end = End::failed(&told);
                }
            }
        }
        let attempt = &mut self.attempts[at];
        (attempt.status, attempt.error) = (end.status, end.error);
    }

    /// Ends a request that cannot complete, and everything of it that is open.
    fn give_up(&mut self, error: String, told: &str) {
        for attempt in self.attempts.iter_mut().filter(|attempt| !attempt.status.is_final()) {
            self.canceled.extend(attempt.task_id);
            (attempt.status, attempt.error) = (JobStatus::Failed, Some(told.to_owned()));
        }
        self.request.error.get_or_insert(error);
        self.finish(RequestStatus::Failed);
    }

    fn finish(&mut self, status: RequestStatus) {
        (self.request.status, self.request.completed) = (status, Some(self.now));
    }

    fn go_on(&mut self) {
        if self.request.status == RequestStatus::Queuing {
            self.request.status = RequestStatus::Inprogress;
            self.request.step = 0;
            // The first step runs in any case but one: that a job before it has failed.
            if !self.enter_from(0) {
                return;
            }
        }
        loop {
            if self.failure().is_none() {
                self.run_step();
            }
            let place = self.place();
            if let Some((job, error)) = self.failure() {
                self.withdraw();
                let step = self.step_name();
                self.request.error.get_or_insert_with(|| format!("step `{step}`, job `{job}`: {error}"));
                // Jobs that run go on; nothing waits for them.
                if !self.request.steps.iter().skip(place + 1).any(|step| step.when.admits(true)) {
                    return self.finish(RequestStatus::Failed);
                }
            }
            if !self.step_is_over() || !self.enter_from(place + 1) {
                return;
            }
        }
    }

    /// Enters the first step from this place on that is to run; ends the request when none is. Answers
    /// whether there is one.
    fn enter_from(&mut self, place: usize) -> bool {
        let failed = self.request.error.is_some();
        let found =
            self.request.steps.iter().enumerate().skip(place).find(|(_, step)| step.when.admits(failed));
        let Some((place, _)) = found else {
            self.finish(if failed { RequestStatus::Failed } else { RequestStatus::Completed });
            return false;
        };
        self.request.step = u32::try_from(place).unwrap_or(u32::MAX);
        // After failed jobs were begun anew, the steps behind them run anew, too.
        for at in self.newest().into_iter().flatten() {
            if self.attempts[at].status.is_final() {
                let (name, number) = (self.attempts[at].name.clone(), self.attempts[at].number);
                let tries = self.jobs.patience(&name).tries;
                self.record(name, number + 1, Some(number.saturating_add(tries)), None);
            }
        }
        true
    }

    fn place(&self) -> usize {
        usize::try_from(self.request.step).unwrap_or(usize::MAX)
    }

    fn step_name(&self) -> String {
        self.request.steps.get(self.place()).map_or_else(String::new, |step| step.name.clone())
    }

    /// The last attempt of each job of the step, by the place of the job in it.
    fn newest(&self) -> Vec<Option<usize>> {
        let mut newest: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, attempt) in
            self.attempts.iter().enumerate().filter(|(_, attempt)| attempt.step == self.request.step)
        {
            let best = newest.entry(&attempt.name).or_insert(at);
            if self.attempts[*best].number < attempt.number {
                *best = at;
            }
        }
        let jobs = self.request.steps.get(self.place()).map_or(&[][..], |step| &step.jobs);
        jobs.iter().map(|job| newest.get(job.as_str()).copied()).collect()
    }

    /// A job of the step that has failed, with its error.
    fn failure(&self) -> Option<(String, String)> {
        let newest = self.newest();
        let failed = |status| {
            newest.iter().flatten().map(|at| &self.attempts[*at]).find(|attempt| attempt.status == status)
        };
        let attempt = failed(JobStatus::Failed).or_else(|| failed(JobStatus::Canceled))?;
        Some((attempt.name.clone(), attempt.error.clone().unwrap_or_else(|| "canceled".into())))
    }

    fn step_is_over(&self) -> bool {
        self.newest().into_iter().all(|at| at.is_some_and(|at| self.attempts[at].status.is_final()))
    }

    /// Begins attempts of the step: the first one of a job, one whose time has come, and one after an attempt
    /// that asked for another.
    fn run_step(&mut self) {
        let jobs = self.request.steps.get(self.place()).map_or_else(Vec::new, |step| step.jobs.clone());
        for (job, newest) in jobs.into_iter().zip(self.newest()) {
            let at = match newest.map(|at| (at, self.attempts[at].status)) {
                None => self.record(job, 1, None, None),
                Some((at, JobStatus::New)) => at,
                Some((at, JobStatus::Retry)) => match self.try_again(at) {
                    Some(at) => at,
                    None => continue,
                },
                Some(_) => continue,
            };
            if self.attempts[at].due_at.is_none_or(|due| due <= self.now) {
                self.begin(at);
            }
        }
    }

    /// Records the next attempt of a job, or says that this was the last.
    fn try_again(&mut self, at: usize) -> Option<usize> {
        let attempt = &mut self.attempts[at];
        let patience = self.jobs.patience(&attempt.name);
        let last = attempt.last.unwrap_or(patience.tries);
        if attempt.number >= last {
            let error = attempt.error.take().unwrap_or_default();
            (attempt.status, attempt.error) =
                (JobStatus::Failed, Some(format!("{error} (attempt {} of {last})", attempt.number)));
            return None;
        }
        // Those before the failed jobs were begun anew do not count.
        let made = attempt.number.saturating_sub(last.saturating_sub(patience.tries)).max(1);
        let due_at = self.now.after(patience.backoff.ceiling(made));
        let (name, number, given) = (attempt.name.clone(), attempt.number + 1, attempt.last);
        Some(self.record(name, number, given, Some(due_at)))
    }

    fn record(&mut self, name: String, number: u32, last: Option<u32>, due_at: Option<Timestamp>) -> usize {
        self.attempts.push(Attempt {
            recorded: None,
            name,
            step: self.request.step,
            number,
            last,
            status: JobStatus::New,
            error: None,
            extras: None,
            begins: due_at.unwrap_or(self.now),
            due_at,
            task_id: None,
            task: None,
        });
        self.attempts.len() - 1
    }

    /// Gives an attempt its task.
    fn begin(&mut self, at: usize) {
        let attempt = &self.attempts[at];
        let call =
            Call { request: &self.request, step: attempt.step, job: &attempt.name, attempt: attempt.number };
        let task = self.jobs.task(&call, self.now);
        let attempt = &mut self.attempts[at];
        match task {
            Ok(task) => {
                attempt.status = JobStatus::Inprogress;
                attempt.task_id = Some(task.id);
                attempt.task = Some(Box::new(task));
            }
            Err(told) => (attempt.status, attempt.error) = (JobStatus::Failed, Some(told)),
        }
    }

    /// Withdraws the jobs of the step that nobody has begun.
    fn withdraw(&mut self) {
        for at in self.newest().into_iter().flatten() {
            let attempt = &mut self.attempts[at];
            let waits =
                || attempt.task_id.filter(|id| matches!(self.standing.get(id), Some(Standing::Waits)));
            match attempt.status {
                JobStatus::New => {}
                // Its task is not recorded yet.
                JobStatus::Inprogress if attempt.task.is_some() => {
                    (attempt.task, attempt.task_id) = (None, None)
                }
                JobStatus::Inprogress => match waits() {
                    Some(id) => self.withdrawn.push(id),
                    None => continue,
                },
                _ => continue,
            }
            (attempt.status, attempt.error) =
                (JobStatus::Canceled, Some("another job of the step has failed".to_owned()));
        }
    }

    /// When something happens that nobody tells of.
    fn due_at(&self) -> Option<Timestamp> {
        let due = |attempt: &Attempt| match attempt.status {
            JobStatus::New => attempt.due_at,
            JobStatus::Inprogress => {
                self.jobs.patience(&attempt.name).finish_within.map(|within| attempt.begins.after(within))
            }
            _ => None,
        };
        self.attempts.iter().filter_map(due).min().filter(|due| *due < self.expires_at)
    }

    fn change(self) -> RequestChange {
        let due_at = if self.request.status.is_final() { None } else { self.due_at() };
        let (mut jobs, mut new_jobs) = (Vec::new(), Vec::new());
        for attempt in self.attempts {
            let Attempt { recorded, name, step, number, last, status, error, extras, due_at, task, .. } =
                attempt;
            match recorded {
                Some((_, from)) if from == status => {}
                Some((id, from)) => jobs.push(JobChange { id, from, to: status, error, extras, task }),
                None => new_jobs.push(NewJob {
                    name,
                    step,
                    attempt: number,
                    last_attempt: last,
                    status,
                    error,
                    due_at,
                    task,
                }),
            }
        }
        RequestChange {
            status: self.request.status,
            error: self.request.error,
            step: self.request.step,
            extras: self.extras_changed.then_some(self.request.extras),
            completed: self.request.completed,
            due_at,
            expires_at: self.expires_at,
            jobs,
            new_jobs,
            withdrawn: self.withdrawn,
            canceled: self.canceled,
        }
    }
}

/// How an attempt has ended.
#[derive(Debug, PartialEq, Eq)]
struct End {
    status: JobStatus,
    error: Option<String>,
    extras: BTreeMap<String, String>,
}

impl End {
    fn failed(told: &str) -> Self {
        Self { status: JobStatus::Failed, error: Some(told.to_owned()), extras: BTreeMap::new() }
    }

    /// By how its task has ended: an answer of 0 completes it, 75 asks for another attempt, everything else
    /// is a failure.
    /// `failed` counts also the endpoints whose answers were too long to be read with the others: a failure
    /// among them is one.
    fn of(status: TaskStatus, unfinished: u32, failed: u32, answers: &[Answer]) -> Self {
        let mut extras = BTreeMap::new();
        for answer in answers {
            match answer.payload.as_deref().map_or_else(|| Ok(BTreeMap::new()), answered_extras) {
                Ok(found) => extras.extend(found),
                Err(fault) => return Self::failed(&format!("the answer of {} {fault}", answer.endpoint)),
            }
        }
        let told = |answer: &Answer| match (answer.errnr, answer.errmsg.as_str()) {
            (None, "") => "has not finished".to_owned(),
            (Some(errnr), "") => format!("error {errnr}"),
            (_, text) => text.to_owned(),
        };
        // With several endpoints, the text names the endpoint that failed.
        let told = |answer: &Answer| match answers.len() {
            1 => told(answer),
            _ => format!("{}: {}", answer.endpoint, told(answer)),
        };
        let bad = |answer: &&Answer| !matches!(answer.errnr, Some(0 | errnr::TRY_AGAIN));
        let read = answers.iter().filter(|answer| answer.errnr.is_some_and(|errnr| errnr != 0)).count();
        let unread = failed.saturating_sub(u32::try_from(read).unwrap_or(u32::MAX));
        let (status, error) = match (status, answers.iter().find(bad)) {
            (TaskStatus::Canceled, _) => (JobStatus::Failed, Some("its task was canceled".to_owned())),
            (TaskStatus::Done, None) if unread > 0 => {
                let text = format!(
                    "{unread} endpoints failed whose answers are too long to be read with the others"
                );
                (JobStatus::Failed, Some(text))
            }
            (TaskStatus::Done, None) => match answers.iter().find(|answer| answer.errnr != Some(0)) {
                None => (JobStatus::Completed, None),
                Some(again) => (JobStatus::Retry, Some(told(again))),
            },
            (TaskStatus::Done, Some(answer)) => (JobStatus::Failed, Some(told(answer))),
            (_, Some(answer)) if answer.errnr.is_some() => (JobStatus::Failed, Some(told(answer))),
            (_, Some(_)) if answers.len() > 1 => {
                let names =
                    answers.iter().filter(|answer| answer.errnr.is_none()).map(|answer| &answer.endpoint);
                (
                    JobStatus::Failed,
                    Some(format!("its task expired; not finished: {}", listed(names, unfinished))),
                )
            }
            _ => (JobStatus::Failed, Some("its task expired before it was finished".to_owned())),
        };
        Self { status, error, extras }
    }
}

/// Names of endpoints, of so many in all.
fn listed<'a>(names: impl IntoIterator<Item = &'a EndpointName>, all: u32) -> String {
    let names: Vec<&str> = names.into_iter().map(EndpointName::as_str).collect();
    likeness::listed_of(&names, usize::try_from(all).unwrap_or(usize::MAX))
}

/// Why a job has failed that was not finished in time.
fn too_late(within: Duration, standing: &Standing) -> String {
    let within = crate::config::span::format(within);
    match standing {
        Standing::Runs { missing: (names, count) } if *count > 0 => {
            format!("not finished within {within}: {} did not receive it", listed(names, *count))
        }
        Standing::Waits => format!("not finished within {within}: no worker had room for it"),
        _ => format!("not finished within {within}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Job, RequestToken, Step, When, digest, json};

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    /// Every job but `nobody` has a task; `slow` may take a minute.
    struct Anybody;

    impl Jobs for Anybody {
        fn patience(&self, job: &str) -> Patience {
            let backoff = Backoff { first: Duration::from_secs(10), max: Duration::from_secs(30) };
            Patience { tries: 3, backoff, finish_within: (job == "slow").then_some(MINUTE) }
        }

        fn task(&self, call: &Call<'_>, now: Timestamp) -> Result<NewTask, String> {
            if call.job == "nobody" {
                return Err("unknown job \"nobody\"".into());
            }
            let payload = json(&(call.job, call.attempt));
            Ok(NewTask {
                id: TaskId::new(),
                task_type: "a".parse().expect("a type"),
                identifier: "a".parse().expect("an identifier"),
                digest: digest(payload.get(), &[]),
                payload,
                endpoints: Vec::new(),
                target: None,
                rerun_of: None,
                place: None,
                start_time: now,
                receive_by: now,
                expires_at: now,
                submitted_by: None,
                source: None,
                followed: true,
                rollout: None,
                held: false,
            })
        }

        fn life(&self) -> Duration {
            60 * MINUTE
        }
    }

    /// A request in memory, and its tasks.
    struct World {
        view: RequestView,
        withdrawn: BTreeSet<TaskId>,
    }

    impl World {
        fn new(steps: &[(&[&str], When)]) -> Self {
            let step = |(at, (jobs, when)): (usize, &(&[&str], When))| Step {
                name: format!("s{at}"),
                jobs: jobs.iter().map(|job| (*job).to_owned()).collect(),
                when: *when,
            };
            let request = Request {
                token: RequestToken::of("it"),
                request_token: None,
                action: "go".into(),
                status: RequestStatus::Queuing,
                error: None,
                step: 0,
                steps: steps.iter().enumerate().map(step).collect(),
                params: json(&1),
                extras: BTreeMap::new(),
                flaw: None,
                created: at(0),
                completed: None,
                expires_at: Some(at(3600)),
            };
            Self {
                view: RequestView { request, jobs: Vec::new(), standing: HashMap::new() },
                withdrawn: BTreeSet::new(),
            }
        }

        /// What the ledger does with a change. Answers whether anything but the time to look again is new.
        fn pass(&mut self, now: Timestamp) -> Option<RequestChange> {
            let seen = RequestView {
                jobs: self
                    .view
                    .jobs
                    .iter()
                    .filter(|job| job.step >= self.view.request.step)
                    .cloned()
                    .collect(),
                ..self.view.clone()
            };
            let change = next(&seen, &Anybody, now)?;
            let request = &mut self.view.request;
            (request.status, request.error) = (change.status, change.error.clone());
            (request.step, request.completed) = (change.step, change.completed);
            request.extras = change.extras.clone().unwrap_or_else(|| request.extras.clone());
            for of in &change.jobs {
                let job = self.view.jobs.iter_mut().find(|job| job.id == of.id).expect("it is there");
                assert_eq!(job.status, of.from);
                (job.status, job.error) = (of.to, of.error.clone());
                job.extras = of.extras.clone().or_else(|| job.extras.clone());
                job.task_id = of.task.as_ref().map(|task| task.id).or(job.task_id);
            }
            for of in &change.new_jobs {
                let (id, task_id) = (self.view.jobs.len() as u64 + 1, of.task.as_ref().map(|task| task.id));
                let key = |job: &Job| (job.step, job.name.clone(), job.attempt);
                let job = Job {
                    id,
                    name: of.name.clone(),
                    step: of.step,
                    attempt: of.attempt,
                    last_attempt: of.last_attempt,
                    status: of.status,
                    error: of.error.clone(),
                    extras: None,
                    created: now,
                    due_at: of.due_at,
                    completed: None,
                    task_id,
                };
                assert!(self.view.jobs.iter().all(|other| key(other) != key(&job)), "{job:?} is there twice");
                self.view.jobs.push(job);
            }
            let tasks = change
                .jobs
                .iter()
                .filter_map(|job| job.task.as_ref())
                .chain(change.new_jobs.iter().filter_map(|job| job.task.as_ref()));
            self.view.standing.extend(tasks.map(|task| (task.id, Standing::Waits)));
            self.withdrawn.extend(&change.withdrawn);
            Some(change)
        }

        fn running(&self) -> Vec<(TaskId, String)> {
            let running = self.view.jobs.iter().filter(|job| job.status == JobStatus::Inprogress);
            running.filter_map(|job| Some((job.task_id?, job.name.clone()))).collect()
        }

        fn end(&mut self, id: TaskId, errnr: i32, payload: &str) {
            let answer = Answer {
                endpoint: "ep".parse().expect("a name"),
                errnr: Some(errnr),
                errmsg: String::new(),
                payload: serde_json::from_str(payload).ok(),
            };
            self.view.standing.insert(
                id,
                Standing::Ended {
                    status: TaskStatus::Done,
                    at: None,
                    unfinished: 0,
                    failed: 0,
                    answers: vec![answer],
                },
            );
        }

        fn told(&self) -> Vec<(&str, u32, &str)> {
            self.view.jobs.iter().map(|job| (job.name.as_str(), job.attempt, job.status.as_str())).collect()
        }
    }

    #[test]
    fn an_outcome_is_told_by_the_numbers_of_all() {
        let answer = |endpoint: &str, errnr: Option<i32>, errmsg: &str| Answer {
            endpoint: endpoint.parse().expect("a name"),
            errnr,
            errmsg: errmsg.into(),
            payload: None,
        };
        let (good, again, bad) =
            (answer("a", Some(0), ""), answer("b", Some(75), "later"), answer("c", Some(3), ""));
        let (silent, lost) = (answer("d", None, ""), answer("e", Some(69), "lost"));
        use JobStatus as J;
        use TaskStatus as T;
        for (status, answers, ends, error) in [
            (T::Done, vec![&good], J::Completed, None),
            (T::Done, vec![], J::Completed, None),
            (T::Done, vec![&again], J::Retry, Some("later")),
            (T::Done, vec![&good, &again], J::Retry, Some("b: later")),
            (T::Done, vec![&bad], J::Failed, Some("error 3")),
            (T::Done, vec![&again, &bad, &good], J::Failed, Some("c: error 3")),
            (T::Done, vec![&lost], J::Failed, Some("lost")),
            (T::Canceled, vec![&good], J::Failed, Some("its task was canceled")),
            (T::Expired, vec![], J::Failed, Some("its task expired before it was finished")),
            (T::Expired, vec![&silent], J::Failed, Some("its task expired before it was finished")),
            (T::Expired, vec![&good, &silent], J::Failed, Some("its task expired; not finished: d")),
        ] {
            let unfinished =
                u32::try_from(answers.iter().filter(|answer| answer.errnr.is_none()).count()).expect("few");
            let failed = answers.iter().filter(|answer| !matches!(answer.errnr, None | Some(0))).count();
            let failed = u32::try_from(failed).expect("few");
            let answers: Vec<Answer> = answers.into_iter().cloned().collect();
            let end = End::of(status, unfinished, failed, &answers);
            assert_eq!((end.status, end.error.as_deref()), (ends, error), "{status:?} {answers:?}");
        }
        let unread = End::of(T::Done, 0, 2, std::slice::from_ref(&good));
        assert_eq!(
            (unread.status, unread.error.is_some_and(|error| error.starts_with("2 endpoints"))),
            (J::Failed, true)
        );
        let strange = Answer { payload: serde_json::from_str(r#"{"extras": {"a": 1}}"#).ok(), ..good };
        let end = End::of(T::Done, 0, 0, &[strange]);
        assert_eq!((end.status, end.extras.len()), (J::Failed, 0));
        assert!(end.error.is_some_and(|error| error.contains("the answer of a has `extras` with a number")));
    }

    #[test]
    fn what_is_too_late_is_canceled() {
        let mut world = World::new(&[(&["slow", "b"], When::AllOk)]);
        let change = world.pass(at(0)).expect("it begins");
        assert_eq!(change.due_at, Some(at(60)));
        let slow = world.running()[0].0;
        let names = vec!["e1".parse().expect("a name")];
        world.view.standing.insert(slow, Standing::Runs { missing: (names, 3) });
        assert_eq!(world.pass(at(59)).expect("looked at").jobs.len(), 0);
        let change = world.pass(at(60)).expect("it ends");
        assert_eq!((change.canceled, change.withdrawn.len()), (vec![slow], 1));
        assert_eq!(world.told(), [("slow", 1, "failed"), ("b", 1, "canceled")]);
        let error = "step `s0`, job `slow`: not finished within 1m: e1 and 2 more did not receive it";
        assert_eq!(world.view.request.error.as_deref(), Some(error));
    }

    #[test]
    fn a_request_is_given_up_when_its_time_is_over() {
        let mut world = World::new(&[(&["a"], When::AllOk), (&["b"], When::AllDone)]);
        world.pass(at(0));
        let change = world.pass(at(3600)).expect("it ends");
        assert_eq!((change.status, change.canceled.len()), (RequestStatus::Failed, 1));
        assert_eq!(world.told(), [("a", 1, "failed")]);
        assert!(world.view.request.error.as_ref().is_some_and(|error| error.contains("its time is over")));
    }

    #[test]
    fn a_job_that_nobody_performs_fails_before_its_siblings_begin() {
        let mut world = World::new(&[(&["a", "nobody"], When::AllOk)]);
        world.pass(at(0));
        assert_eq!(world.told(), [("a", 1, "canceled"), ("nobody", 1, "failed")]);
        assert!(world.running().is_empty() && world.withdrawn.is_empty());
        assert_eq!(world.view.request.status, RequestStatus::Failed);
    }

    #[test]
    fn steps_run_as_they_say() {
        use When::{AllDone, AllOk, AnyFailed};
        let run = |whens: &[When], fails: &str| {
            let names: Vec<String> = (0..whens.len()).map(|at| format!("j{at}")).collect();
            let jobs: Vec<[&str; 1]> = names.iter().map(|name| [name.as_str()]).collect();
            let steps: Vec<(&[&str], When)> =
                jobs.iter().zip(whens).map(|(jobs, when)| (jobs.as_slice(), *when)).collect();
            let mut world = World::new(&steps);
            for now in 0..20 {
                world.pass(at(now));
                for (id, name) in world.running() {
                    world.end(id, i32::from(name == fails), "{}");
                }
            }
            let ran: Vec<String> = world.view.jobs.iter().map(|job| job.name.clone()).collect();
            (ran.join(" "), world.view.request.status.as_str())
        };
        for (whens, fails, ran, status) in [
            (&[AllOk, AllOk][..], "", "j0 j1", "Completed"),
            (&[AllOk, AllOk], "j0", "j0", "Failed"),
            (&[AllOk, AnyFailed], "", "j0", "Completed"),
            (&[AnyFailed], "", "", "Completed"),
            (&[AllOk, AllOk, AnyFailed, AllDone], "j0", "j0 j2 j3", "Failed"),
            (&[AllOk, AllOk, AnyFailed, AllDone], "j1", "j0 j1 j2 j3", "Failed"),
            (&[AllOk, AllOk, AnyFailed, AllDone], "j3", "j0 j1 j3", "Failed"),
            (&[AllOk, AllDone, AllOk], "j0", "j0 j1", "Failed"),
            (&[AllOk, AnyFailed, AnyFailed], "j0", "j0 j1 j2", "Failed"),
        ] {
            assert_eq!(run(whens, fails), (ran.to_owned(), status), "{whens:?}, {fails} fails");
        }
    }

    proptest! {
        /// Whatever tasks answer, in whatever order, and however often somebody looks.
        #[test]
        fn every_request_ends(
            steps in proptest::collection::vec((1usize..4, 0usize..3), 1..5),
            ends in proptest::collection::vec((0usize..8, 0usize..10, 1i64..40), 200),
        ) {
            let names = ["a", "b", "c"];
            let steps: Vec<(&[&str], When)> = steps.iter().map(|(jobs, when)| (&names[..*jobs], When::ALL[*when])).collect();
            let mut world = World::new(&steps);
            let (mut now, mut last_step) = (0, 0);
            for (which, how, later) in ends {
                world.pass(at(now));
                let request = &world.view.request;
                prop_assert!(request.step >= last_step, "steps go forward");
                last_step = request.step;
                if !request.status.is_final() {
                    prop_assert!(world.view.jobs.iter().filter(|job| !job.status.is_final()).all(|job| job.step == request.step));
                    let open = world.view.jobs.iter().any(|job| !job.status.is_final());
                    prop_assert!(open, "it waits for something: {:?}", world.told());
                }
                let running = world.running();
                if let Some((id, _)) = running.get(which % running.len().max(1)) {
                    match how {
                        0..=5 => world.end(*id, 0, r#"{"extras": {"k": "v"}}"#),
                        6 | 7 => world.end(*id, 75, "{}"),
                        8 => world.end(*id, 1, "{}"),
                        _ => drop(world.view.standing.insert(*id, Standing::Runs { missing: (Vec::new(), 0) })),
                    }
                }
                now += later;
            }
            // In the end its own time is over.
            world.pass(at(now.max(3600)));
            for (id, _) in world.running() {
                world.end(id, 0, "{}");
            }
            world.pass(at(now.max(3600)));
            let request = &world.view.request;
            prop_assert!(request.status.is_final() && request.completed.is_some());
            prop_assert!(world.view.jobs.iter().all(|job| job.status.is_final()), "{:?}", world.told());
            prop_assert_eq!(request.status == RequestStatus::Failed, request.error.is_some());
            let bad = world.view.jobs.iter().any(|job| matches!(job.status, JobStatus::Failed | JobStatus::Canceled));
            prop_assert_eq!(bad, request.status == RequestStatus::Failed);
            // What was withdrawn never runs.
            prop_assert!(world.running().iter().all(|(id, _)| !world.withdrawn.contains(id)));
        }
    }
}
