//! What a page reads: types, counts, responses by how they stand, one endpoint and what it owes.

use serde_json::{Value, json};
use tasker::api::Limits;
use tasker::domain::{Grain, PresenceState, ReportEvent, Scope, TaskType, Throughput, Timestamp};

use crate::api_access::{create, with};
use crate::api_rig::{Rig, finished};

async fn rig() -> Rig {
    let schema = r#"{"type": "object", "required": ["tag"], "properties": {"tag": {"type": "string", "examples": ["v1"]}}}"#;
    let config = format!(
        "task_types: [worker, {{name: builds, delivery: queue, schema: '{schema}'}}, {{name: notes, body: payload}}]\napi: {{port: 0, confirm_above: 7}}"
    );
    Rig::start_as(&config, Limits::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn types_say_what_a_submission_must_be() {
    let rig = rig().await;
    let told = rig.get("/types").await.json();
    assert_eq!(told["confirm_above"], 7);
    let types = told["types"].as_array().expect("types");
    let brief: Vec<_> = types
        .iter()
        .map(|one| (one["type"].as_str(), one["delivery"].as_str(), one["body"].as_str()))
        .collect();
    let expected =
        [("worker", "fanout", "envelope"), ("builds", "queue", "envelope"), ("notes", "fanout", "payload")];
    assert_eq!(brief, expected.map(|(name, delivery, body)| (Some(name), Some(delivery), Some(body))));
    assert_eq!((&types[0]["schema"], &types[0]["example"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&types[1]["schema"]["required"], &types[1]["example"]),
        (&json!(["tag"]), &json!({"tag": "v1"}))
    );
    create(&rig, "tasker_for-builds-alone-in-a-test", &[Scope::Read], &["builds"]).await;
    let limited: Value = with(&rig, "tasker_for-builds-alone-in-a-test", "GET", "/types").await.json();
    assert_eq!(limited["types"].as_array().map(Vec::len), Some(1));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_tasks_are_counted_by_type_and_status() {
    let rig = rig().await;
    assert_eq!(rig.get("/tasks/counts").await.json(), json!({"open": []}));
    let first = rig.submit("first", &["a"]).await;
    rig.submit("second", &["a"]).await;
    rig.freeze(first, &["a"]).await;
    rig.report(first, "a", finished(0, "")).await;
    let counts = rig.get("/tasks/counts").await.json();
    let open = counts["open"].as_array().expect("counts");
    assert_eq!(open.len(), 1, "what has ended is not open: {counts}");
    assert_eq!(
        (&open[0]["type"], &open[0]["status"], &open[0]["count"]),
        (&json!("worker"), &json!("CREATED"), &json!(1))
    );
    create(&rig, "tasker_for-builds-alone-in-a-test", &[Scope::Read], &["builds"]).await;
    assert_eq!(
        with(&rig, "tasker_for-builds-alone-in-a-test", "GET", "/tasks/counts").await.json(),
        json!({"open": []})
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throughput_is_told_by_the_minute_and_by_the_hour() {
    let rig = rig().await;
    let empty = rig.get("/stats").await.json();
    assert_eq!((&empty["step"], &empty["spans"]), (&json!("minute"), &json!([])));
    let noon: Timestamp =
        "2026-03-01T12:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().expect("a time").into();
    let minute = |number: u32| noon.after(Grain::Minute.length() * number);
    let (worker, builds): (TaskType, TaskType) =
        ("worker".parse().expect("a type"), "builds".parse().expect("a type"));
    let done = Throughput { done: 1, answers: 5, errors: 0, ..Throughput::ACCEPTED };
    let of = [
        (minute(0), worker.clone(), done),
        (minute(0), builds, done),
        (minute(59), worker.clone(), done),
        (minute(60), worker, done),
    ];
    rig.state.store.add_throughput(&of).await.expect("written");
    rig.state.store.add_throughput(&of[..1]).await.expect("added");
    let spans = async |query: &str| {
        let told = rig
            .get(&format!("/stats?since=2026-03-01T12:00:00Z&until=2026-03-01T14:00:00Z{query}"))
            .await
            .json();
        let spans = told["spans"].as_array().expect("spans").clone();
        spans
            .into_iter()
            .map(|span| (span["time"].as_str().expect("a time")[11..16].to_owned(), span["done"].clone()))
            .collect::<Vec<_>>()
    };
    let expected = |spans: &[(&str, u64)]| {
        spans.iter().map(|(time, done)| ((*time).to_owned(), json!(done))).collect::<Vec<_>>()
    };
    assert_eq!(spans("").await, expected(&[("12:00", 3), ("12:59", 1), ("13:00", 1)]));
    assert_eq!(spans("&step=hour").await, expected(&[("12:00", 4), ("13:00", 1)]));
    assert_eq!(spans("&step=hour&type=builds").await, expected(&[("12:00", 1)]));
    // A token that is limited to types is told of these alone.
    create(&rig, "tasker_for-builds-alone-in-a-test", &[Scope::Read], &["builds"]).await;
    let limited = with(
        &rig,
        "tasker_for-builds-alone-in-a-test",
        "GET",
        "/stats?step=hour&since=2026-03-01T00:00:00Z&until=2026-03-02T00:00:00Z",
    )
    .await
    .json();
    let of_builds = json!({"time": "2026-03-01T12:00:00.000000Z", "accepted": 1, "done": 1, "failed": 0, "canceled": 0, "expired": 0, "answers": 5, "errors": 0});
    assert_eq!(limited["spans"], json!([of_builds]));
    for (query, problem) in
        [("step=day", "must be one of minute, hour"), ("step=minute,hour", "must be one of minute, hour")]
    {
        let refused =
            with(&rig, "tasker_for-builds-alone-in-a-test", "GET", &format!("/stats?{query}")).await;
        assert_eq!(refused.status, 422);
        assert!(refused.text.contains(problem), "{refused:?}");
    }
    let long = with(
        &rig,
        "tasker_for-builds-alone-in-a-test",
        "GET",
        "/stats?since=2026-01-01T00:00:00Z&until=2026-03-01T12:00:30Z",
    )
    .await
    .json();
    assert_eq!(
        (&long["since"], long["spans"].as_array().map(Vec::len)),
        (&json!("2026-02-22T13:20:00.000000Z"), Some(1))
    );
    assert_eq!(
        with(&rig, "tasker_for-builds-alone-in-a-test", "GET", "/stats?type=worker").await.status,
        404
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_are_listed_by_how_they_stand() {
    let rig = rig().await;
    let id = rig.submit("one", &["a", "b", "c", "d", "e"]).await;
    rig.freeze(id, &["a", "b", "c", "d", "e"]).await;
    rig.report(id, "a", finished(0, "")).await;
    rig.report(id, "b", finished(32, "no room")).await;
    rig.report(id, "c", ReportEvent::Received).await;
    let names = async |query: &str| {
        let page = rig.get(&format!("/worker/one/responses{query}")).await;
        assert_eq!(page.status, 200, "{query}: {page:?}");
        let page = page.json();
        let names = page["responses"]
            .as_array()
            .expect("responses")
            .iter()
            .map(|one| one["endpoint"].as_str().expect("a name").to_owned());
        (names.collect::<Vec<_>>().join(""), page["next_cursor"].as_str().map(str::to_owned))
    };
    for (query, expected) in [
        ("", "abcde"),
        ("?state=ok", "a"),
        ("?state=failed", "b"),
        ("?state=running", "c"),
        ("?state=missing", "de"),
        ("?state=canceled", ""),
        ("?state=expired", ""),
        ("?from=c", "cde"),
        ("?from=bb", "cde"),
        ("?from=x", ""),
        ("?state=missing&from=e", "e"),
    ] {
        assert_eq!(names(query).await, (expected.to_owned(), None), "{query}");
    }
    let (first, cursor) = names("?limit=2").await;
    assert_eq!(first, "ab");
    let (second, cursor) = names(&format!("?limit=2&cursor={}", cursor.expect("more"))).await;
    assert_eq!(second, "cd");
    assert_eq!(names(&format!("?limit=2&cursor={}", cursor.expect("more"))).await, ("e".to_owned(), None));
    rig.delete("/worker/one").await;
    assert_eq!(names("?state=canceled").await.0, "de", "the one that runs has not confirmed it yet");
    for wrong in ["?state=OK", "?state=", "?from=a%20b", "?cursor=x", "?limit=0", "?q=a"] {
        let answer = rig.get(&format!("/worker/one/responses{wrong}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_query"), "{wrong}");
    }
    assert_eq!(rig.get("/worker/none/responses").await.code(), "unknown_task");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_long_answers_is_shorter_and_goes_on() {
    let rig = rig().await;
    let names: Vec<String> = (0..12).map(|number| format!("e{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let id = rig.submit("one", &names).await;
    rig.freeze(id, &names).await;
    for name in &names {
        let event = ReportEvent::Finished {
            errnr: 0,
            errmsg: String::new(),
            payload: Some(tasker::domain::json(&"x".repeat(200 << 10))),
            attempt: 1,
            attempts: Vec::new(),
            log: None,
            run: None,
        };
        rig.report(id, name, event).await;
    }
    let (mut seen, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = rig.get(&format!("/worker/one/responses?limit=100{cursor}")).await.json();
        seen.extend(
            page["responses"]
                .as_array()
                .expect("responses")
                .iter()
                .map(|one| one["endpoint"].as_str().expect("a name").to_owned()),
        );
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, names);
    assert!(pages > 1, "a page has about a megabyte");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_found_by_its_name_with_what_it_owes() {
    let rig = rig().await;
    rig.see("a", &["worker"], PresenceState::Alive).await;
    rig.see("ab", &["worker"], PresenceState::Alive).await;
    let found = rig.get("/endpoints?name=a").await.json();
    let names: Vec<_> =
        found["endpoints"].as_array().expect("endpoints").iter().map(|one| one["name"].as_str()).collect();
    assert_eq!((names, &found["next_cursor"]), (vec![Some("a")], &Value::Null));
    assert_eq!(found["endpoints"][0]["types"][0]["type"], "worker");
    assert_eq!(rig.get("/endpoints?name=b").await.json()["endpoints"], json!([]));
    assert_eq!(rig.get("/endpoints?name=a%20b").await.code(), "invalid_query");

    for (identifier, done) in [("first", true), ("second", false), ("third", false)] {
        let id = rig.submit(identifier, &["a"]).await;
        rig.freeze(id, &["a"]).await;
        match (done, identifier) {
            (true, _) => rig.report(id, "a", finished(0, "")).await,
            (false, "second") => rig.report(id, "a", ReportEvent::Received).await,
            (false, _) => {}
        }
    }
    let owed = rig.get("/endpoints/a/tasks").await.json();
    let tasks: Vec<_> = owed["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|one| (one["identifier"].as_str(), one["received"].as_bool()))
        .collect();
    assert_eq!(
        (tasks, &owed["more"]),
        (vec![(Some("second"), Some(true)), (Some("third"), Some(false))], &json!(false))
    );
    assert_eq!(rig.get("/endpoints/ab/tasks").await.json(), json!({"tasks": [], "more": false}));
    assert_eq!(rig.get("/endpoints/a%20b/tasks").await.code(), "unknown_endpoint");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_endpoint_owes_is_told_however_long_its_payloads_are() {
    let rig =
        Rig::start_as("task_types: [worker]\napi: {port: 0, body_limit: 1MiB}", Limits::default()).await;
    let payload = "x".repeat(200 << 10);
    for number in 0..101 {
        let body = json!({"identifier": format!("t{number}"), "payload": payload, "endpoints": ["a"]});
        let answer = rig.post("/worker", body.to_string()).await.json();
        rig.freeze(answer["id"].as_str().and_then(|id| id.parse().ok()).expect("an id"), &["a"]).await;
    }
    let owed = rig.get("/endpoints/a/tasks").await.json();
    assert_eq!((owed["tasks"].as_array().map(Vec::len), &owed["more"]), (Some(100), &json!(true)));
    rig.stop().await;
}
