//! Answers in groups.

use std::sync::Arc;

use anyhow::Result;
use tasker::domain::{
    AnswerDigest, Fared, Ignored, IgnoredByType, Json, Report, ReportEvent, TaskEvent, TaskId, errnr,
};
use tasker::store::{AnswerGroups, ResponseFilter, ResponseQuery, Settlement};

use super::ledger::{ALL, Ledger, RETENTION, at, fleet, name, names, received, report, task, worker};

fn answered(task_id: TaskId, endpoint: &str, errnr: i32, errmsg: &str, payload: Option<&str>) -> Report {
    let payload: Option<Json> = payload.map(|text| serde_json::from_str(text).expect("JSON"));
    let event = ReportEvent::Finished {
        errnr,
        errmsg: errmsg.to_owned(),
        payload,
        attempt: 1,
        attempts: Vec::new(),
        log: None,
        run: None,
    };
    report(task_id, endpoint, event)
}

/// Each group with its count and the endpoint that it shows, and the numbers of groups and of answers.
fn summed(groups: &AnswerGroups) -> (Vec<(u64, &str)>, u64, u64) {
    (
        groups.groups.iter().map(|group| (group.count, group.endpoint.as_str())).collect(),
        groups.total,
        groups.answered,
    )
}

async fn page(ledger: &Ledger, id: TaskId, query: ResponseQuery) -> Result<(Vec<String>, bool)> {
    let (responses, more) = ledger.store.response_page(id, &query).await?;
    Ok((responses.iter().map(|response| response.endpoint.to_string()).collect(), more))
}

pub async fn groups_equal_answers(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["a1", "b2", "c3", "d4", "e5", "f6", "g7"]).await?;
    let other = ledger.one("b", &["a1"]).await?;
    assert_eq!(summed(&ledger.store.answers(id, 20, 1000).await?), (vec![], 0, 0));
    let ignored: Arc<IgnoredByType> = Arc::new([(worker(), Ignored::of(["/pid"]))].into_iter().collect());
    let reports = [
        answered(id, "c3", 0, "", Some(r#"{"pid":1,"host":"c3"}"#)),
        answered(id, "b2", 0, "", Some(r#"{"host":"b2.example","pid":1}"#)),
        answered(id, "a1", 0, "", Some(r#"{ "host":"a1", "pid":2.5 }"#)),
        answered(id, "d4", 3, "no disk on d4", None),
        answered(id, "e5", 3, "no disk on d4", None),
        received(id, "f6"),
        answered(other, "a1", 0, "", Some(r#"{"pid":1,"host":"a1"}"#)),
    ];
    ledger.store.apply(&reports, &ignored, at(1), RETENTION).await?;
    let found = ledger.store.answers(id, 20, 1000).await?;
    // Of groups of one size the order is that of their names, which say nothing.
    let (mut groups, total, answered_) = summed(&found);
    groups[1..].sort_unstable();
    assert_eq!((groups, total, answered_), (vec![(2, "a1"), (1, "b2"), (1, "d4"), (1, "e5")], 4, 5));
    let largest = &found.groups[0];
    assert_eq!((largest.errnr, largest.errmsg.as_str(), largest.payload_omitted), (0, "", false));
    assert_eq!(largest.payload.as_deref().map(|json| json.get()), Some(r#"{ "host":"a1", "pid":2.5 }"#));
    let failed = found.groups.iter().find(|group| group.endpoint == name("d4")).expect("a group");
    assert_eq!((failed.errnr, failed.errmsg.as_str(), failed.payload.is_none()), (3, "no disk on d4", true));

    // Characters count, whatever bytes they take.
    let umlauts = ledger.one("c", &["a1"]).await?;
    ledger
        .store
        .apply(&[answered(umlauts, "a1", 0, "", Some(r#""äöü""#))], &ignored, at(1), RETENTION)
        .await?;
    for (most, omitted) in [(5, false), (4, true)] {
        assert_eq!(ledger.store.answers(umlauts, 1, most).await?.groups[0].payload_omitted, omitted);
    }

    // Only as many as asked for, and no more of an answer than asked for.
    let found = ledger.store.answers(id, 1, 10).await?;
    assert_eq!(summed(&found), (vec![(2, "a1")], 4, 5));
    assert!(found.groups[0].payload.is_none() && found.groups[0].payload_omitted);
    // A repeat, and an answer after the end, leave the groups as they are.
    ledger.store.apply(&reports[..1], &ignored, at(2), RETENTION).await?;
    ledger.store.apply(&[answered(id, "c3", 9, "otherwise", None)], &ignored, at(2), RETENTION).await?;
    assert_eq!(summed(&ledger.store.answers(id, 1, 10).await?), (vec![(2, "a1")], 4, 5));
    Ok(())
}

pub async fn pages_through_the_members_of_a_group(ledger: &Ledger) -> Result<()> {
    let id = ledger.one("a", &["A", "a", "b", "c", "d", "e", "f"]).await?;
    let said = |endpoint, errnr, errmsg| answered(id, endpoint, errnr, errmsg, None);
    let reports = [
        said("a", 0, ""),
        said("A", 0, ""),
        said("c", 0, ""),
        said("b", 3, "full"),
        said("e", 3, "full"),
        received(id, "d"),
    ];
    ledger.store.apply(&reports, &Default::default(), at(1), RETENTION).await?;
    let found = ledger.store.answers(id, 20, 0).await?;
    let (good, bad) = (found.groups[0].digest, found.groups[1].digest);
    let of = |answer, after: Option<&str>, limit| ResponseQuery {
        answer: Some(answer),
        after: after.map(name),
        limit,
        ..Default::default()
    };
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(page(ledger, id, of(good, None, 2)).await?, (texts(&["A", "a"]), true));
    assert_eq!(page(ledger, id, of(good, Some("a"), 2)).await?, (texts(&["c"]), false));
    assert_eq!(page(ledger, id, of(bad, None, ALL)).await?, (texts(&["b", "e"]), false));
    assert_eq!(
        page(ledger, id, of(AnswerDigest::from_bytes([7; 16]), None, ALL)).await?,
        (texts(&[]), false)
    );
    let response = ledger.store.response_of(id, &name("b")).await?.expect("a response");
    assert_eq!(
        (response.answer, ledger.store.response_of(id, &name("d")).await?.and_then(|it| it.answer)),
        (Some(bad), None)
    );

    let failed = ResponseQuery { filter: ResponseFilter::Succeeded, ..of(bad, None, ALL) };
    assert_eq!(page(ledger, id, failed).await?, (texts(&[]), false));

    // Who performs the task again: those who gave an answer, or those of them in a state.
    assert_eq!(ledger.store.fared(id, &[], Some(good)).await?, names(&["A", "a", "c"]));
    assert_eq!(ledger.store.fared(id, &[Fared::Failed], Some(good)).await?, names(&[]));
    assert_eq!(ledger.store.fared(id, &[Fared::Failed], Some(bad)).await?, names(&["b", "e"]));
    assert_eq!(ledger.store.fared(id, &[Fared::Failed], None).await?, names(&["b", "e"]));
    assert_eq!(ledger.store.fared(id, &[], None).await?, names(&[]));
    Ok(())
}

pub async fn groups_what_was_lost_and_leaves_out_what_has_no_digest(ledger: &Ledger) -> Result<()> {
    let endpoints = fleet(700);
    let id = ledger.frozen(&[task("a")], &endpoints).await?[0];
    let reports: Vec<Report> = endpoints.iter().map(|endpoint| received(id, endpoint.as_str())).collect();
    ledger.store.apply(&reports, &Default::default(), at(1), RETENTION).await?;
    let done: Vec<Report> = endpoints[..300]
        .iter()
        .map(|endpoint| answered(id, endpoint.as_str(), 0, endpoint.as_str(), None))
        .collect();
    ledger.store.apply(&done, &Default::default(), at(2), RETENTION).await?;
    // Nobody is there any more, so what was received is lost.
    let expire = Settlement { id, event: Some(TaskEvent::Expire), found: None, asks: 0, due_at: at(9) };
    ledger.store.settle(&[expire], at(3600), RETENTION).await?;
    let found = ledger.store.answers(id, 20, 1000).await?;
    let groups: Vec<_> = found.groups.iter().map(|group| (group.count, group.errnr)).collect();
    assert_eq!((groups, found.total, found.answered), (vec![(400, errnr::LOST), (300, 0)], 2, 700));

    // As a version left it that knew no digests.
    ledger.execute("UPDATE response SET answer = NULL WHERE errnr = 69").await?;
    let found = ledger.store.answers(id, 20, 1000).await?;
    assert_eq!((found.groups.len(), found.total, found.answered), (1, 1, 300));
    Ok(())
}
