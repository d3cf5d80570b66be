//! Answers in groups of equal ones: to read them, their members, and to run a task again for one of them.

use serde_json::{Value, json};
use tasker::api::Limits;
use tasker::domain::{ReportEvent, TaskId};

use crate::api_rig::{Rig, finished};

const CONFIG: &str = "task_types: [{name: worker, answers: {ignore: [/pid]}}]\napi: {port: 0}";

/// Sixty endpoints and what they answer: most that all is well, some with another version, a few with an
/// error, two not yet, one that is canceled.
async fn performed(rig: &Rig) -> TaskId {
    let names: Vec<String> = (0..60).map(|number| format!("web{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let id = rig.submit("a", &names).await;
    rig.freeze(id, &names).await;
    for (number, name) in names.iter().enumerate() {
        match number {
            0..45 => rig.report(id, name, answered(name, "1.2", number)).await,
            45..52 => rig.report(id, name, answered(name, "1.3", number)).await,
            52..57 => {
                rig.report(id, name, finished(3, &format!("cannot write to {name}:/srv\nno disk"))).await
            }
            57 => rig.report(id, name, ReportEvent::Received).await,
            _ => {}
        }
    }
    id
}

fn answered(name: &str, version: &str, pid: usize) -> ReportEvent {
    let payload = Some(tasker::domain::json(
        &json!({"host": format!("{name}.example"), "version": version, "pid": pid}),
    ));
    ReportEvent::Finished {
        errnr: 0,
        errmsg: String::new(),
        payload,
        attempt: 1,
        attempts: Vec::new(),
        log: None,
        run: None,
    }
}

/// Status, number and count of each group.
fn groups(answers: &Value) -> Vec<(String, Option<i64>, u64)> {
    let groups = answers["groups"].as_array().expect("groups");
    let group = |group: &Value| {
        let status = group["status"].as_str().expect("a status").to_owned();
        (status, group["errnr"].as_i64(), group["count"].as_u64().expect("a count"))
    };
    groups.iter().map(group).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_answers_are_one_group_with_an_exemplar() {
    let rig = Rig::start_as(CONFIG, Limits::default()).await;
    let id = performed(&rig).await;
    let answers = rig.get("/worker/a/answers").await.json();
    let (finished, expected, created) = ("FINISHED".to_owned(), "EXPECTED".to_owned(), "CREATED".to_owned());
    let all = [
        (finished.clone(), Some(0), 45),
        (finished.clone(), Some(0), 7),
        (finished, Some(3), 5),
        (expected, None, 2),
        (created, None, 1),
    ];
    assert_eq!(groups(&answers), all);
    assert_eq!(answers["more"], json!({"groups": 0, "endpoints": 0}));
    let [most, newer, bad, waiting] = [0, 1, 2, 3].map(|place| &answers["groups"][place]);
    let exemplar = json!({"endpoint": "web00", "errmsg": "", "payload": {"host": "web00.example", "pid": 0, "version": "1.2"}, "payload_omitted": false});
    assert_eq!((&most["exemplar"], &most["difference"]), (&exemplar, &Value::Null));
    assert_eq!(
        newer["difference"],
        json!({"changes": [{"at": "/payload/version", "largest": "1.2", "here": "1.3"}], "more": 0})
    );
    assert_eq!(bad["exemplar"]["errmsg"], "cannot write to web52:/srv\nno disk");
    assert_eq!(bad["difference"]["changes"][1]["here"], "cannot write to <endpoint>:/srv\nno disk");
    assert_eq!((&waiting["answer"], &waiting["exemplar"]), (&Value::Null, &Value::Null));

    let two = rig.get(&format!("/worker/{id}/answers?limit=1")).await.json();
    assert_eq!(two["more"], json!({"groups": 2, "endpoints": 12}));
    assert_eq!(groups(&two).len(), 3, "those who have not answered are counted all the same");
    rig.delete("/worker/a").await;
    let canceled = groups(&rig.get("/worker/a/answers").await.json());
    assert_eq!(&canceled[3..], [("CANCELED".to_owned(), None, 2), ("CREATED".to_owned(), None, 1)]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_members_of_a_group_come_page_by_page() {
    let rig = Rig::start_as(CONFIG, Limits::default()).await;
    performed(&rig).await;
    let answers = rig.get("/worker/a/answers").await.json();
    let digest = answers["groups"][0]["answer"].as_str().expect("a digest");
    let (mut names, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = rig.get(&format!("/worker/a/responses?answer={digest}&limit=20{cursor}")).await.json();
        for response in page["responses"].as_array().expect("responses") {
            assert_eq!(response["answer"], digest);
            names.push(response["endpoint"].as_str().expect("a name").to_owned());
        }
        pages += 1;
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((names, pages), ((0..45).map(|number| format!("web{number:02}")).collect(), 3));
    let of = async |query: &str| {
        let page = rig.get(&format!("/worker/a/responses?{query}")).await.json();
        page["responses"]
            .as_array()
            .expect("responses")
            .iter()
            .map(|one| one["endpoint"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("state=failed").await, ["web52", "web53", "web54", "web55", "web56"]);
    assert_eq!(of("state=running").await, ["web57"]);
    assert_eq!(of(&format!("state=failed&answer={digest}")).await, [""; 0]);
    assert_eq!(of("").await.len(), 60);
    for (path, code) in [
        ("/worker/a/answers?limit=0", "invalid_query"),
        ("/worker/a/answers?limit=101", "invalid_query"),
        ("/worker/a/responses?answer=3f9a", "invalid_query"),
        ("/worker/unheard-of/answers", "unknown_task"),
        ("/unheard-of/a/answers", "unknown_task_type"),
    ] {
        assert_eq!(rig.get(path).await.code(), code, "{path}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_gave_an_answer_perform_the_task_again() {
    let rig = Rig::start_as(CONFIG, Limits::default()).await;
    performed(&rig).await;
    let answers = rig.get("/worker/a/answers").await.json();
    let again = async |identifier: &str, only: &[&str], answer: &Value| {
        let body = json!({"identifier": identifier, "only": only, "answer": answer});
        rig.post("/worker/a/rerun", body.to_string()).await
    };
    let (newer, bad) = (&answers["groups"][1]["answer"], &answers["groups"][2]["answer"]);
    let newer_again = again("b", &[], newer).await;
    let names: Vec<String> = (45..52).map(|number| format!("web{number}")).collect();
    assert_eq!(
        (newer_again.status, &newer_again.json()["endpoints"]),
        (201, &json!(names)),
        "{newer_again:?}"
    );
    assert_eq!(again("b", &[], newer).await.status, 200);
    let bad_again = again("c", &["failed"], bad).await;
    assert_eq!(
        (bad_again.status, bad_again.json()["endpoints"].as_array().map(Vec::len)),
        (201, Some(5)),
        "{bad_again:?}"
    );
    for (only, answer, detail) in [
        (&["failed"][..], newer, " is failed (the task is SENT)"),
        (
            &[],
            &json!("00112233445566778899aabbccddeeff"),
            "has given the answer 00112233445566778899aabbccddeeff",
        ),
    ] {
        let nobody = again("d", only, answer).await;
        assert_eq!((nobody.status, nobody.code()), (409, "nothing_failed".to_owned()), "{nobody:?}");
        assert!(nobody.text.contains(detail), "{nobody:?}");
    }
    let unreadable = again("d", &[], &json!("3f9a")).await;
    assert_eq!(
        (unreadable.status, unreadable.code()),
        (422, "invalid_submission".to_owned()),
        "{unreadable:?}"
    );
    rig.stop().await;
}
