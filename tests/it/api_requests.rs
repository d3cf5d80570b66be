//! `/requests` and `/api/poll` as their clients meet them; nothing goes on behind them here.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tasker::api::Limits;

use crate::api_rig::{Answer, Rig};

const CONFIG: &str = "
task_types: [worker, {name: get, delivery: queue}, {name: del1, delivery: queue}, {name: del2, delivery: queue}]
api: {port: 0}
requests: {actions: {remove: [{name: look, jobs: [get]}, {name: delete, jobs: [del1, del2]}]}}";

async fn rig() -> Rig {
    Rig::start_as(CONFIG, Limits::default()).await
}

async fn submit(rig: &Rig, body: &Value) -> Answer {
    rig.post("/requests", body.to_string()).await
}

async fn submitted(rig: &Rig, body: &Value) -> String {
    let answer = submit(rig, body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["token"].as_str().expect("a token").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_recorded_and_read_in_all_its_ways() {
    let rig = rig().await;
    let answer = submit(&rig, &json!({"action": "remove", "params": {"id": 333, "email": ""}})).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let token = answer.json()["token"].as_str().expect("a token").to_owned();
    assert!(uuid::Uuid::parse_str(&token).is_ok_and(|token| token.get_version_num() == 4), "{answer:?}");
    assert_eq!(answer.header("location"), format!("/requests/{token}"));
    let shown = rig.get(&format!("/requests/{token}")).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    let request = shown.json();
    for (member, value) in [
        ("token", json!(token)),
        ("request_token", Value::Null),
        ("action", json!("remove")),
        ("status", json!("Queuing")),
        ("step", json!(0)),
        ("params", json!({"id": 333, "email": ""})),
        ("extras", json!({})),
        ("steps", json!([{"name": "look", "jobs": ["get"]}, {"name": "delete", "jobs": ["del1", "del2"]}])),
        ("error", Value::Null),
        ("completed", Value::Null),
        ("jobs", json!([])),
    ] {
        assert_eq!(request[member], value, "{member}: {request}");
    }
    let poll = rig.get(&format!("/api/poll/{token}")).await;
    assert_eq!((poll.status, poll.json()), (200, json!({"status": "Queuing"})));
    let page = rig.get("/requests").await.json();
    assert_eq!(
        (page["requests"][0]["token"].as_str(), &page["next_cursor"]),
        (Some(token.as_str()), &Value::Null),
        "{page}"
    );
    assert!(page["requests"][0].get("jobs").is_none(), "{page}");
    assert_eq!(rig.get("/").await.json()["actions"], json!(["remove"]));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_submission_is_one_request() {
    let rig = rig().await;
    let body = json!({"action": "remove", "params": {"id": 1}, "request_token": "mine"});
    let token = submitted(&rig, &body).await;
    // In other words, with the same value.
    let again = rig
        .post("/requests", r#"{"request_token": "mine", "params": { "id" : 1.0 }, "action": "remove"}"#)
        .await;
    assert_eq!((again.status, again.json()["token"].as_str()), (200, Some(token.as_str())), "{again:?}");
    for other in [
        json!({"action": "remove", "params": {"id": 2}, "request_token": "mine"}),
        json!({"action": "remove", "request_token": "mine"}),
        json!({"action": "remove", "params": {"id": 1}, "request_token": "mine", "steps": [{"name": "look", "jobs": ["get"]}]}),
    ] {
        let answer = submit(&rig, &other).await;
        assert_eq!((answer.status, answer.code()), (409, "request_conflict".to_owned()), "{answer:?}");
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains(&token)), "{answer:?}");
    }
    // Without a name of the client each is a request of its own.
    let body = json!({"action": "remove"});
    assert_ne!(submitted(&rig, &body).await, submitted(&rig, &body).await);
    assert_eq!(rig.get("/requests").await.json()["requests"].as_array().map(Vec::len), Some(3));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_with_its_place() {
    let rig = rig().await;
    let steps = |jobs: Value| json!({"action": "a", "steps": [{"name": "s", "jobs": jobs}]});
    for (body, pointer, word) in [
        (json!({"action": "remoev"}), "/action", "did you mean remove?"),
        (json!({"action": "a", "steps": []}), "/steps", "at least one step"),
        (steps(json!([])), "/steps/0/jobs", "at least one job"),
        (steps(json!(["get", "get"])), "/steps/0/jobs/1", "for the second time"),
        (steps(json!(["gett"])), "/steps/0/jobs/0", "did you mean get?"),
        (
            json!({"action": "remove", "params": "x".repeat(256 << 10)}),
            "/params",
            "at most 262144 are allowed",
        ),
        (json!({"action": "remove", "param": {}}), "/param", "is not a member"),
    ] {
        let answer = submit(&rig, &body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (422, "invalid_submission".to_owned()),
            "{body}: {answer:?}"
        );
        let errors = answer.json()["errors"].clone();
        assert_eq!(errors.as_array().map(Vec::len), Some(1), "{errors}");
        assert!(
            errors[0]["pointer"] == pointer
                && errors[0]["message"].as_str().is_some_and(|text| text.contains(word)),
            "{errors}"
        );
    }
    let answer = rig.post("/requests", "{").await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_json".to_owned()));
    assert_eq!(rig.get("/requests").await.json()["requests"], json!([]), "nothing is half-made");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_nothing_has_or_can_have_are_told_apart() {
    let rig = rig().await;
    let each = async |token: &str| {
        let paths = [
            ("GET", format!("/requests/{token}")),
            ("DELETE", format!("/requests/{token}")),
            ("POST", format!("/requests/{token}/retry")),
            ("GET", format!("/api/poll/{token}")),
        ];
        let mut answers = Vec::new();
        for (method, path) in paths {
            let request = rig.request(method, &path).header("Content-Type", "application/json");
            let answer = rig.send(request).await;
            answers.push((answer.status, answer.code()));
        }
        answers
    };
    for (token, wanted) in [
        ("a%20b", (400, "bad_path")),
        ("%C3%A9", (400, "bad_path")),
        (&"a".repeat(192), (400, "bad_path")),
        (&"a".repeat(191), (404, "unknown_request")),
        ("A.b_c-9", (404, "unknown_request")),
    ] {
        let wanted = (wanted.0, wanted.1.to_owned());
        assert!(each(token).await.iter().all(|answer| *answer == wanted), "{token}: {:?}", each(token).await);
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_canceled_once_and_for_all() {
    let rig = rig().await;
    let token = submitted(&rig, &json!({"action": "remove"})).await;
    let path = format!("/requests/{token}");
    let refused = rig.post(&format!("{path}/retry"), "").await;
    assert_eq!((refused.status, refused.code()), (409, "nothing_failed".to_owned()), "{refused:?}");
    for _ in 0..2 {
        let canceled = rig.delete(&path).await;
        assert_eq!((canceled.status, &canceled.json()["status"]), (200, &json!("Canceled")), "{canceled:?}");
    }
    assert_eq!(rig.get(&format!("/api/poll/{token}")).await.json()["status"], "Canceled");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_the_request() {
    let rig = rig().await;
    let token = submitted(&rig, &json!({"action": "remove"})).await;
    let path = format!("/requests/{token}?wait=30s");
    let begun = Instant::now();
    let (waited, ()) = tokio::join!(rig.get(&path), async {
        rig.until_request_waits().await;
        assert_eq!(rig.delete(&format!("/requests/{token}")).await.status, 200);
    });
    assert_eq!(waited.json()["status"], "Canceled", "{waited:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // What has ended already is answered at once, and what goes on when the time is over.
    assert_eq!(rig.get(&path).await.json()["status"], "Canceled");
    let open = submitted(&rig, &json!({"action": "remove"})).await;
    assert_eq!(rig.get(&format!("/requests/{open}?wait=100ms")).await.json()["status"], "Queuing");
    let refused = rig.get(&format!("/requests/{open}?wait=2m&job=1")).await;
    assert_eq!(
        (refused.status, refused.pointers()),
        (422, vec!["?wait".to_owned(), "?job".to_owned()]),
        "{refused:?}"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_paged() {
    let rig = rig().await;
    let mut tokens = Vec::new();
    for number in 0..5 {
        let body = match number {
            2 => json!({"action": "remove", "request_token": "order 17"}),
            3 => json!({"action": "other", "steps": [{"name": "s", "jobs": ["get"]}]}),
            _ => json!({"action": "remove"}),
        };
        tokens.push(submitted(&rig, &body).await);
    }
    assert_eq!(rig.delete(&format!("/requests/{}", tokens[1])).await.status, 200);
    let list = async |query: &str| {
        let page = rig.get(&format!("/requests?{query}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        let found = page["requests"].as_array().into_iter().flatten();
        let found: Vec<_> = found
            .map(|one| tokens.iter().position(|token| one["token"] == *token).expect("one of ours"))
            .collect();
        (found, page["next_cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(list("").await, (vec![4, 3, 2, 1, 0], None));
    assert_eq!(list("action=other").await.0, [3]);
    assert_eq!(list("request_token=order%2017").await.0, [2]);
    assert_eq!(list("request_token=order").await.0, [0; 0]);
    assert_eq!(list("request_token=order%2017&action=other").await.0, [0; 0]);
    assert_eq!(list("status=Canceled").await.0, [1]);
    assert_eq!(list("status=Canceled,Queuing&action=remove").await.0, [4, 2, 1, 0]);
    assert_eq!(list("until=2020-01-01T00:00:00Z").await.0, [0; 0]);
    assert_eq!(list("since=2020-01-01T00:00:00Z").await.0.len(), 5);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (found, next) = list(&format!("limit=2{cursor}")).await;
        seen.extend(found);
        let Some(next) = next else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, [4, 3, 2, 1, 0]);
    for query in ["status=DONE", "limit=0", "cursor=x", "identifier=a", "since=now"] {
        let answer = rig.get(&format!("/requests?{query}")).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_query".to_owned()), "{query}: {answer:?}");
    }
    rig.stop().await;
}
