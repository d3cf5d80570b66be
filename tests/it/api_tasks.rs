//! `/tasks`: tasks without their types.

use serde_json::{Value, json};
use tasker::domain::Scope;

use crate::api_access::{create, guarded, with};
use crate::api_rig::{Answer, Rig};

/// Submits to a type and gives our id.
async fn submit(rig: &Rig, task_type: &str, identifier: &str) -> String {
    let answer = rig.post(&format!("/{task_type}"), json!({"identifier": identifier}).to_string()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().expect("an id").to_owned()
}

fn identifiers(answer: &Answer) -> Vec<String> {
    let page = answer.json();
    let tasks = page["tasks"].as_array().unwrap_or_else(|| panic!("a page: {page}"));
    tasks
        .iter()
        .map(|task| {
            format!("{} {}", task["type"].as_str().unwrap_or("?"), task["identifier"].as_str().unwrap_or("?"))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_found_by_its_id_or_an_identifier_of_its_own() {
    let rig = Rig::start().await;
    let first = submit(&rig, "worker", "first").await;
    submit(&rig, "backup", "second").await;
    let of_type = rig.get("/worker/first").await.json();
    for name in [first.as_str(), "first"] {
        let found = rig.get(&format!("/tasks/{name}")).await;
        assert_eq!((found.status, found.json()), (200, of_type.clone()), "{name}");
    }
    assert_eq!(rig.get("/tasks/second").await.json()["task"]["type"], "backup");
    let unknown = rig.get("/tasks/third").await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "unknown_task"));
    assert!(
        unknown.json()["detail"].as_str().is_some_and(|detail| detail.contains("\"third\"")),
        "{unknown:?}"
    );
    assert_eq!(rig.get("/tasks/first?responses=some").await.code(), "invalid_query");
    assert_eq!(rig.post("/tasks/first", "{}").await.status, 405);
    assert_eq!(rig.post("/tasks", "{}").await.status, 422);

    let canceled = rig.delete(&format!("/tasks/{first}")).await;
    assert_eq!((canceled.status, &canceled.json()["status"]), (200, &json!("CANCELED")));
    assert_eq!(rig.delete("/tasks/third").await.code(), "unknown_task");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_several_tasks_is_refused() {
    let rig = Rig::start().await;
    let ids = [submit(&rig, "worker", "nightly").await, submit(&rig, "backup", "nightly").await];
    for answer in [rig.get("/tasks/nightly").await, rig.delete("/tasks/nightly").await] {
        assert_eq!((answer.status, answer.code().as_str()), (409, "ambiguous_task"));
        let problem = answer.json();
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(ids.iter().all(|id| detail.contains(id)), "{detail}");
    }
    // Nobody gets hold of a task by calling another one by its id.
    submit(&rig, "backup", &ids[0]).await;
    assert_eq!(rig.get(&format!("/tasks/{}", ids[0])).await.code(), "ambiguous_task");
    assert_eq!(rig.get("/worker/nightly").await.json()["task"]["status"], "CREATED", "nothing was canceled");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_all_types_has_filters_and_pages() {
    let rig = Rig::start().await;
    for number in 0..7 {
        submit(&rig, if number % 3 == 0 { "backup" } else { "worker" }, &format!("t{number}")).await;
    }
    let all = ["backup t6", "worker t5", "worker t4", "backup t3", "worker t2", "worker t1", "backup t0"];
    assert_eq!(identifiers(&rig.get("/tasks").await), all);
    for limit in 1..=7 {
        let (mut listed, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = rig.get(&format!("/tasks?limit={limit}{cursor}")).await;
            assert!(identifiers(&page).len() <= limit);
            listed.extend(identifiers(&page));
            match &page.json()["next_cursor"] {
                Value::String(next) => cursor = format!("&cursor={next}"),
                _ => break,
            }
        }
        assert_eq!(listed, all, "in pages of {limit}");
    }
    rig.delete("/backup/t3").await;
    assert_eq!(identifiers(&rig.get("/tasks?status=CANCELED").await), ["backup t3"]);
    assert_eq!(identifiers(&rig.get("/tasks?identifier=t4").await), ["worker t4"]);
    assert_eq!(rig.get("/tasks?type=worker").await.code(), "invalid_query");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_response_is_read_by_its_endpoint() {
    let rig = Rig::start().await;
    let id = rig.submit("t", &["web1", "web12"]).await;
    rig.freeze(id, &["web1", "web12"]).await;
    let whole = rig.get("/worker/t").await.json();
    let answer = rig.get("/worker/t?endpoint=web12").await.json();
    assert_eq!(
        (&answer["task"], &answer["taskResponseList"]),
        (&whole["task"], &json!([whole["taskResponseList"][1]]))
    );
    assert_eq!(rig.get(&format!("/tasks/{id}?endpoint=web2")).await.json()["taskResponseList"], json!([]));
    for bad in ["endpoint=a/b", "endpoint=web1&responses=all"] {
        assert_eq!(rig.get(&format!("/worker/t?{bad}")).await.pointers(), ["?endpoint"], "{bad}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_token_sees_its_types_alone() {
    let rig = guarded().await;
    let [all, worker, blind] = ["a", "l", "s"].map(|letter| letter.repeat(40));
    create(&rig, &all, &[Scope::Admin], &[]).await;
    create(&rig, &worker, &[Scope::Submit, Scope::Read], &["worker"]).await;
    create(&rig, &blind, &[Scope::Submit], &[]).await;
    let submit = async |secret: &str, task_type: &str, identifier: &str| {
        let request = rig
            .request("POST", &format!("/{task_type}"))
            .bearer_auth(secret)
            .header("Content-Type", "application/json");
        let answer = rig.send(request.body(json!({"identifier": identifier}).to_string())).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().expect("an id").to_owned()
    };
    submit(&all, "worker", "both").await;
    let hidden = submit(&all, "backup", "both").await;
    submit(&blind, "backup", "own").await;

    assert_eq!(with(&rig, &all, "GET", "/tasks/both").await.status, 409);
    let seen = with(&rig, &worker, "GET", "/tasks/both").await;
    assert_eq!(
        (seen.status, &seen.json()["task"]["type"]),
        (200, &json!("worker")),
        "of the other it learns nothing"
    );
    assert_eq!(identifiers(&with(&rig, &worker, "GET", "/tasks").await), ["worker both"]);
    for method in ["GET", "DELETE"] {
        let (known, unknown) = (
            with(&rig, &worker, method, &format!("/tasks/{hidden}")).await,
            with(&rig, &worker, method, "/tasks/nope").await,
        );
        assert_eq!((known.status, known.code()), (404, unknown.code()), "{method}");
    }
    // Who may not read cancels what it has submitted, and does not learn that there is more.
    assert_eq!(with(&rig, &blind, "GET", "/tasks").await.status, 403);
    assert_eq!(with(&rig, &blind, "DELETE", "/tasks/both").await.status, 404);
    assert_eq!(with(&rig, &blind, "DELETE", "/tasks/own").await.json()["payload"], "");
    assert_eq!(with(&rig, &worker, "DELETE", "/tasks/both").await.json()["status"], "CANCELED");
    rig.stop().await;
}
