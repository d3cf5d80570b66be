//! Reading tasks and endpoints: one with its responses, waiting for its end, many with filters and pages.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tasker::domain::{AttemptError, PresenceState, ReportEvent, TaskId, TaskStatus};
use tokio::time::Instant;

use crate::api_rig::{PATIENCE, Rig, finished};

fn endpoints_of(answer: &Value) -> Vec<&str> {
    let list = answer["taskResponseList"].as_array().expect("a list");
    list.iter().map(|response| response["endpoint"].as_str().expect("a name")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_tells_what_each_endpoint_did() {
    let rig = Rig::start().await;
    let all = ["console1", "console2", "console3", "console4"];
    let id = rig.submit("t", &all).await;
    rig.freeze(id, &all).await;
    rig.report(id, "console1", finished(0, "")).await;
    let failed = ReportEvent::Finished {
        errnr: 32,
        errmsg: "could not backup!".to_owned(),
        payload: None,
        attempt: 2,
        attempts: vec![AttemptError { attempt: 1, errnr: 75, errmsg: "busy".to_owned() }],
        log: Some("line 1\nline 2".to_owned()),
        run: None,
    };
    rig.report(id, "console2", failed).await;
    rig.report(id, "console3", ReportEvent::Received).await;

    let answer = rig.get("/worker/t").await.json();
    let task = &answer["task"];
    assert_eq!(
        (&task["expected"], &task["received"], &task["finished"], &task["failed"]),
        (&json!(4), &json!(3), &json!(2), &json!(1))
    );
    assert_eq!((&task["status"], &task["missing"]), (&json!("SENT"), &json!(["console4"])));
    assert_eq!(endpoints_of(&answer), all);
    let [first, second, third, fourth] = &answer["taskResponseList"].as_array().expect("a list")[..] else {
        panic!("four: {answer}")
    };
    assert_eq!(
        (&first["status"], &first["errnr"], &first["errmsg"]),
        (&json!("FINISHED"), &json!(0), &json!(""))
    );
    assert_eq!((&first["id"], &first["task_id"]), (&json!(format!("{id}/console1")), &json!(id.to_string())));
    assert_eq!(first["payload"], json!({"seconds": 20}));
    assert_eq!(
        (&second["errnr"], &second["errmsg"], &second["payload"]),
        (&json!(32), &json!("could not backup!"), &Value::Null)
    );
    assert_eq!((&second["attempt"], &second["log"]), (&json!(2), &json!("line 1\nline 2")));
    assert_eq!(second["attempts"], json!([{"attempt": 1, "errnr": 75, "errmsg": "busy"}]));
    assert_eq!((&third["status"], &third["errnr"]), (&json!("CREATED"), &Value::Null));
    assert!(third["start_time"].is_string() && third["last_modified_time"].is_string());
    assert_eq!((&fourth["status"], &fourth["start_time"]), (&json!("EXPECTED"), &Value::Null));

    for (which, endpoints) in [
        ("all", &all[..]),
        ("failed", &["console2"]),
        ("missing", &["console4"]),
        ("none", &[]),
        ("few", &all[..]),
    ] {
        let answer = rig.get(&format!("/worker/{id}?responses={which}")).await.json();
        assert_eq!(endpoints_of(&answer), endpoints, "{which}");
        assert_eq!(answer["task"], *task, "{which}: the task is told in full, the missing included");
    }
    assert_eq!(rig.send(rig.request("HEAD", "/worker/t")).await.text, "");
    rig.stop().await;
}

/// More than are read at once, some of them large: the answer is the same as if they had been.
#[tokio::test(flavor = "multi_thread")]
async fn many_responses_come_in_one_answer() {
    let rig = Rig::start().await;
    for count in [63_usize, 64, 65, 500] {
        let names: Vec<String> = (0..count).map(|number| format!("e{number:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let identifier = format!("t{count}");
        let id = rig.submit(&identifier, &names).await;
        rig.freeze(id, &names).await;
        for (place, name) in names.iter().enumerate().filter(|(place, _)| place % 7 == 0) {
            let payload = json!("x".repeat(if place % 2 == 0 { 200_000 } else { 10 }));
            let payload = Some(tasker::domain::json(&payload));
            let (errnr, errmsg, attempt) = (i32::from(place % 14 == 0), String::new(), 1);
            rig.report(
                id,
                name,
                ReportEvent::Finished {
                    errnr,
                    errmsg,
                    payload,
                    attempt,
                    attempts: Vec::new(),
                    log: None,
                    run: None,
                },
            )
            .await;
        }
        let answer = rig.get(&format!("/worker/{identifier}")).await.json();
        assert_eq!(endpoints_of(&answer), names);
        let finished = answer["taskResponseList"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|response| response["status"] == "FINISHED");
        assert_eq!(
            finished.map(|response| response["payload"].as_str().map_or(0, str::len)).sum::<usize>(),
            { (0..count).step_by(7).map(|place| if place % 2 == 0 { 200_000 } else { 10 }).sum::<usize>() }
        );
        let missing = answer["task"]["missing"].as_array().expect("a list").len();
        assert_eq!(missing, count - count.div_ceil(7));
        let answer = rig.get(&format!("/worker/{identifier}?responses=missing")).await.json();
        assert_eq!(endpoints_of(&answer).len(), missing);
        let answer = rig.get(&format!("/worker/{identifier}?responses=failed")).await.json();
        let failed = count.div_ceil(14);
        assert_eq!(endpoints_of(&answer).len(), failed);
        let answer = rig.get(&format!("/worker/{identifier}?responses=few")).await.json();
        let shown = if count.div_ceil(7) > 20 { 0 } else { failed };
        assert_eq!(endpoints_of(&answer).len(), shown, "of many answers groups tell more");
        assert_eq!(answer["task"]["missing"].as_array().map(Vec::len), Some(missing));
        assert_eq!(rig.send(rig.request("HEAD", &format!("/worker/{identifier}"))).await.text, "");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_the_task() {
    let rig = Rig::start().await;
    let id = rig.submit("t", &["console1"]).await;
    rig.freeze(id, &["console1"]).await;
    let start = Instant::now();
    let (answer, ()) = tokio::join!(rig.get("/worker/t?wait=60s"), async {
        while rig.state.watch.is_empty() {
            tokio::task::yield_now().await;
        }
        rig.report(id, "console1", finished(0, "")).await;
        rig.state.watch.moved(&[(id, TaskStatus::Done)]);
    });
    assert_eq!(answer.json()["task"]["status"], "DONE");
    assert_eq!(
        answer.json()["taskResponseList"][0]["status"],
        "FINISHED",
        "the responses are those of the end"
    );
    assert!(start.elapsed() < PATIENCE);
    assert!(rig.state.watch.is_empty(), "nobody waits any more");
    assert_eq!(
        rig.get("/worker/t?wait=60s").await.json()["task"]["status"],
        "DONE",
        "what has ended is not waited for"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_sees_what_another_process_collected() {
    let rig = Rig::start().await;
    let id = rig.submit("t", &["console1"]).await;
    rig.freeze(id, &["console1"]).await;
    let (answer, ()) = tokio::join!(rig.get("/worker/t?wait=60s&responses=none"), async {
        while rig.state.watch.is_empty() {
            tokio::task::yield_now().await;
        }
        // Nobody tells this process.
        rig.report(id, "console1", finished(1, "no")).await;
    });
    assert_eq!(
        (&answer.json()["task"]["status"], &answer.json()["task"]["failed"]),
        (&json!("DONE"), &json!(1))
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_its_time() {
    let rig = Rig::start().await;
    rig.submit("t", &["console1"]).await;
    let start = Instant::now();
    let answer = rig.get("/worker/t?wait=400ms").await;
    assert_eq!((answer.status, &answer.json()["task"]["status"]), (200, &json!("CREATED")));
    assert!((Duration::from_millis(400)..PATIENCE).contains(&start.elapsed()));
    assert_eq!(rig.get("/worker/t?wait=0s").await.status, 200);
    assert_eq!(
        rig.get("/worker/unknown?wait=60s").await.code(),
        "unknown_task",
        "nobody waits for what is not there"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_may_wait() {
    let rig = Rig::start().await;
    let id = rig.submit("t", &["console1"]).await;
    rig.freeze(id, &["console1"]).await;
    let waiting = futures::future::join_all((0..200).map(|_| rig.get("/worker/t?wait=60s&responses=none")));
    let (answers, ()) = tokio::join!(waiting, async {
        while rig.state.watch.is_empty() {
            tokio::task::yield_now().await;
        }
        rig.report(id, "console1", finished(0, "")).await;
        rig.state.watch.moved(&[(id, TaskStatus::Done)]);
    });
    assert!(answers.iter().all(|answer| answer.json()["task"]["status"] == "DONE"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_fleet_is_told_whole() {
    let rig = Rig::start().await;
    let names: Vec<String> = (0..10_000).map(|number| format!("server-{number:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // Listed in no body: the rig's limit is small. Frozen as those subscribed.
    let id = rig.submit("t", &[]).await;
    rig.freeze(id, &names).await;
    rig.report(id, "server-00007", finished(0, "")).await;
    let answer = rig.get("/worker/t").await.json();
    assert_eq!(endpoints_of(&answer), names);
    assert_eq!(answer["task"]["missing"].as_array().map(Vec::len), Some(9_999));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_filters_and_pages() {
    let rig = Rig::start().await;
    let mut ids: Vec<TaskId> = Vec::new();
    for number in 0..25 {
        ids.push(
            rig.submit(&format!("{}-{number:02}", if number < 20 { "night%_" } else { "day" }), &[]).await,
        );
    }
    rig.delete("/worker/day-24").await;
    ids.reverse();
    let newest_first: Vec<String> = ids.iter().map(TaskId::to_string).collect();

    let ids_of = |page: &Value| -> Vec<String> {
        page["tasks"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|task| task["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    let all = rig.get("/worker").await.json();
    assert_eq!((ids_of(&all), &all["next_cursor"]), (newest_first.clone(), &Value::Null));
    assert_eq!(all["tasks"][24]["payload"], json!({"foo": "bar"}));
    assert!(all["tasks"][0].get("missing").is_none());

    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = rig.get(&format!("/worker?limit=10{cursor}")).await.json();
        seen.extend(ids_of(&page));
        pages += 1;
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        // What comes meanwhile shifts nothing.
        rig.submit(&format!("late-{pages}"), &[]).await;
    }
    assert_eq!((seen, pages), (newest_first.clone(), 3));

    for (filter, count) in [
        ("identifier=night%25_", 20),
        ("identifier=night%25_-1", 10),
        ("identifier=night%", 0),
        ("identifier=Night", 0),
        ("identifier=day", 5),
        ("identifier=day&status=CANCELED", 1),
        ("identifier=day&status=CREATED,CANCELED", 5),
        ("status=DONE,EXPIRED", 0),
        ("identifier=", 27),
        ("until=2020-01-01T00:00:00Z", 0),
        ("since=2020-01-01T00:00:00%2B02:00", 27),
        ("since=2020-01-01T00:00:00+02:00&until=2100-01-01T00:00:00Z", 27),
    ] {
        if filter == "identifier=night%" {
            assert_eq!(rig.get(&format!("/worker?{filter}")).await.code(), "invalid_query");
            continue;
        }
        assert_eq!(ids_of(&rig.get(&format!("/worker?{filter}")).await.json()).len(), count, "{filter}");
    }
    let tenth = &all["tasks"][10];
    let start = tenth["start_time"].as_str().expect("a time");
    let since: BTreeSet<String> =
        ids_of(&rig.get(&format!("/worker?since={start}")).await.json()).into_iter().collect();
    let until: BTreeSet<String> =
        ids_of(&rig.get(&format!("/worker?until={start}")).await.json()).into_iter().collect();
    assert!(
        since.contains(&newest_first[10]) && !until.contains(&newest_first[10]),
        "`since` is inclusive, `until` is not"
    );
    assert_eq!(since.len() + until.len(), 27);
    assert_eq!(rig.get("/backup").await.json(), json!({"tasks": [], "next_cursor": null}));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_payloads_make_short_pages() {
    let rig = Rig::start().await;
    let payload = "x".repeat(60_000);
    let posts = (0..250).map(|number| {
        let body = json!({"identifier": format!("n{number}"), "payload": payload}).to_string();
        rig.post("/worker", body)
    });
    for answer in futures::future::join_all(posts).await {
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let (mut seen, mut cursor, mut pages) = (BTreeSet::new(), String::new(), 0);
    loop {
        let page = rig.get(&format!("/worker?limit=1000{cursor}")).await;
        assert!(page.text.len() < 16 * 1024 * 1024, "a page of {} bytes", page.text.len());
        let page = page.json();
        seen.extend(page["tasks"].as_array().expect("a list").iter().map(|task| task["id"].to_string()));
        pages += 1;
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen.len(), 250);
    assert!(pages > 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_trouble_of_an_endpoint() {
    let rig = Rig::start().await;
    let now = rig.state.clock.now();
    let minutes = Duration::from_secs(300);
    for (name, state, time) in [
        ("ahead", PresenceState::Alive, Some(now.after(minutes))),
        ("gone", PresenceState::Leaving, Some(now.after(minutes))),
        ("near", PresenceState::Alive, Some(now.after(Duration::from_secs(50)))),
        ("old", PresenceState::Alive, None),
    ] {
        rig.see_at(name, &["worker"], PresenceState::Alive, time).await;
        rig.see_at(name, &["worker"], state, time).await;
    }
    for _ in 0..5 {
        rig.see_at("behind", &["worker"], PresenceState::Alive, Some(now.before(minutes))).await;
    }
    let all = rig.get("/endpoints").await.json();
    let told = |index: usize| {
        let endpoint = &all["endpoints"][index];
        let text =
            endpoint["types"][0]["trouble"].as_str().map(|text| text.split_once(" s ").expect("seconds").1);
        (endpoint["clock_offset_ms"].as_i64().map(|ms| ms / 10_000), text)
    };
    assert_eq!(told(0), (Some(29), Some("ahead of the database's")), "{all}");
    assert_eq!(told(1), (Some(-30), Some("behind the database's")), "{all}");
    assert_eq!([told(2), told(3), told(4)], [(Some(29), None), (Some(4), None), (None, None)], "{all}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_told_with_their_types() {
    let rig = Rig::start().await;
    for number in 0..5 {
        rig.see(&format!("console{number}"), &["worker", "backup"], PresenceState::Joined).await;
    }
    rig.see("console4", &["worker", "backup"], PresenceState::Leaving).await;
    let all = rig.get("/endpoints").await.json();
    assert_eq!((all["endpoints"].as_array().map(Vec::len), &all["next_cursor"]), (Some(5), &Value::Null));
    let types = |index: usize| -> BTreeSet<(String, bool)> {
        let types = all["endpoints"][index]["types"].as_array().expect("types");
        types
            .iter()
            .map(|entry| (entry["type"].as_str().expect("a type").to_owned(), entry["subscribed"] == true))
            .collect()
    };
    assert_eq!(types(0), BTreeSet::from([("backup".to_owned(), true), ("worker".to_owned(), true)]));
    assert_eq!(types(4), BTreeSet::from([("backup".to_owned(), false), ("worker".to_owned(), false)]));
    let first = &all["endpoints"][0];
    assert_eq!((&first["name"], &first["version"]), (&json!("console0"), &json!("1.2.3")));
    assert!(first["last_seen"].as_str().is_some_and(|time| time.ends_with('Z')));

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = rig.get(&format!("/endpoints?limit=2{cursor}")).await.json();
        let names =
            page["endpoints"].as_array().expect("a list").iter().map(|entry| entry["name"].to_string());
        seen.extend(names);
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, (0..5).map(|number| format!("\"console{number}\"")).collect::<Vec<_>>());
    rig.stop().await;
}
