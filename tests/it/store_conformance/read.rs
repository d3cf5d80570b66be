//! Questions that change nothing.

use std::time::Duration;

use anyhow::Result;
use tasker::domain::{
    NewTask, PartState, PresenceState, ReportEvent, TaskEvent, TaskId, TaskStatus, TaskType, Timestamp,
};
use tasker::store::{
    Census, CensusQuery, Freeze, Owed, OwedBrief, Part, Parts, ResponseFilter, ResponseQuery, Settlement,
    Sweep, Swept, TaskQuery,
};

use super::ledger::{
    ALL, Ledger, RETENTION, at, finished, name, names, noon, received, report, task, tasks, worker,
};
use super::presence::presence;

fn query(limit: u32) -> TaskQuery {
    TaskQuery { limit, ..TaskQuery::default() }
}

fn backup() -> TaskType {
    "backup".parse().expect("a type")
}

pub async fn finds_by_id_and_by_identifier(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["a"]).await?;
    let by_id = ledger.task(id).await?;
    let by_identifier = ledger.store.find_by_identifier(&worker(), &"a".parse()?).await?.expect("found");
    assert_eq!(format!("{by_id:?}"), format!("{by_identifier:?}"));
    assert!(ledger.store.find(TaskId::new()).await?.is_none());
    assert!(ledger.store.find_by_identifier(&backup(), &"a".parse()?).await?.is_none());
    assert!(ledger.store.find_by_identifier(&worker(), &"b".parse()?).await?.is_none());
    assert!(ledger.store.responses(TaskId::new(), ResponseFilter::All, None, ALL).await?.is_empty());
    Ok(())
}

pub async fn tells_times_within_four_digits(ledger: &Ledger) -> Result<()> {
    let far = NewTask {
        expires_at: Timestamp::LAST.after(Duration::MAX),
        receive_by: Timestamp::LAST,
        ..task("far")
    };
    let early = NewTask {
        start_time: Timestamp::FIRST,
        receive_by: Timestamp::FIRST.before(Duration::MAX),
        ..task("early")
    };
    ledger
        .store
        .accept(&[far.clone(), early.clone()], Timestamp::LAST.after(RETENTION), Duration::MAX)
        .await?;
    if !ledger.is_mysql() {
        // As older versions wrote it: an hour into the year 10000.
        ledger
            .execute("UPDATE task SET expires_at = 253402304399000000 WHERE identifier = CAST('far' AS BLOB)")
            .await?;
    }
    let listed = ledger.store.list(&worker(), &query(10)).await?;
    let end = |id| listed.iter().find(|task| task.id == id).map(|task| (task.expires_at, task.receive_by));
    assert_eq!(end(far.id), Some((Timestamp::LAST, Timestamp::LAST)));
    assert_eq!(end(early.id), Some((early.expires_at, Timestamp::FIRST)));
    assert_eq!(ledger.task(early.id).await?.start_time, Timestamp::FIRST);
    ledger.store.cancel(far.id, Timestamp::LAST, Duration::MAX).await?;
    assert_eq!(ledger.task(far.id).await?.finished_at, Some(Timestamp::LAST));
    Ok(())
}

pub async fn lists_newest_first_by_cursor(ledger: &Ledger) -> Result<()> {
    let batch = tasks(25);
    ledger.store.accept(&batch, at(10), RETENTION).await?;
    ledger.store.accept(&[NewTask { task_type: backup(), ..task("other") }], at(10), RETENTION).await?;
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = ledger.store.list(&worker(), &TaskQuery { before, ..query(10) }).await?;
        assert!(page.len() <= 10);
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.iter().map(|task| task.id));
    }
    assert_eq!(seen, batch.iter().rev().map(|task| task.id).collect::<Vec<_>>());
    Ok(())
}

pub async fn lists_by_filter(ledger: &Ledger) -> Result<()> {
    let mut batch = tasks(12);
    for (number, task) in batch.iter_mut().enumerate() {
        task.start_time = at(u64::try_from(number)? * 10);
    }
    let ids = ledger.frozen(&batch, &names(&["a"])).await?;
    ledger
        .store
        .apply(
            &[received(ids[0], "a"), finished(ids[1], "a", 0), finished(ids[2], "a", 1)],
            &Default::default(),
            at(1),
            RETENTION,
        )
        .await?;
    ledger.store.cancel(ids[3], at(1), RETENTION).await?;
    let list = async |wanted: TaskQuery| {
        let tasks = ledger.store.list(&worker(), &wanted).await?;
        anyhow::Ok(
            tasks
                .iter()
                .map(|task| ids.iter().position(|id| *id == task.id).expect("ours"))
                .collect::<Vec<_>>(),
        )
    };
    let of = |status: &[TaskStatus]| TaskQuery { status: status.to_vec(), ..query(100) };
    assert_eq!(list(of(&[TaskStatus::Done])).await?, [2, 1]);
    assert_eq!(list(of(&[TaskStatus::Canceled, TaskStatus::Sent, TaskStatus::Done])).await?, [3, 2, 1, 0]);
    assert_eq!(
        list(TaskQuery { limit: 2, ..of(&[TaskStatus::Canceled, TaskStatus::Sent, TaskStatus::Done]) })
            .await?,
        [3, 2]
    );
    assert_eq!(list(TaskQuery { before: Some(ids[2]), ..of(&[TaskStatus::Done]) }).await?, [1]);
    let failed = TaskQuery { failed: true, ..query(100) };
    assert_eq!(list(failed.clone()).await?, [2]);
    assert_eq!(list(TaskQuery { failed: true, ..of(&[TaskStatus::Done]) }).await?, [2]);
    assert_eq!(list(TaskQuery { failed: true, ..of(&[TaskStatus::Sent]) }).await?, [0; 0]);
    assert_eq!(list(TaskQuery { before: Some(ids[2]), ..failed }).await?, [0; 0]);
    let prefix = |text: &str| TaskQuery { identifier_prefix: Some(text.into()), ..query(100) };
    assert_eq!(list(TaskQuery { failed: true, ..prefix("task 2") }).await?, [2]);
    assert_eq!(list(prefix("task 1")).await?, [11, 10, 1]);
    assert_eq!(list(prefix("Task 1")).await?, [0; 0]);
    assert_eq!(list(prefix("task_1")).await?, [0; 0]);
    assert_eq!(list(prefix("")).await?.len(), 12);
    assert_eq!(list(TaskQuery { status: vec![TaskStatus::Created], ..prefix("task 1") }).await?, [11, 10]);
    assert_eq!(list(TaskQuery { since: Some(at(30)), until: Some(at(50)), ..query(100) }).await?, [4, 3]);
    assert_eq!(
        list(TaskQuery { since: Some(at(30)), status: vec![TaskStatus::Created], ..query(2) }).await?,
        [11, 10]
    );
    assert_eq!(list(TaskQuery { until: Some(noon()), ..query(100) }).await?, [0; 0]);
    Ok(())
}

pub async fn tells_what_is_missing(ledger: &Ledger) -> Result<()> {
    let first = ledger.one("first", &["c", "b", "B", "a"]).await?;
    let second = ledger.one("second", &["a", "b"]).await?;
    let complete = ledger.one("complete", &["a"]).await?;
    ledger
        .store
        .apply(
            &[received(first, "b"), finished(first, "c", 0), received(complete, "a")],
            &Default::default(),
            at(1),
            RETENTION,
        )
        .await?;
    assert_eq!(ledger.store.missing(first).await?, names(&["B", "a"]));
    assert_eq!(ledger.store.missing(complete).await?, []);
    assert_eq!(ledger.store.missing(TaskId::new()).await?, []);
    assert_eq!(ledger.store.missing(second).await?, names(&["a", "b"]));
    let responses = ledger.store.responses(first, ResponseFilter::Missing, None, ALL).await?;
    assert_eq!(responses.iter().map(|response| response.endpoint.as_str()).collect::<Vec<_>>(), ["B", "a"]);
    let page = async |filter, after: Option<&str>, limit| {
        let page = ledger.store.responses(first, filter, after.map(name), limit).await?;
        anyhow::Ok(page.into_iter().map(|response| response.endpoint.to_string()).collect::<Vec<_>>())
    };
    let one = ledger
        .store
        .response_of(first, &name("c"))
        .await?
        .map(|response| (response.endpoint.to_string(), response.errnr));
    assert_eq!(one, Some(("c".to_owned(), Some(0))));
    assert!(
        ledger.store.response_of(first, &name("C")).await?.is_none()
            && ledger.store.response_of(second, &name("c")).await?.is_none()
    );
    assert_eq!(page(ResponseFilter::All, None, 2).await?, ["B", "a"]);
    assert_eq!(page(ResponseFilter::All, Some("a"), 2).await?, ["b", "c"]);
    assert_eq!(page(ResponseFilter::All, Some("aa"), 1).await?, ["b"], "the one before need not be there");
    assert_eq!(page(ResponseFilter::Missing, Some("B"), 9).await?, ["a"]);
    assert_eq!(page(ResponseFilter::All, Some("c"), 9).await?, [""; 0]);
    Ok(())
}

pub async fn tells_how_each_endpoint_stands(ledger: &Ledger) -> Result<()> {
    use PartState::{
        Canceled, Failed, Lost, Ok as Done, Received, Running, Sent, TimeLimit, Vanished, Waiting,
    };
    let id = ledger.one("a", &["B", "a", "b", "c", "d", "e", "f", "g"]).await?;
    let other = ledger.one("b", &["a"]).await?;
    assert!(ledger.store.standing(TaskId::new()).await?.is_none());
    let look = async |which: Parts| {
        let standing = ledger.store.standing(id).await?.expect("it is there");
        let parts = ledger.store.parts(&standing, which).await?;
        anyhow::Ok(
            parts
                .into_iter()
                .map(|Part { endpoint, state, received }| (endpoint.to_string(), state, received))
                .collect::<Vec<_>>(),
        )
    };
    let told = |parts: &[(&str, PartState, bool)]| {
        parts.iter().map(|(name, state, had)| ((*name).to_owned(), *state, *had)).collect::<Vec<_>>()
    };
    assert_eq!(
        look(Parts::Of(names(&["g", "a", "nobody"]))).await?,
        told(&[("a", Waiting, false), ("g", Waiting, false)])
    );
    ledger.store.mark_published(&[id], at(1)).await?;
    let reports = [
        received(id, "a"),
        report(id, "b", ReportEvent::Progress { percent: 0 }),
        finished(id, "c", 0),
        finished(id, "d", 1),
        finished(id, "e", 69),
        finished(id, "f", 124),
        received(id, "g"),
        received(other, "a"),
    ];
    ledger.store.apply(&reports, &Default::default(), at(2), RETENTION).await?;
    // All have been there and are gone; these two are back.
    ledger
        .store
        .see(&["a", "b"].map(|name| presence(name, &["worker"], PresenceState::Alive)), at(3))
        .await?;
    let expected = [
        ("B", Sent, false),
        ("a", Received, true),
        ("b", Running, true),
        ("c", Done, true),
        ("d", Failed, true),
        ("e", Lost, true),
        ("f", TimeLimit, true),
        ("g", Vanished, true),
    ];
    assert_eq!(look(Parts::All).await?, told(&expected));
    ledger.store.cancel(id, at(4), RETENTION).await?;
    assert_eq!(look(Parts::Of(names(&["B"]))).await?, told(&[("B", Canceled, false)]));
    let (standing, task) = (ledger.store.standing(id).await?.expect("it is there"), ledger.task(id).await?);
    assert_eq!(
        (standing.status, standing.counts, standing.task_type),
        (task.status, task.counts, task.task_type)
    );
    let times = (standing.published_at, standing.finished_at, standing.expires_at);
    assert_eq!(times, (task.published_at, task.finished_at, task.expires_at));
    Ok(())
}

pub async fn tells_what_is_owed(ledger: &Ledger) -> Result<()> {
    let ids = ledger.frozen(&tasks(8), &names(&["a", "b"])).await?;
    let other = NewTask { task_type: backup(), ..task("other") };
    let other = ledger.frozen(&[other], &names(&["a"])).await?[0];
    ledger
        .store
        .apply(
            &[received(ids[0], "a"), finished(ids[1], "a", 0), finished(ids[2], "b", 0)],
            &Default::default(),
            at(1),
            RETENTION,
        )
        .await?;
    ledger.store.apply(&[received(ids[3], "a")], &Default::default(), at(1), RETENTION).await?;
    ledger.store.cancel(ids[3], at(2), RETENTION).await?;
    let expire =
        Settlement { id: ids[4], event: Some(TaskEvent::Expire), found: None, asks: 0, due_at: at(9) };
    ledger.store.settle(&[expire], at(3), RETENTION).await?;
    let owed = async |types: &[TaskType], after, limit| {
        anyhow::Ok(
            ledger
                .store
                .owed_by(&name("a"), types, after, limit)
                .await?
                .iter()
                .map(|owed| owed.task.id)
                .collect::<Vec<_>>(),
        )
    };
    // The fourth is canceled, and the endpoint that has received it must be told.
    assert_eq!(owed(&[worker()], None, 100).await?, [ids[0], ids[2], ids[3], ids[5], ids[6], ids[7]]);
    assert_eq!(
        owed(&[worker(), backup()], None, 100).await?,
        [ids[0], ids[2], ids[3], ids[5], ids[6], ids[7], other]
    );
    assert_eq!(owed(&[worker()], None, 2).await?, [ids[0], ids[2]]);
    assert_eq!(owed(&[worker()], Some(ids[3]), 2).await?, [ids[5], ids[6]]);
    let all = ledger.store.owed_by(&name("a"), &[worker()], None, 100).await?;
    let rows: Vec<_> = all.iter().map(|owed| (owed.row.endpoint.as_str(), owed.row.home.is_some())).collect();
    assert_eq!(rows[..3], [("a", true), ("a", false), ("a", true)], "what was received says where");
    let open = ledger.store.open_rows(&[ids[0], ids[2], ids[4]]).await?;
    let open_at = |id| {
        open.get(&id)
            .into_iter()
            .flatten()
            .map(|row| (row.endpoint.as_str(), row.home.is_some()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (open_at(ids[0]), open_at(ids[2]), open_at(ids[4])),
        (vec![("a", true), ("b", false)], vec![("a", false)], vec![])
    );
    assert_eq!(owed(&[backup()], None, 2).await?, [other]);
    assert_eq!(owed(&[], None, 2).await?, []);
    assert!(ledger.store.owed_by(&name("A"), &[worker()], None, 100).await?.is_empty());
    let whole: Vec<_> = ledger.store.owed_by(&name("a"), &[worker(), backup()], None, 100).await?;
    let brief = |owed: Owed| OwedBrief {
        id: owed.task.id,
        identifier: owed.task.identifier,
        task_type: owed.task.task_type,
        received: owed.row.home.is_some(),
        start_time: owed.task.start_time,
        expires_at: owed.task.expires_at,
    };
    let whole: Vec<_> = whole.into_iter().map(brief).collect();
    assert_eq!(ledger.store.owed_briefly(&name("a"), &[worker(), backup()], 100).await?, whole);
    assert_eq!(ledger.store.owed_briefly(&name("a"), &[worker(), backup()], 3).await?, whole[..3]);
    assert!(ledger.store.owed_briefly(&name("a"), &[], 100).await?.is_empty());
    Ok(())
}

pub async fn counts_open_tasks(ledger: &Ledger) -> Result<()> {
    assert!(ledger.store.open_tasks().await?.is_empty());
    let mut batch = tasks(6);
    for (number, task) in batch.iter_mut().enumerate() {
        task.start_time = at(u64::try_from(number)?);
    }
    let ids = ledger.frozen(&batch, &names(&["a"])).await?;
    ledger
        .store
        .accept(&[NewTask { task_type: backup(), start_time: at(50), ..task("other") }], at(10), RETENTION)
        .await?;
    ledger.store.mark_published(&ids[1..4], at(9)).await?;
    ledger.store.apply(&[finished(ids[1], "a", 0)], &Default::default(), at(9), RETENTION).await?;
    let open = ledger.store.open_tasks().await?;
    let rows: Vec<_> =
        open.iter().map(|open| (open.task_type.clone(), open.status, open.count, open.oldest)).collect();
    let expected = [
        (backup(), TaskStatus::Created, 1, at(50)),
        (worker(), TaskStatus::Created, 3, at(0)),
        (worker(), TaskStatus::Sent, 2, at(2)),
    ];
    assert_eq!(rows, expected);
    Ok(())
}

pub async fn adds_up_what_was_accepted(ledger: &Ledger) -> Result<()> {
    let ids = ledger.frozen(&tasks(5), &names(&["a", "b"])).await?;
    let other = NewTask { task_type: backup(), ..task("other") };
    ledger.frozen(&[other], &names(&["a"])).await?;
    ledger.store.mark_published(&ids, at(0)).await?;
    ledger
        .store
        .apply(
            &[finished(ids[0], "a", 0), finished(ids[0], "b", 9), received(ids[1], "a")],
            &Default::default(),
            at(1),
            RETENTION,
        )
        .await?;
    ledger.store.cancel(ids[2], at(2), RETENTION).await?;
    let expire =
        Settlement { id: ids[3], event: Some(TaskEvent::Expire), found: None, asks: 0, due_at: at(9) };
    ledger.store.settle(&[expire], at(3), RETENTION).await?;
    let all = CensusQuery { limit: 100, ..CensusQuery::default() };
    let sums = |census: &Census| {
        [census.accepted, census.accounted, census.missing, census.expected, census.open, census.double]
    };
    let census =
        async |query: &CensusQuery, now| anyhow::Ok(ledger.store.census(&worker(), query, now).await?);
    let good = census(&all, at(5)).await?;
    assert_eq!((sums(&good), good.next, good.flaws), ([5, 5, 0, 10, 4, 0], None, vec![]));
    // By pages, from the oldest on.
    let first = census(&CensusQuery { limit: 3, ..all.clone() }, at(5)).await?;
    assert_eq!((sums(&first), first.next), ([3, 3, 0, 6, 2, 0], Some(ids[2])));
    let rest = census(&CensusQuery { limit: 3, after: first.next, ..all.clone() }, at(5)).await?;
    assert_eq!((sums(&rest), rest.next), ([2, 2, 0, 4, 2, 0], None));
    assert_eq!(sums(&census(&CensusQuery { since: Some(at(1)), ..all.clone() }, at(5)).await?), [0; 6]);
    assert_eq!(sums(&census(&CensusQuery { until: Some(at(1)), ..all.clone() }, at(5)).await?)[0], 5);

    // Nobody looks after the two that are open once their time has come.
    let late = census(&all, at(3700)).await?;
    assert_eq!(sums(&late), [5, 3, 2, 10, 4, 0]);
    assert_eq!(late.flaws.iter().map(|flaw| flaw.id).collect::<Vec<_>>(), [ids[1], ids[4]]);
    // Three attempts: the first was interrupted, the text of the second only says so.
    let attempts =
        r#"[{"attempt":1,"errnr":71,"errmsg":"it ended"},{"attempt":2,"errnr":75,"errmsg":"errnr:71,"}]"#;
    ledger
        .execute(&format!(
            "UPDATE response SET attempt = 3, attempts = '{attempts}' WHERE endpoint = 'b' AND status = 2"
        ))
        .await?;
    // One that was canceled while it ran, and one that runs.
    ledger.execute("UPDATE response SET progress = 0 WHERE endpoint = 'a' AND status = 3").await?;
    ledger.execute("UPDATE response SET progress = 40 WHERE endpoint = 'a' AND status = 1").await?;
    for (allowed, excess, flaws) in [(None, 0, vec![]), (Some(3), 0, vec![]), (Some(2), 1, vec![ids[0]])] {
        let many = census(&CensusQuery { attempts: allowed, ..all.clone() }, at(5)).await?;
        assert_eq!((many.executions, many.interrupted, many.excess, many.double), (6, 1, excess, 0));
        assert_eq!(many.flaws.iter().map(|flaw| flaw.id).collect::<Vec<_>>(), flaws);
    }
    // A row that somebody has lost, and one that was run twice.
    ledger.execute("DELETE FROM response WHERE endpoint = 'b' AND status = 3").await?;
    ledger.execute("UPDATE response SET doubled = 1 WHERE endpoint = 'a' AND status = 2").await?;
    ledger.execute("UPDATE response SET attempts = NULL WHERE endpoint = 'b' AND status = 2").await?;
    let bad = census(&all, at(5)).await?;
    assert_eq!(sums(&bad), [5, 4, 1, 9, 4, 2]);
    assert_eq!(bad.flaws.iter().map(|flaw| flaw.id).collect::<Vec<_>>(), [ids[0], ids[2]]);
    Ok(())
}

/// Counts rows instead of reading a plan: what a plan promises and what a server does are two things.
pub async fn reads_by_key_however_much_history_there_is(ledger: &Ledger) -> Result<()> {
    if ledger.rows_read("task").await?.is_none() {
        // SQLite counts nothing; its statements name their index, and fail where it does not serve.
        return Ok(());
    }
    let history = tasks(3000);
    let ids = ledger.frozen(&history, &names(&["a", "b"])).await?;
    let reports: Vec<_> = ids.iter().flat_map(|id| [finished(*id, "a", 0), finished(*id, "b", 0)]).collect();
    for reports in reports.chunks(2000) {
        ledger.store.apply(reports, &Default::default(), at(1), RETENTION).await?;
    }
    let open = ledger.one("open", &["a", "b"]).await?;
    let store = &ledger.store;
    let since = Some(at(0).after(Duration::from_secs(48 * 3600)));
    let filtered = |status| TaskQuery { status: vec![status], ..query(5) };
    let measured = async |name: &str,
                          most: u64,
                          read: std::pin::Pin<
        Box<dyn Future<Output = Result<(), tasker::store::StoreError>> + '_>,
    >| {
        let rows = async || {
            anyhow::Ok(
                ledger.rows_read("task").await?.unwrap_or(0)
                    + ledger.rows_read("response").await?.unwrap_or(0),
            )
        };
        let before = rows().await?;
        read.await?;
        let rows = rows().await? - before;
        anyhow::ensure!(rows <= most, "{name} read {rows} rows");
        anyhow::ensure!(rows > 0 || most == 1, "{name} read no row: the counter does not count");
        anyhow::Ok(())
    };
    measured("find", 2, Box::pin(async { store.find(open).await.map(drop) })).await?;
    let identifier = "task 1234".parse()?;
    measured(
        "find_by_identifier",
        2,
        Box::pin(async { store.find_by_identifier(&worker(), &identifier).await.map(drop) }),
    )
    .await?;
    measured("claim_due", 10, Box::pin(async { store.claim_due(at(600), at(20), 5).await.map(drop) }))
        .await?;
    measured("open_rows", 4, Box::pin(async { store.open_rows(&[open]).await.map(drop) })).await?;
    measured(
        "owed_by",
        4,
        Box::pin(async { store.owed_by(&name("a"), &[worker()], None, 5).await.map(drop) }),
    )
    .await?;
    measured(
        "owed_briefly",
        4,
        Box::pin(async { store.owed_briefly(&name("a"), &[worker()], 5).await.map(drop) }),
    )
    .await?;
    measured(
        "responses",
        4,
        Box::pin(async { store.responses(open, ResponseFilter::All, None, ALL).await.map(drop) }),
    )
    .await?;
    // The key has what is asked, so that answers are not read to be counted: two of two, and one of a group.
    measured("answers", 16, Box::pin(async { store.answers(ids[7], 20, 1000).await.map(drop) })).await?;
    let members = ResponseQuery {
        answer: store.answers(ids[7], 1, 0).await?.groups.first().map(|group| group.digest),
        limit: 5,
        ..Default::default()
    };
    measured("response_page", 4, Box::pin(async { store.response_page(ids[7], &members).await.map(drop) }))
        .await?;
    measured("missing", 4, Box::pin(async { store.missing(open).await.map(drop) })).await?;
    measured("list", 12, Box::pin(async { store.list(&worker(), &query(5)).await.map(drop) })).await?;
    let before = TaskQuery { before: Some(ids[1500]), ..query(5) };
    measured("list before", 12, Box::pin(async { store.list(&worker(), &before).await.map(drop) })).await?;
    let done = filtered(TaskStatus::Done);
    measured("list done", 12, Box::pin(async { store.list(&worker(), &done).await.map(drop) })).await?;
    let failed = TaskQuery { failed: true, ..query(5) };
    measured("list failed", 1, Box::pin(async { store.list(&worker(), &failed).await.map(drop) })).await?;
    let created = filtered(TaskStatus::Created);
    measured("list created", 4, Box::pin(async { store.list(&worker(), &created).await.map(drop) })).await?;
    let prefix = TaskQuery { identifier_prefix: Some("task 299".into()), ..query(50) };
    measured("list prefix", 30, Box::pin(async { store.list(&worker(), &prefix).await.map(drop) })).await?;
    let since = TaskQuery { since, ..query(5) };
    measured("list since", 1, Box::pin(async { store.list(&worker(), &since).await.map(drop) })).await?;
    measured("open_tasks", 8, Box::pin(async { store.open_tasks().await.map(drop) })).await?;
    let reports = [received(open, "a")];
    measured(
        "apply",
        8,
        Box::pin(async { store.apply(&reports, &Default::default(), at(2), RETENTION).await.map(drop) }),
    )
    .await?;
    Ok(())
}

pub async fn sweeps_what_a_filter_means(ledger: &Ledger) -> Result<()> {
    let mut batch = tasks(4500);
    for (number, task) in batch.iter_mut().enumerate() {
        task.start_time = at(u64::try_from(number / 500)?);
    }
    for some in batch.chunks(1000) {
        ledger.store.accept(some, at(10), RETENTION).await?;
    }
    let ids: Vec<TaskId> = batch.iter().map(|task| task.id).collect();
    ledger.known(&names(&["a"]), noon()).await?;
    let sets: Vec<_> = ids[..3].iter().map(|id| Freeze { id: *id, expected: names(&["a"]) }).collect();
    ledger.store.freeze(&sets, noon()).await?;
    ledger
        .store
        .apply(
            &[finished(ids[0], "a", 0), finished(ids[1], "a", 3), finished(ids[2], "a", 4)],
            &Default::default(),
            at(1),
            RETENTION,
        )
        .await?;
    ledger.store.accept(&[NewTask { task_type: backup(), ..task("other") }], at(10), RETENTION).await?;
    let open = Sweep {
        task_type: worker(),
        status: TaskStatus::Created,
        identifier_prefix: None,
        since: None,
        until: None,
        failed: false,
        replaced: true,
    };
    let as_of = async |time: Timestamp, sweep: &Sweep| {
        let (mut found, mut after, mut steps) = (Vec::new(), None, 0);
        loop {
            let Swept { ids, next } = ledger.store.sweep(sweep, time, after).await?;
            anyhow::ensure!(ids.len() <= 2000, "a step is bounded");
            found.extend(ids);
            (after, steps) = (next, steps + 1);
            if next.is_none() {
                return anyhow::Ok((found, steps));
            }
        }
    };
    let all = async |sweep: &Sweep| as_of(at(10_000), sweep).await;
    let (found, steps) = all(&open).await?;
    assert!(found == ids[3..] && steps == 3, "oldest first, step by step");
    let prefix = Sweep { identifier_prefix: Some("task 449".into()), ..open.clone() };
    assert_eq!(all(&prefix).await?.0, [[ids[449]].as_slice(), &ids[4490..]].concat());
    let window = Sweep { since: Some(at(2)), until: Some(at(3)), ..open.clone() };
    assert!(all(&window).await?.0 == ids[1000..1500], "accepted in this second");
    assert!(
        as_of(at(2), &open).await?.0.last().is_some_and(|id| ids[999..1500].contains(id)),
        "accepted by then"
    );
    let done = Sweep { status: TaskStatus::Done, ..open.clone() };
    assert_eq!(as_of(noon(), &done).await?.0, [], "they ended a second later");
    assert_eq!(as_of(at(1), &done).await?.0, ids[..3]);
    assert_eq!(all(&done).await?.0, ids[..3]);
    assert_eq!(all(&Sweep { failed: true, ..done }).await?.0, ids[1..3]);
    assert_eq!(all(&Sweep { task_type: backup(), ..open }).await?.0.len(), 1);
    let asked =
        ["task 7", "task 4499", "task 4500", "other"].map(|text| text.parse().expect("an identifier"));
    let taken = ledger.store.taken_identifiers(&worker(), &asked).await?;
    assert_eq!(taken, asked[..2].iter().cloned().collect());
    assert!(ledger.store.taken_identifiers(&worker(), &[]).await?.is_empty());
    Ok(())
}
