//! Requests: recorded once, moved by one process at a time, whatever producers insert with SQL.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tasker::backoff::Backoff;
use tasker::domain::{
    Job, JobStatus, NewRequest, NewTask, Report, ReportEvent, Request, RequestStatus, RequestToken, Step,
    TaskId, Timestamp, When, json,
};
use tasker::requests::{Jobs, Patience, next};
use tasker::store::{
    Advanced, Begun, Call, Plan, Recorded, RequestCensusQuery, RequestQuery, SharedStore, Terms,
};

use super::ledger::{Ledger, PATIENCE, RETENTION, at, finished, name, noon, report, task, together};

/// Jobs that endpoint `ep` performs, except `nobody`, which nobody does. `stubborn` is tried a hundred times,
/// others three times.
struct ByEndpoint;

impl Jobs for ByEndpoint {
    fn patience(&self, job: &str) -> Patience {
        let backoff = Backoff { first: Duration::from_secs(10), max: Duration::from_secs(15) };
        Patience { tries: if job == "stubborn" { 100 } else { 3 }, backoff, finish_within: None }
    }

    fn task(&self, call: &Call<'_>, now: Timestamp) -> Result<NewTask, String> {
        if call.job == "nobody" {
            return Err("unknown job \"nobody\"".into());
        }
        let identifier = format!("{}.{}.{}.{}", call.request.token, call.step, call.job, call.attempt);
        let told = json(&(call.job, &call.request.extras));
        Ok(NewTask {
            endpoints: vec![name("ep")],
            payload: told,
            start_time: now,
            followed: true,
            ..task(&identifier)
        })
    }

    fn life(&self) -> Duration {
        Duration::from_secs(7 * 24 * 3600)
    }
}

fn step(name: &str, jobs: &[&str], when: When) -> Step {
    Step { name: name.into(), jobs: jobs.iter().map(|job| (*job).to_owned()).collect(), when }
}

fn request(client: Option<&str>, steps: Vec<Step>) -> NewRequest {
    let params = json(&serde_json::json!({"id": 333}));
    NewRequest::new(client.map(str::to_owned), "go".into(), params, steps, noon(), at(3600)).expect("valid")
}

fn plan(now: Timestamp) -> Arc<Plan> {
    Arc::new(move |view| next(view, &ByEndpoint, now))
}

/// One pass over what is due.
async fn pass(store: &SharedStore, now: Timestamp) -> Result<Advanced> {
    let due = store.due_requests(now, 100).await?;
    let terms = Terms {
        rules: Vec::new().into(),
        lease_until: now.after(Duration::from_secs(10)),
        retention: RETENTION,
    };
    let advanced = store.advance(&due, plan(now), &terms, now).await?;
    let sets: Vec<_> = advanced
        .tasks
        .iter()
        .map(|(task, _)| tasker::store::Freeze { id: task.id, expected: vec![name("ep")] })
        .collect();
    store.freeze(&sets, now).await?;
    Ok(advanced)
}

async fn state(ledger: &Ledger, token: &RequestToken) -> Result<(Request, Vec<Job>)> {
    Ok((ledger.store.request(token).await?.context("it is gone")?, ledger.store.jobs(token).await?))
}

/// Names and states of the attempts, in the order of recording.
fn told(jobs: &[Job]) -> Vec<(&str, u32, &str)> {
    jobs.iter().map(|job| (job.name.as_str(), job.attempt, job.status.as_str())).collect()
}

fn of(jobs: &[Job], name: &str) -> TaskId {
    jobs.iter().rev().find(|job| job.name == name).and_then(|job| job.task_id).expect("it has a task")
}

fn with_extras(id: TaskId, errnr: i32, extras: &[(&str, &str)]) -> Report {
    let extras: BTreeMap<_, _> = extras.iter().copied().collect();
    let payload = Some(json(&serde_json::json!({"extras": extras})));
    let errmsg = if errnr == 0 { String::new() } else { "the service is away".into() };
    report(
        id,
        "ep",
        ReportEvent::Finished {
            errnr,
            errmsg,
            payload,
            attempt: 1,
            attempts: Vec::new(),
            log: None,
            run: None,
        },
    )
}

async fn begin(ledger: &Ledger, new: &NewRequest) -> Result<()> {
    ledger.known(&[name("ep")], noon()).await?;
    ensure!(ledger.store.record_request(new).await? == Recorded::New);
    pass(&ledger.store, noon()).await?;
    Ok(())
}

async fn answer(ledger: &Ledger, reports: &[Report], now: Timestamp) -> Result<Advanced> {
    ledger.store.apply(reports, &Default::default(), now, RETENTION).await?;
    pass(&ledger.store, now).await
}

pub async fn records_a_request_once(ledger: &Ledger) -> Result<()> {
    let steps = || vec![step("one", &["a"], When::AllOk)];
    let first = request(Some("mine"), steps());
    let racing = (0..8).map(|_| {
        let (store, new) = (ledger.store.clone(), request(Some("mine"), steps()));
        async move { Ok(store.record_request(&new).await?) }
    });
    let mut recorded = together(racing).await?;
    recorded.sort_by_key(|recorded| *recorded != Recorded::New);
    assert_eq!((recorded[0], recorded[1], recorded[7]), (Recorded::New, Recorded::Same, Recorded::Same));
    let other = request(Some("mine"), vec![step("one", &["b"], When::AllOk)]);
    assert_eq!(ledger.store.record_request(&other).await?, Recorded::Other);
    assert_eq!(ledger.store.request_submitter(&first.token).await?, None);
    let of_token = NewRequest { submitted_by: Some("ci".parse()?), ..request(None, steps()) };
    assert_eq!(ledger.store.record_request(&of_token).await?, Recorded::New);
    assert_eq!(ledger.store.request_submitter(&of_token.token).await?.as_deref(), Some("ci"));
    let (all, _) = ledger.store.requests(&RequestQuery { limit: 10, ..RequestQuery::default() }).await?;
    assert_eq!(all.len(), 2);
    let before = Some((all[0].created, all[0].token.clone()));
    let (rest, _) =
        ledger.store.requests(&RequestQuery { limit: 10, before, ..RequestQuery::default() }).await?;
    assert_eq!(rest.iter().map(|request| &request.token).collect::<Vec<_>>(), [&all[1].token]);
    let of = |status, action: &str| RequestQuery {
        limit: 10,
        status,
        action: Some(action.into()),
        ..RequestQuery::default()
    };
    for (query, count) in [
        (of(vec![], "go"), 2),
        (of(vec![], "stay"), 0),
        (of(vec![RequestStatus::Failed], "go"), 0),
        (of(vec![RequestStatus::Queuing], "go"), 2),
    ] {
        assert_eq!(ledger.store.requests(&query).await?.0.len(), count, "{query:?}");
    }
    assert!(
        all.iter()
            .any(|request| request.token == first.token && request.request_token.as_deref() == Some("mine"))
    );
    assert_eq!(
        ledger.store.open_requests().await?,
        [(RequestStatus::Queuing, 2), (RequestStatus::Inprogress, 0)]
    );
    Ok(())
}

pub async fn goes_through_its_steps(ledger: &Ledger) -> Result<()> {
    let new = request(None, vec![step("one", &["a", "b"], When::AllOk), step("two", &["c"], When::AllOk)]);
    begin(ledger, &new).await?;
    let (begun, jobs) = state(ledger, &new.token).await?;
    assert_eq!((begun.status, begun.step), (RequestStatus::Inprogress, 0));
    assert_eq!(told(&jobs), [("a", 1, "inprogress"), ("b", 1, "inprogress")]);
    // The later job answers first; where both say something, the later one counts all the same.
    let extras = [with_extras(of(&jobs, "b"), 0, &[("k", "b"), ("b", "1")])];
    let advanced = answer(ledger, &extras, at(1)).await?;
    assert!(advanced.tasks.is_empty(), "one of them still runs");
    answer(ledger, &[with_extras(of(&jobs, "a"), 0, &[("k", "a"), ("a", "1")])], at(2)).await?;
    let (running, jobs) = state(ledger, &new.token).await?;
    assert_eq!(running.step, 1);
    assert_eq!(told(&jobs), [("a", 1, "completed"), ("b", 1, "completed"), ("c", 1, "inprogress")]);
    let extras: Vec<_> = running.extras.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
    assert_eq!(extras, [("a", "1"), ("b", "1"), ("k", "b")]);
    let told_to = ledger.task(of(&jobs, "c")).await?.payload;
    assert_eq!(
        told_to.get(),
        r#"["c",{"a":"1","b":"1","k":"b"}]"#,
        "the next step sees what the one before has found out"
    );
    assert_eq!(pass(&ledger.store, at(3)).await?.tasks.len(), 0, "nothing moves");
    let advanced = answer(ledger, &[finished(of(&jobs, "c"), "ep", 0)], at(4)).await?;
    assert_eq!(advanced.moved, [(new.token.clone(), RequestStatus::Completed)]);
    let (done, jobs) = state(ledger, &new.token).await?;
    assert_eq!((done.status, done.completed, done.error), (RequestStatus::Completed, Some(at(4)), None));
    assert!(jobs.iter().all(|job| job.status == JobStatus::Completed && job.completed.is_some()));
    Ok(())
}

pub async fn tries_again_and_keeps_what_failed(ledger: &Ledger) -> Result<()> {
    let new = request(None, vec![step("one", &["a"], When::AllOk)]);
    begin(ledger, &new).await?;
    let (_, jobs) = state(ledger, &new.token).await?;
    answer(ledger, &[with_extras(of(&jobs, "a"), 75, &[("seen", "1")])], at(1)).await?;
    let (waits, jobs) = state(ledger, &new.token).await?;
    assert_eq!(told(&jobs), [("a", 1, "retry"), ("a", 2, "new")]);
    assert_eq!((jobs[0].error.as_deref(), jobs[1].due_at), (Some("the service is away"), Some(at(11))));
    assert_eq!(
        waits.extras.get("seen").map(String::as_str),
        Some("1"),
        "also a job that is tried again has found something out"
    );
    assert!(pass(&ledger.store, at(10)).await?.tasks.is_empty());
    assert_eq!(pass(&ledger.store, at(11)).await?.tasks.len(), 1);
    for now in [12, 40] {
        let (_, jobs) = state(ledger, &new.token).await?;
        answer(ledger, &[with_extras(of(&jobs, "a"), 75, &[])], at(now)).await?;
        pass(&ledger.store, at(now + 20)).await?;
    }
    let (failed, jobs) = state(ledger, &new.token).await?;
    assert_eq!(told(&jobs), [("a", 1, "retry"), ("a", 2, "retry"), ("a", 3, "failed")]);
    assert_eq!(failed.error.as_deref(), Some("step `one`, job `a`: the service is away (attempt 3 of 3)"));
    // The failed job is begun anew, with as many attempts again.
    let begun = ledger.store.begin_anew(&new.token, &[("a".into(), 3)], at(70), at(7200)).await?;
    assert!(matches!(begun, Some(Begun::Jobs(_, 1))), "{begun:?}");
    pass(&ledger.store, at(70)).await?;
    let (again, jobs) = state(ledger, &new.token).await?;
    assert_eq!((again.status, told(&jobs)[3]), (RequestStatus::Inprogress, ("a", 4, "inprogress")));
    answer(ledger, &[with_extras(of(&jobs, "a"), 0, &[])], at(71)).await?;
    let (done, _) = state(ledger, &new.token).await?;
    assert_eq!((done.status, done.error), (RequestStatus::Completed, None));
    assert!(matches!(
        ledger.store.begin_anew(&new.token, &[], at(72), at(7200)).await?,
        Some(Begun::NotFailed(_))
    ));
    Ok(())
}

pub async fn keeps_a_hundred_attempts(ledger: &Ledger) -> Result<()> {
    let new = request(None, vec![step("one", &["stubborn"], When::AllOk), step("two", &["a"], When::AllOk)]);
    begin(ledger, &new).await?;
    let mut now = 0;
    for attempt in 1..=100 {
        let (running, jobs) = state(ledger, &new.token).await?;
        assert_eq!((running.status, jobs.len()), (RequestStatus::Inprogress, attempt));
        let report = with_extras(of(&jobs, "stubborn"), 75, &[("attempt", &attempt.to_string())]);
        now += 1;
        answer(ledger, &[report], at(now)).await?;
        // The longest wait between two attempts.
        now += 15;
        pass(&ledger.store, at(now)).await?;
    }
    let (failed, jobs) = state(ledger, &new.token).await?;
    assert_eq!((failed.status, failed.step, jobs.len()), (RequestStatus::Failed, 0, 100));
    assert_eq!(failed.extras, BTreeMap::from([("attempt".to_owned(), "100".to_owned())]));
    let tasks: std::collections::HashSet<_> = jobs.iter().filter_map(|job| job.task_id).collect();
    assert_eq!(tasks.len(), 100, "each attempt has a task of its own");
    for (place, job) in jobs.iter().enumerate() {
        let number = place + 1;
        let (status, error) = match number {
            100 => (JobStatus::Failed, "the service is away (attempt 100 of 100)"),
            _ => (JobStatus::Retry, "the service is away"),
        };
        assert_eq!(
            (job.name.as_str(), job.attempt, job.status),
            ("stubborn", u32::try_from(number)?, status)
        );
        assert_eq!(job.error.as_deref(), Some(error));
        assert_eq!(job.extras, Some(BTreeMap::from([("attempt".to_owned(), number.to_string())])));
    }
    assert!(
        jobs.is_sorted_by_key(|job| (job.id, job.created))
            && jobs.iter().skip(1).all(|job| job.due_at > Some(job.created))
    );
    pass(&ledger.store, at(now + 1000)).await?;
    assert_eq!(state(ledger, &new.token).await?.1.len(), 100, "that was the last");
    Ok(())
}

pub async fn fails_at_once_or_after_what_is_to_be_done(ledger: &Ledger) -> Result<()> {
    let new = request(None, vec![step("one", &["a", "b"], When::AllOk), step("two", &["c"], When::AllOk)]);
    begin(ledger, &new).await?;
    let (_, jobs) = state(ledger, &new.token).await?;
    // One has begun, the other has failed.
    let b = of(&jobs, "b");
    ledger.store.mark_published(&[b], at(1)).await?;
    answer(ledger, &[finished(of(&jobs, "a"), "ep", 3)], at(1)).await?;
    let (failed, jobs) = state(ledger, &new.token).await?;
    assert_eq!(
        (failed.status, told(&jobs)),
        (RequestStatus::Failed, vec![("a", 1, "failed"), ("b", 1, "inprogress")])
    );
    assert_eq!(failed.error.as_deref(), Some("step `one`, job `a`: could not: 3"));
    answer(ledger, &[with_extras(b, 0, &[("late", "1")])], at(2)).await?;
    let (failed, jobs) = state(ledger, &new.token).await?;
    assert_eq!((failed.status, told(&jobs)[1].2), (RequestStatus::Failed, "completed"));
    assert_eq!(failed.extras.get("late").map(String::as_str), Some("1"));

    let steps = vec![
        step("one", &["a", "b"], When::AllOk),
        step("two", &["c"], When::AllOk),
        step("undo", &["d"], When::AnyFailed),
        step("tell", &["e"], When::AllDone),
    ];
    let new = request(None, steps);
    begin(ledger, &new).await?;
    let (_, jobs) = state(ledger, &new.token).await?;
    // Nobody has begun the other: it is withdrawn.
    answer(ledger, &[finished(of(&jobs, "a"), "ep", 3)], at(3)).await?;
    let (goes_on, jobs) = state(ledger, &new.token).await?;
    assert_eq!(told(&jobs), [("a", 1, "failed"), ("b", 1, "canceled"), ("d", 1, "inprogress")]);
    assert_eq!((goes_on.status, goes_on.step), (RequestStatus::Inprogress, 2));
    assert_eq!(ledger.task(of(&jobs, "b")).await?.status.as_str(), "CANCELED");
    answer(ledger, &[finished(of(&jobs, "d"), "ep", 0)], at(4)).await?;
    let (_, jobs) = state(ledger, &new.token).await?;
    answer(ledger, &[finished(of(&jobs, "e"), "ep", 0)], at(5)).await?;
    let (failed, _) = state(ledger, &new.token).await?;
    assert_eq!((failed.status, failed.completed), (RequestStatus::Failed, Some(at(5))));
    Ok(())
}

pub async fn is_moved_by_one_of_many(ledger: &Ledger) -> Result<()> {
    ledger.known(&[name("ep")], noon()).await?;
    let requests: Vec<_> = (0..12)
        .map(|_| request(None, vec![step("one", &["a", "b"], When::AllOk), step("two", &["c"], When::AllOk)]))
        .collect();
    for new in &requests {
        ledger.store.record_request(new).await?;
    }
    let stores: Vec<SharedStore> = (0..3).map(|_| ledger.another()).collect::<Result<_>>()?;
    let (begun, mut now) = (Instant::now(), 0);
    // What another one has locked is passed over, and looked at in a later pass.
    loop {
        now += 1;
        let passes = stores.iter().cloned().map(|store| async move { pass(&store, at(now)).await });
        together(passes).await?;
        let mut reports = Vec::new();
        for new in &requests {
            let jobs = ledger.store.jobs(&new.token).await?;
            let running =
                jobs.iter().filter(|job| job.status == JobStatus::Inprogress).filter_map(|job| job.task_id);
            reports.extend(running.map(|id| finished(id, "ep", 0)));
        }
        ledger.store.apply(&reports, &Default::default(), at(now), RETENTION).await?;
        let mut open = 0;
        for new in &requests {
            open += u32::from(state(ledger, &new.token).await?.0.status != RequestStatus::Completed);
        }
        if open == 0 {
            break;
        }
        ensure!(begun.elapsed() < PATIENCE, "{open} requests are open after {now} passes of each");
    }
    for new in &requests {
        let (_, jobs) = state(ledger, &new.token).await?;
        assert_eq!(told(&jobs), [("a", 1, "completed"), ("b", 1, "completed"), ("c", 1, "completed")]);
    }
    for store in stores {
        store.close().await;
    }
    Ok(())
}

pub async fn merges_extras_alike_whichever_process_moves_a_request(ledger: &Ledger) -> Result<()> {
    const JOBS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    ledger.known(&[name("ep")], noon()).await?;
    let steps = || vec![step("one", &JOBS, When::AllOk), step("two", &["last"], When::AllOk)];
    let requests: Vec<_> = (0..6).map(|_| request(None, steps())).collect();
    for new in &requests {
        ledger.store.record_request(new).await?;
    }
    pass(&ledger.store, noon()).await?;
    let stores: Vec<SharedStore> = (0..3).map(|_| ledger.another()).collect::<Result<_>>()?;
    // Each round ends a job of each request, each request in another order; all processes look at the same
    // time.
    for round in 0..JOBS.len() {
        let mut reports = Vec::new();
        for (place, new) in requests.iter().enumerate() {
            let job = JOBS[(round * [1, 5][place % 2] + place) % JOBS.len()];
            let jobs = ledger.store.jobs(&new.token).await?;
            reports.push(with_extras(of(&jobs, job), 0, &[("same", job), (job, "1")]));
        }
        let now = at(1 + u64::try_from(round)?);
        let applied = stores.iter().cloned().zip(reports.chunks(2).map(<[_]>::to_vec)).map(
            |(store, reports)| async move {
                store.apply(&reports, &Default::default(), now, RETENTION).await?;
                pass(&store, now).await
            },
        );
        together(applied).await?;
    }
    // What a process has left to another that looked too early.
    pass(&ledger.store, at(10)).await?;
    for new in &requests {
        let (running, jobs) = state(ledger, &new.token).await?;
        assert_eq!((running.step, jobs.len()), (1, JOBS.len() + 1));
        let mut wanted: BTreeMap<_, _> = JOBS.iter().map(|job| ((*job).to_owned(), "1".to_owned())).collect();
        wanted.insert("same".to_owned(), "f".to_owned());
        assert_eq!(running.extras, wanted, "the last job counts, whoever ended first");
        let told = ledger.task(of(&jobs, "last")).await?.payload;
        assert_eq!(told.get(), json(&("last", &wanted)).get());
    }
    for store in stores {
        store.close().await;
    }
    Ok(())
}

pub async fn adds_up(ledger: &Ledger) -> Result<()> {
    let two = || vec![step("one", &["a", "b"], When::AllOk), step("two", &["c"], When::AllOk)];
    let running = request(Some("running"), two());
    begin(ledger, &running).await?;
    let query = |limit| RequestCensusQuery { limit, retention: RETENTION, ..RequestCensusQuery::default() };
    let census = async |limit, now| anyhow::Ok(ledger.store.request_census(&query(limit), now).await?);
    let good = census(10, at(5)).await?;
    assert_eq!(
        (good.accepted, good.accounted, good.missing, good.open, good.attempts),
        (1, 1, 0, 1, 2),
        "{good:?}"
    );
    assert_eq!((&good.flaws, &good.next), (&vec![], &None));
    // Its tasks end and no process looks at that.
    let jobs = ledger.store.jobs(&running.token).await?;
    ledger.store.apply(&[finished(of(&jobs, "a"), "ep", 0)], &Default::default(), at(10), RETENTION).await?;
    assert_eq!(census(10, at(100)).await?.missing, 0);
    let late = census(10, at(200)).await?;
    assert!(
        late.flaws[0].reason.contains("job `a` of step 1 is in progress, its task has ended and nobody"),
        "{late:?}"
    );
    pass(&ledger.store, at(200)).await?;
    assert_eq!(census(10, at(201)).await?.missing, 0);

    let task = of(&ledger.store.jobs(&running.token).await?, "a");
    let steps =
        |jobs: &str| format!(r#"[{{"name": "one", "jobs": [{jobs}]}}, {{"name": "two", "jobs": ["c"]}}]"#);
    let (one, many) = (steps(r#""a""#), steps(r#""a", "b""#));
    let long_ago = match ledger.is_mysql() {
        true => "'2020-01-01 00:00:00'",
        false => "1577836800000000",
    };
    let wrong = [
        ("nobody", 0, "no process has begun it", vec![]),
        ("bare token", 1, "all jobs of its step have ended and no process", vec![("a", 0, 2)]),
        (
            "early",
            1,
            "job `c` of step 2 is open while the request is at step 1",
            vec![("a", 0, 0), ("c", 1, 0)],
        ),
        ("taskless", 1, "job `a` of step 1 is in progress and its task is missing", vec![("a", 0, 1)]),
        ("short", 2, "it is Completed and job `c` of step 2 is not", vec![("a", 0, 2)]),
        ("stray", 3, "job `x` of step 1 is not in the steps", vec![("x", 0, 3)]),
        ("order", 3, "step 2 has begun before step 1", vec![("c", 1, 3), ("a", 0, 3)]),
        ("left", 4, "job `a` of step 1 is open, and the request has ended", vec![("a", 0, 0)]),
        ("odd", 9, "its status is not one of 0 to 4", vec![]),
    ];
    for (token, status, _, jobs) in &wrong {
        let ended = if *status > 1 { long_ago } else { "NULL" };
        ledger.execute(&format!(
            "INSERT INTO requests (token, action, params, steps, status, created, completed)              VALUES ('{token}', 'go', '1', '{one}', {status}, {long_ago}, {ended})"
        )).await?;
        for (name, step, status) in jobs {
            ledger
                .execute(&format!(
                    "INSERT INTO jobs (name, token, step, status, created) VALUES ('{name}', '{token}', {step}, {status}, {long_ago})"
                ))
                .await?;
        }
    }
    // A job that has failed, and its task is done; one whose task is still there, and one whose task is gone.
    ledger.execute(&format!(
        "INSERT INTO requests (token, action, params, steps, status, created, completed) VALUES          ('otherwise', 'go', '1', '{many}', 3, {long_ago}, {long_ago}), ('going', 'go', '1', '{many}', 3, {long_ago}, {long_ago})"
    )).await?;
    let open = of(&ledger.store.jobs(&running.token).await?, "b");
    for (token, status, id) in [("otherwise", 4, task), ("going", 3, open)] {
        let id = format!("X'{}'", id.0.simple());
        ledger
            .execute(&format!(
                "INSERT INTO jobs (name, token, step, status, created, task_id) VALUES ('a', '{token}', 0, {status}, {long_ago}, {id})"
            ))
            .await?;
    }
    let told = [
        ("otherwise", "job `a` of step 1 has another end than its task"),
        ("going", "job `a` of step 1 has ended and its task has not"),
    ];
    let all = census(100, at(300)).await?;
    assert_eq!((all.accepted, all.missing, all.next.clone()), (12, 11, None), "{all:#?}");
    for (token, reason) in wrong.iter().map(|(token, _, reason, _)| (*token, *reason)).chain(told) {
        let flaw = all
            .flaws
            .iter()
            .find(|flaw| flaw.token == token)
            .with_context(|| format!("{token}: {all:#?}"))?;
        ensure!(flaw.reason.contains(reason), "{token}: {}", flaw.reason);
    }
    // The same in pages.
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.store.request_census(&RequestCensusQuery { after, ..query(4) }, at(300)).await?;
        after = page.next.clone();
        pages.push((page.accepted, page.missing));
        if after.is_none() {
            break;
        }
    }
    assert_eq!(
        pages.iter().fold((0, 0), |sum, page| (sum.0 + page.0, sum.1 + page.1)),
        (12, 11),
        "{pages:?}"
    );
    let recent = RequestCensusQuery { since: Some(noon()), ..query(10) };
    assert_eq!(ledger.store.request_census(&recent, at(300)).await?.accepted, 1);
    Ok(())
}

pub async fn takes_what_producers_insert(ledger: &Ledger) -> Result<()> {
    ledger.known(&[name("ep")], noon()).await?;
    let rows = [
        ("good", r#"[{"name": "one", "jobs": ["a"]}]"#, r#"{"id": 1}"#, None),
        ("no-json", "one", "{}", Some("not a list of steps with jobs such as")),
        ("empty", "[]", "{}", Some("at least one step")),
        ("jobless", r#"[{"name": "one", "jobs": []}]"#, "{}", Some("at least one job")),
        ("twice", r#"[{"name": "one", "jobs": ["a", "a"]}]"#, "{}", Some("second time")),
        ("params", r#"[{"name": "one", "jobs": ["a"]}]"#, "id=1", Some("params: not JSON")),
        ("unknown", r#"[{"name": "one", "jobs": ["a", "nobody"]}]"#, "{}", Some("job `nobody`: unknown job")),
        ("no token", r#"[{"name": "one", "jobs": ["a"]}]"#, "{}", None),
        ("", r#"[{"name": "one", "jobs": ["a"]}]"#, "{}", None),
    ];
    for (token, steps, params, _) in rows {
        let insert = format!(
            "INSERT INTO requests (token, request_token, action, params, steps) VALUES ('{token}', 'x', 'go', '{params}', '{steps}')"
        );
        ledger.execute(&insert).await?;
    }
    let due = ledger.store.due_requests(noon(), 100).await?;
    assert_eq!(due.len(), rows.len());
    let terms = Terms { rules: Vec::new().into(), lease_until: at(10), retention: RETENTION };
    for request in &due {
        if let Err(error) =
            ledger.store.advance(std::slice::from_ref(request), plan(noon()), &terms, noon()).await
        {
            ensure!(matches!(request.token.as_deref(), Some("no token" | "")), "{request:?}: {error}");
            ledger.store.fail_request(request, &error.to_string(), noon(), RETENTION).await?;
        }
    }
    for (token, _, _, error) in rows {
        let Ok(token) = token.parse() else { continue };
        let (found, jobs) = state(ledger, &token).await?;
        match error {
            None => assert_eq!(
                (found.status, told(&jobs)),
                (RequestStatus::Inprogress, vec![("a", 1, "inprogress")])
            ),
            Some(word) => {
                assert_eq!(found.status, RequestStatus::Failed, "{token}");
                assert!(found.error.as_ref().is_some_and(|error| error.contains(word)), "{:?}", found.error);
                assert!(jobs.iter().all(|job| job.status.is_final()), "{jobs:?}");
            }
        }
    }
    assert!(ledger.store.due_requests(noon(), 100).await?.is_empty(), "nothing is left for ever");
    // Those whose name is no token are seen too.
    let (all, _) = ledger.store.requests(&RequestQuery { limit: 100, ..RequestQuery::default() }).await?;
    assert_eq!(all.len(), rows.len());
    for odd in ["no token", ""] {
        let row = all.iter().find(|request| request.token.as_str() == odd).context("it is in the list")?;
        let told = row.error.as_deref().is_some_and(|error| error.contains("token"));
        assert!(row.status == RequestStatus::Failed && told, "{row:?}");
    }
    // What is in progress without a time is found as well.
    ledger.execute("UPDATE requests SET due_at = NULL WHERE token = 'good'").await?;
    assert_eq!(ledger.store.sweep_requests(noon()).await?, 1);
    assert_eq!(ledger.store.due_requests(noon(), 100).await?.len(), 1);
    // So is what somebody has changed: an attempt that is new, or the end of all there are.
    pass(&ledger.store, noon()).await?;
    assert_eq!(ledger.store.sweep_requests(at(1)).await?, 0, "it waits for the end of a task");
    for change in [
        "INSERT INTO jobs (name, token, step, try) VALUES ('a', 'good', 0, 2)",
        "UPDATE jobs SET status = 2 WHERE token = 'good'",
    ] {
        ledger.execute(change).await?;
        assert_eq!(ledger.store.sweep_requests(at(1)).await?, 1, "{change}");
        pass(&ledger.store, at(1)).await?;
    }
    assert_eq!(state(ledger, &"good".parse()?).await?.0.status, RequestStatus::Completed);
    Ok(())
}

pub async fn cancels_and_forgets(ledger: &Ledger) -> Result<()> {
    let new = request(None, vec![step("one", &["a", "b"], When::AllOk)]);
    begin(ledger, &new).await?;
    let (_, jobs) = state(ledger, &new.token).await?;
    ledger
        .store
        .apply(&[super::ledger::received(of(&jobs, "a"), "ep")], &Default::default(), at(1), RETENTION)
        .await?;
    let canceled = ledger.store.cancel_request(&new.token, at(2), RETENTION).await?.context("it is there")?;
    assert!(canceled.changed && !canceled.refused && canceled.request.status == RequestStatus::Canceled);
    assert_eq!(canceled.stopped.len(), 2);
    let (found, jobs) = state(ledger, &new.token).await?;
    assert_eq!(
        (found.completed, told(&jobs)),
        (Some(at(2)), vec![("a", 1, "canceled"), ("b", 1, "canceled")])
    );
    assert!(
        !ledger.store.cancel_request(&new.token, at(3), RETENTION).await?.context("it is there")?.changed
    );
    pass(&ledger.store, at(3)).await?;
    assert!(ledger.store.due_requests(at(4), 100).await?.is_empty(), "its tasks that have ended are seen to");
    assert_eq!(ledger.store.forget_requests(at(2), 10).await?, 0);
    assert_eq!(ledger.store.forget_requests(at(3), 10).await?, 1);
    assert!(
        ledger.store.request(&new.token).await?.is_none() && ledger.store.jobs(&new.token).await?.is_empty()
    );
    assert!(ledger.store.cancel_request(&new.token, at(3), RETENTION).await?.is_none());
    Ok(())
}
