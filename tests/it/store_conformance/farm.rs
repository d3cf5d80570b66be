//! Render farms: each task to one worker, in turn, and what becomes of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tasker::farm::{
    FailureLimits, JobTally, ObjectId, Request, Seen, Task, TaskStatus, Worker, WorkerReport, WorkerStatus,
};
use tasker::store::farm::{Asked, Farm, FarmPage, FarmTaskOrder, FarmTaskQuery, Reported};
use tokio::time::timeout;

use super::ledger::{Ledger, PATIENCE, at, together};

const LIMITS: FailureLimits = FailureLimits { blacklist_threshold: 3, task_fail_after: 3 };

fn id(number: u32) -> ObjectId {
    format!("5e90d0000000000000{number:06x}").parse().expect("an id")
}

fn job() -> ObjectId {
    "5e90c0000000000000000c01".parse().expect("an id")
}

fn task(number: u32) -> Task {
    let name = format!("task {number}");
    Task {
        etag: "e".into(),
        job: Some(job()),
        name,
        last_updated: Some(at(0)),
        ..Task::new(id(number), "sleep", "sleep")
    }
}

fn seen(seconds: u64) -> Seen {
    Seen { at: at(seconds), address: "10.0.0.1".into(), software: "test".into() }
}

async fn worker(farm: &Farm, number: u32, types: &[&str]) -> Result<ObjectId> {
    let types = types.iter().map(|name| (*name).to_owned()).collect();
    let worker = Worker::new(id(0x00f0_0000 + number), format!("w{number}"), "linux".into(), types);
    farm.register(&worker, b"salt and hash").await?;
    Ok(worker.id)
}

/// What a worker is offered.
async fn offer(farm: &Farm, worker: ObjectId, second: u64) -> Result<Option<Task>> {
    Ok(match farm.ask(worker, &seen(second)).await? {
        Asked::Offered(offered) => Some(offered.1),
        Asked::Nothing => None,
        other => anyhow::bail!("{other:?}"),
    })
}

/// Gives a worker its next task.
async fn hand_out(farm: &Farm, worker: ObjectId, second: u64) -> Result<Option<ObjectId>> {
    let Some(task) = offer(farm, worker, second).await? else { return Ok(None) };
    Ok(farm.assign(worker, task.id, at(second)).await?.map(|_| task.id))
}

async fn report(
    farm: &Farm,
    worker: ObjectId,
    task: ObjectId,
    status: TaskStatus,
    second: u64,
) -> Result<Reported> {
    let report =
        WorkerReport { status: Some(status), raw_status: status.as_str().into(), ..WorkerReport::default() };
    Ok(farm.report(worker, task, report, LIMITS, &seen(second)).await?)
}

pub async fn keeps_workers_and_tasks(ledger: &Ledger) -> Result<()> {
    let (farm, other) = (Farm::new(ledger.store.clone()), Farm::new(ledger.another()?));
    let worker = worker(&farm, 1, &["sleep", "débug"]).await?;
    let change = |worker: &mut Worker| worker.request(Request::Asleep, true);
    let (changed, ()) = farm.change_worker(worker, change).await?.context("the worker")?;
    ensure!(
        other.worker(worker).await? == Some(changed.clone())
            && changed.lazy
            && changed.status == WorkerStatus::Registered
    );
    ensure!(other.secret(worker).await?.as_deref() == Some(b"salt and hash".as_slice()));
    ensure!(farm.change_worker(id(9), |_| ()).await?.is_none() && farm.secret(id(9)).await?.is_none());
    let mut full = task(1);
    full.name = "tâsk 😀".into();
    full.parents = vec![id(7), id(8)];
    full.timing = Some([("total".to_owned(), 2.5)].into());
    full.priority = i32::MIN;
    full.failed_by = vec![tasker::farm::FailedBy { id: Some(worker), identifier: "x".into() }];
    ensure!(farm.download(&[full.clone(), task(2)]).await? == 2);
    full.priority = -i32::MAX;
    ensure!(other.task(id(1)).await? == Some(full) && farm.count_tasks().await? == 2);
    let after =
        FarmTaskQuery { order: FarmTaskOrder::Oldest(Some(id(1))), most: 5, ..FarmTaskQuery::default() };
    ensure!(farm.tasks(after).await?.items == [task(2).into()]);
    // Processes of an earlier version leave the name in the document alone.
    ledger.execute("UPDATE farm_task SET name = NULL WHERE id <> ''").await?;
    let all = farm.tasks(FarmTaskQuery { most: 5, ..FarmTaskQuery::default() }).await?.items;
    ensure!(all.len() == 2 && all[0].name == "tâsk 😀", "{all:?}");
    ensure!(
        farm.remove_worker(worker, None, at(1)).await?.is_some()
            && farm.remove_worker(worker, None, at(1)).await?.is_none()
    );
    ensure!(farm.delete_all_tasks().await? == 2 && other.count_tasks().await? == 0);
    Ok(())
}

pub async fn shows_jobs_and_tasks(ledger: &Ledger) -> Result<()> {
    let farm = Farm::new(ledger.store.clone());
    let job = |number: u32| -> ObjectId { format!("5e90c0000000000000{number:06x}").parse().expect("an id") };
    let of = |number, job, status, priority| Task {
        job: Some(job),
        status,
        job_priority: priority,
        job_type: format!("jöb of {priority}"),
        ..task(number)
    };
    use FarmTaskOrder::{Latest, Oldest};
    use TaskStatus::{Active, Canceled, Completed, Failed, Paused, Queued, SoftFailed};
    let alone = Task { job: None, ..task(9) };
    let tasks = [
        of(1, job(1), Completed, 50),
        of(2, job(1), Completed, 50),
        of(3, job(1), Failed, 50),
        of(4, job(2), Queued, -7),
        of(5, job(3), SoftFailed, 80),
        alone,
    ];
    ensure!(farm.download(&tasks).await? == 6);
    let tally = |number, priority, counts: &[(TaskStatus, u64)]| JobTally {
        job: job(number),
        job_type: format!("jöb of {priority}"),
        priority,
        tasks: counts.iter().copied().collect(),
    };
    let all = [
        tally(3, 80, &[(SoftFailed, 1)]),
        tally(2, -7, &[(Queued, 1)]),
        tally(1, 50, &[(Completed, 2), (Failed, 1)]),
    ];
    let jobs = farm.jobs(None, 9).await?;
    ensure!(jobs == FarmPage { items: all.to_vec(), next: None }, "{jobs:?}");
    // A page goes on wherever there is more, and only there.
    for (before, most, part, next) in
        [(None, 1, 0..1, Some(job(3))), (None, 3, 0..3, None), (Some(job(3)), 2, 1..3, None)]
    {
        let page = farm.jobs(before, most).await?;
        ensure!(page == FarmPage { items: all[part].to_vec(), next }, "{before:?} {most}: {page:?}");
    }
    ensure!(farm.jobs(Some(job(1)), 9).await?.items.is_empty());
    let found =
        async |job, statuses: &[TaskStatus], order, most| -> Result<(Vec<ObjectId>, Option<FarmTaskOrder>)> {
            let query = FarmTaskQuery { job, statuses: statuses.to_vec(), order, most };
            let page = farm.tasks(query).await?;
            Ok((page.items.into_iter().map(|task| task.id).collect(), page.next))
        };
    let after = |number| Oldest(Some(id(number)));
    for (of, statuses, order, most, numbers, next) in [
        (None, &[][..], Oldest(None), 9, &[1, 2, 3, 4, 5, 9][..], None),
        (None, &[], Oldest(None), 6, &[1, 2, 3, 4, 5, 9], None),
        (None, &[], Oldest(None), 2, &[1, 2], Some(after(2))),
        (None, &[Failed, SoftFailed, Failed], Oldest(None), 9, &[3, 5], None),
        (None, &[SoftFailed, Completed, Failed], Oldest(None), 3, &[1, 2, 3], Some(after(3))),
        (None, &[SoftFailed, Completed, Failed], after(3), 3, &[5], None),
        (None, &[Active], Oldest(None), 9, &[], None),
        (Some(job(1)), &[], Oldest(None), 2, &[1, 2], Some(after(2))),
        (Some(job(1)), &[Failed, Completed], after(1), 9, &[2, 3], None),
        (Some(job(4)), &[], Oldest(None), 9, &[], None),
    ] {
        let (ids, goes_on) = found(of, statuses, order, most).await?;
        let wanted: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
        ensure!(
            ids == wanted && goes_on == next,
            "{of:?} {statuses:?} {order:?} {most}: {ids:?} {goes_on:?}"
        );
    }
    // By when they changed: of those that changed at once, by their ids; one that has never changed is in none.
    let changed = |number, second| Task { last_updated: second, ..of(number, job(5), Canceled, 1) };
    let times = [(11, Some(at(30))), (12, Some(at(50))), (13, Some(at(30))), (14, None), (15, Some(at(40)))];
    ensure!(farm.download(&times.map(|(number, second)| changed(number, second))).await? == 5);
    farm.download(&[Task { last_updated: Some(at(45)), ..of(16, job(6), Paused, 1) }]).await?;
    let from = |second, number| Latest(Some((at(second), id(number))));
    for (of, statuses, order, most, numbers, next) in [
        (None, &[Canceled, Paused][..], Latest(None), 9, &[12, 16, 15, 13, 11][..], None),
        (None, &[Canceled, Paused], Latest(None), 3, &[12, 16, 15], Some(from(40, 15))),
        (None, &[Canceled, Paused], from(40, 15), 1, &[13], Some(from(30, 13))),
        (None, &[Canceled, Paused], from(30, 13), 1, &[11], None),
        (None, &[], Latest(None), 2, &[12, 16], Some(from(45, 16))),
        (None, &[], from(45, 16), 9, &[15, 13, 11, 9, 5, 4, 3, 2, 1], None),
        (Some(job(5)), &[], Latest(None), 2, &[12, 15], Some(from(40, 15))),
        (Some(job(5)), &[Canceled], from(40, 15), 9, &[13, 11], None),
    ] {
        let (ids, goes_on) = found(of, statuses, order, most).await?;
        let wanted: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
        ensure!(
            ids == wanted && goes_on == next,
            "{of:?} {statuses:?} {order:?} {most}: {ids:?} {goes_on:?}"
        );
    }
    farm.delete_all_tasks().await?;
    ensure!(farm.download(&tasks).await? == 6);
    // What a worker logs is kept to its last lines, over several reports.
    let worker = worker(&farm, 1, &["sleep"]).await?;
    ensure!(hand_out(&farm, worker, 1).await? == Some(id(5)));
    ensure!(farm.task_with_log(id(5)).await?.context("the task")?.1.is_none());
    for (second, range) in [(2, 1..8), (3, 8..14)] {
        let log: String = range.map(|line| format!("line {line}\n")).collect();
        let report = WorkerReport { log: log.into(), ..WorkerReport::default() };
        farm.report(worker, id(5), report, LIMITS, &seen(second)).await?;
    }
    let tail: String = (4..14).map(|line| format!("line {line}\n")).collect();
    ensure!(farm.task_with_log(id(5)).await?.context("the task")?.1 == Some(tail));
    ensure!(farm.task_with_log(id(6)).await?.is_none());
    Ok(())
}

pub async fn hands_out_in_turn(ledger: &Ledger) -> Result<()> {
    let farm = Farm::new(ledger.store.clone());
    let w = worker(&farm, 1, &["sleep", "debug"]).await?;
    let of = |number, job_priority, priority| Task { job_priority, priority, ..task(number) };
    let debug = Task { task_type: "debug".into(), ..of(5, 10, 95) };
    let child = Task { parents: vec![id(1)], ..of(6, 99, 99) };
    let (paused, other) = (
        Task { status: TaskStatus::Paused, ..of(7, 99, 99) },
        Task { task_type: "other".into(), ..of(8, 99, 99) },
    );
    farm.download(&[of(1, 10, 50), of(3, 10, 90), of(2, 10, 90), of(9, 20, 1), debug, child, paused, other])
        .await?;
    for expected in [9, 5, 2, 3, 1, 6] {
        ensure!(hand_out(&farm, w, 1).await? == Some(id(expected)), "{expected}");
        ensure!(
            offer(&farm, w, 1).await?.map(|task| task.id) == Some(id(expected)),
            "the same while it is active"
        );
        ensure!(matches!(
            report(&farm, w, id(expected), TaskStatus::Completed, 2).await?,
            Reported::Accepted(_)
        ));
    }
    ensure!(hand_out(&farm, w, 3).await?.is_none());
    Ok(())
}

pub async fn hands_each_task_to_one_worker(ledger: &Ledger) -> Result<()> {
    let managers =
        [Farm::new(ledger.store.clone()), Farm::new(ledger.another()?), Farm::new(ledger.another()?)];
    managers[0].download(&(1..=30).map(task).collect::<Vec<_>>()).await?;
    let handed_out = Arc::new(AtomicU32::new(0));
    let mut asking = Vec::new();
    for number in 0..45 {
        let (farm, handed_out) = (managers[number as usize % 3].clone(), handed_out.clone());
        let worker = worker(&farm, number, &["sleep"]).await?;
        asking.push(async move {
            let mut second = 0;
            // What another one is about to lock may be passed over; workers ask again.
            while handed_out.load(Ordering::Relaxed) < 30 {
                if let Some(task) = hand_out(&farm, worker, second).await? {
                    handed_out.fetch_add(1, Ordering::Relaxed);
                    return Ok(Some(task));
                }
                second += 1;
            }
            Ok(None)
        });
    }
    let got = timeout(PATIENCE, together(asking)).await.context("some task is handed out to nobody")??;
    let got: Vec<ObjectId> = got.into_iter().flatten().collect();
    ensure!(got.len() == 30 && got.iter().collect::<BTreeSet<_>>().len() == 30, "{}", got.len());
    // Two updates for each, from the same transactions.
    ensure!(managers[0].count_updates().await? == 60);
    Ok(())
}

pub async fn keeps_an_offer_for_a_while(ledger: &Ledger) -> Result<()> {
    let farm = Farm::new(ledger.store.clone());
    let (a, b) = (worker(&farm, 1, &["sleep"]).await?, worker(&farm, 2, &["sleep"]).await?);
    farm.download(&[task(1)]).await?;
    ensure!(offer(&farm, a, 1).await?.is_some() && offer(&farm, b, 2).await?.is_none());
    ensure!(offer(&farm, b, 10).await?.is_some() && farm.assign(a, id(1), at(10)).await?.is_none());
    // What the Server changed meanwhile is not handed out.
    farm.drop_task(id(1), at(10)).await?;
    ensure!(farm.assign(b, id(1), at(10)).await?.is_none() && farm.count_updates().await? == 0);
    Ok(())
}

pub async fn takes_back_from_who_is_gone(ledger: &Ledger) -> Result<()> {
    let farm = Farm::new(ledger.store.clone());
    let (a, b) = (worker(&farm, 1, &["sleep"]).await?, worker(&farm, 2, &["sleep"]).await?);
    farm.download(&[task(1), task(2)]).await?;
    ensure!(hand_out(&farm, a, 1).await? == Some(id(1)) && hand_out(&farm, b, 1).await? == Some(id(2)));
    ensure!(
        farm.give_back(b, id(1), &seen(2)).await?.context("the worker")?.1.is_empty(),
        "it is another one's"
    );
    ensure!(farm.sign_off(a, at(2)).await?.context("the worker")?.len() == 1);
    ensure!(farm.task(id(1)).await?.context("the task")?.status == TaskStatus::ClaimedByManager);
    // Two managers look at the same time.
    let (one, other) = (farm.clone(), Farm::new(ledger.another()?));
    let looks = [one, other].map(|farm| async move { Ok(farm.time_out_tasks(at(50), at(100)).await?.len()) });
    ensure!(together(looks).await?.iter().sum::<usize>() == 2, "one line of the worker, one of the task");
    ensure!(farm.task(id(2)).await?.context("the task")?.status == TaskStatus::Failed);
    let timed_out = farm.worker(b).await?.context("the worker")?;
    ensure!(timed_out.status == WorkerStatus::Timeout && timed_out.requested == Some(Request::Awake));
    ensure!(matches!(report(&farm, b, id(2), TaskStatus::Completed, 101).await?, Reported::Accepted(_)));
    ensure!(farm.task(id(2)).await?.context("the task")?.status == TaskStatus::Failed);
    ensure!(farm.time_out_workers(at(500), at(501)).await?.is_empty(), "nobody is awake");
    Ok(())
}

pub async fn removes_a_worker_with_what_it_has(ledger: &Ledger) -> Result<()> {
    let farm = Farm::new(ledger.store.clone());
    let w = worker(&farm, 1, &["sleep"]).await?;
    farm.download(&[task(1)]).await?;
    ensure!(hand_out(&farm, w, 5).await? == Some(id(1)));
    ensure!(farm.remove_worker(w, Some(at(4)), at(6)).await?.is_none(), "it was heard of later");
    ensure!(farm.remove_worker(w, Some(at(5)), at(6)).await?.map(|lines| lines.len()) == Some(1));
    ensure!(farm.worker(w).await?.is_none() && farm.secret(w).await?.is_none());
    ensure!(farm.task(id(1)).await?.context("the task")?.status == TaskStatus::ClaimedByManager);
    Ok(())
}

pub async fn judges_failures(ledger: &Ledger) -> Result<()> {
    let farm = Farm::new(ledger.store.clone());
    let (a, b) = (worker(&farm, 1, &["sleep"]).await?, worker(&farm, 2, &["sleep"]).await?);
    farm.download(&[task(1), task(2), task(3), task(4)]).await?;
    for number in [1, 2, 3] {
        ensure!(hand_out(&farm, a, 1).await? == Some(id(number)));
        report(&farm, a, id(number), TaskStatus::Failed, 2).await?;
        ensure!(farm.task(id(number)).await?.context("the task")?.status == TaskStatus::SoftFailed);
    }
    ensure!(hand_out(&farm, a, 3).await?.is_none(), "it is barred");
    ensure!(farm.barred(at(3)).await?.len() == 1 && farm.barred(at(8 * 24 * 3600)).await?.is_empty());
    ensure!(hand_out(&farm, b, 3).await? == Some(id(1)));
    report(&farm, b, id(1), TaskStatus::Failed, 4).await?;
    ensure!(farm.task(id(1)).await?.context("the task")?.status == TaskStatus::Failed);
    ensure!(
        farm.admit_again(a, job(), "sleep").await? && hand_out(&farm, a, 5).await? == Some(id(4)),
        "not one that failed on it"
    );
    Ok(())
}

pub async fn keeps_what_was_given_out_since_the_server_was_asked(ledger: &Ledger) -> Result<()> {
    let farm = Farm::new(ledger.store.clone());
    let w = worker(&farm, 1, &["sleep"]).await?;
    farm.download(&[task(1)]).await?;
    ensure!(hand_out(&farm, w, 5).await? == Some(id(1)));
    // The Server has been told of it meanwhile.
    let told: Vec<ObjectId> = farm.updates(10).await?.iter().map(|update| update.id).collect();
    farm.delete_updates(&told).await?;
    ensure!(farm.count_updates().await? == 0);
    let said = |second: u64| Task { last_updated: Some(at(second)), ..task(1) };
    ensure!(farm.download(&[said(4)]).await? == 0);
    ensure!(farm.task(id(1)).await?.context("the task")?.worker_id == Some(w));
    ensure!(farm.download(&[said(6)]).await? == 1, "this word is newer");
    Ok(())
}

pub async fn queues_updates_in_their_order(ledger: &Ledger) -> Result<()> {
    let farm = Farm::new(ledger.store.clone());
    let w = worker(&farm, 1, &["sleep"]).await?;
    farm.download(&[task(1), Task { job_type: "manager-local".into(), ..task(2) }]).await?;
    hand_out(&farm, w, 1).await?;
    // The Server's word is older than ours.
    ensure!(farm.download(&[task(1)]).await? == 0);
    report(&farm, w, id(1), TaskStatus::Completed, 2).await?;
    ensure!(hand_out(&farm, w, 3).await? == Some(id(2)));
    ensure!(matches!(report(&farm, id(9), id(1), TaskStatus::Completed, 3).await?, Reported::Gone));
    ensure!(matches!(report(&farm, w, id(9), TaskStatus::Completed, 3).await?, Reported::Unknown));
    let statuses = farm.updates(10).await?.iter().map(|update| update.status).collect::<Vec<_>>();
    ensure!(statuses == [Some(TaskStatus::Active), None, Some(TaskStatus::Completed)], "{statuses:?}");
    ensure!(farm.has_updates(3).await? && !farm.has_updates(4).await?);
    let ids: Vec<ObjectId> = farm.updates(2).await?.iter().map(|update| update.id).collect();
    ensure!(
        farm.delete_updates(&ids).await? == 2
            && farm.delete_updates(&ids).await? == 0
            && farm.count_updates().await? == 1
    );
    // Canceled by the Server: what runs is stopped first.
    farm.cancel(&[id(2)], at(4)).await?;
    ensure!(farm.task(id(2)).await?.context("the task")?.status == TaskStatus::CancelRequested);
    let refused = farm.may_run(w, id(2), &seen(5)).await?.context("the worker")?;
    ensure!(refused.refused.is_some());
    farm.cancel(&[id(2), id(77)], at(6)).await?;
    ensure!(
        farm.task(id(2)).await?.context("the task")?.status == TaskStatus::Canceled
            && farm.count_updates().await? == 3
    );
    Ok(())
}

pub async fn lets_one_manager_push(ledger: &Ledger) -> Result<()> {
    let (farm, other) = (Farm::new(ledger.store.clone()), Farm::new(ledger.another()?));
    let hold = Duration::from_secs(30);
    ensure!(
        farm.take_lease("push", "a", at(0), hold).await?
            && !other.take_lease("push", "b", at(10), hold).await?
    );
    ensure!(
        farm.take_lease("push", "a", at(20), hold).await?
            && !other.take_lease("push", "b", at(40), hold).await?
    );
    ensure!(
        other.take_lease("push", "b", at(50), hold).await?
            && !farm.take_lease("push", "a", at(51), hold).await?
    );
    farm.return_lease("push", "a").await?;
    ensure!(!farm.take_lease("push", "a", at(52), hold).await?);
    other.return_lease("push", "b").await?;
    ensure!(farm.take_lease("push", "a", at(53), hold).await?);
    farm.set_note("x", "1").await?;
    farm.set_note("x", "2").await?;
    ensure!(other.note("x").await?.as_deref() == Some("2"));
    farm.forget_note("x").await?;
    ensure!(other.note("x").await?.is_none());
    Ok(())
}

pub async fn a_choice_costs_the_same_however_many_tasks_there_are(ledger: &Ledger) -> Result<()> {
    let farm = Farm::new(ledger.store.clone());
    let w = worker(&farm, 1, &["sleep", "debug"]).await?;
    let mut read = Vec::new();
    for more in [1..=100, 101..=4000] {
        farm.download(&more.map(task).collect::<Vec<_>>()).await?;
        let Some(before) = ledger.rows_read("farm_task").await? else { return Ok(()) };
        let given = hand_out(&farm, w, 1).await?.context("a task")?;
        read.push(ledger.rows_read("farm_task").await?.unwrap_or_default() - before);
        report(&farm, w, given, TaskStatus::Completed, 2).await?;
    }
    ensure!(read[1] <= read[0] + 5 && read[1] < 40, "{read:?}");
    Ok(())
}
