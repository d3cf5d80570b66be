//! Tasks that are aimed at endpoints by what these say of themselves.

use serde_json::{Value, json};
use tasker::domain::{Presence, PresenceState};

use crate::api_rig::{Answer, Rig};

/// Five endpoints of `worker`: three in Berlin, of which one is stopped, two in Paris, of which one is in
/// trouble.
async fn fleet() -> Rig {
    let rig = Rig::start().await;
    for (name, site, role) in [("web1", "berlin", "web"), ("db1", "berlin", "db"), ("web2", "paris", "web")] {
        rig.see_labelled(name, &[("site", site), ("role", role)]).await;
    }
    rig.see_labelled("web9", &[("site", "berlin"), ("role", "web")]).await;
    let web9 = rig.presence("web9", &["worker"], PresenceState::Leaving);
    let labels =
        rig.store.endpoints(None, 10).await.expect("the store works").pop().expect("web9 comes last").labels;
    rig.see_this(Presence { labels, ..web9 }).await;
    let trouble = Some("disk full".to_owned());
    rig.see_this(Presence { trouble, ..rig.presence("db2", &["worker"], PresenceState::Alive) }).await;
    rig.see("other", &["Other_1"], PresenceState::Alive).await;
    rig
}

/// The endpoints of a task of these members.
async fn chosen(rig: &Rig, identifier: &str, members: &Value) -> Value {
    let mut body = json!({"identifier": identifier});
    body.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
    let answer = rig.post("/worker", body.to_string()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["endpoints"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_for_those_that_fit_and_are_there() {
    let rig = fleet().await;
    for (index, (members, endpoints)) in [
        (json!({"match": "site=berlin"}), json!(["db1", "web1"])),
        (json!({"match": ["site=berlin", "role=web"]}), json!(["web1"])),
        (json!({"match": "site in (berlin, paris)", "exclude": "role=db"}), json!(["web1", "web2"])),
        (json!({"exclude": ["site"]}), json!(["db2"])),
        (json!({"match": "version~^1\\."}), json!(["db1", "db2", "web1", "web2"])),
        (json!({"match": "name=web*", "limit": 9}), json!(["web1", "web2"])),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(chosen(&rig, &format!("t{index}"), &members).await, endpoints, "{members}");
    }
    let part = json!({"percent": 50, "seed": "a"});
    let some = chosen(&rig, "part", &part).await;
    assert_eq!(some.as_array().map(Vec::len), Some(2));
    assert_eq!(chosen(&rig, "the same part", &part).await, some);
    let task = &rig.get("/worker/part").await.json()["task"];
    assert_eq!(task["target"], part);
    assert_eq!(task["endpoints"], some);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_submission_is_the_same_task_whoever_is_there() {
    let rig = fleet().await;
    let body = r#"{"identifier":"a","match":"site = berlin"}"#;
    let first = rig.post("/worker", body).await;
    assert_eq!(first.status, 201, "{first:?}");
    rig.see_labelled("web3", &[("site", "berlin")]).await;
    let again = rig.post("/worker", r#"{"identifier":"a","match":["site=berlin"]}"#).await;
    assert_eq!((again.status, &again.json()["endpoints"]), (200, &json!(["db1", "web1"])), "{again:?}");
    for name in ["web1", "db1", "web3"] {
        rig.see(name, &["worker"], PresenceState::Leaving).await;
    }
    let nobody_left = rig.post("/worker", body).await;
    assert_eq!(
        (nobody_left.status, &nobody_left.json()["id"]),
        (200, &first.json()["id"]),
        "{nobody_left:?}"
    );
    for other in [
        r#"{"identifier":"a","match":"site=paris"}"#,
        r#"{"identifier":"a"}"#,
        r#"{"identifier":"a","payload":1,"match":"site=berlin"}"#,
    ] {
        let answer = rig.post("/worker", other).await;
        assert_eq!(
            (answer.status, answer.code()),
            (409, "identifier_conflict".to_owned()),
            "{other}: {answer:?}"
        );
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_chooses_nobody_is_refused_with_the_reason() {
    let rig = fleet().await;
    let refused = async |body: &str| {
        let answer = rig.post("/worker", body).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_submission".to_owned()), "{answer:?}");
        let error = answer.json()["errors"][0].clone();
        (
            error["pointer"].as_str().expect("a pointer").to_owned(),
            error["message"].as_str().expect("a text").to_owned(),
        )
    };
    let (pointer, message) = refused(r#"{"identifier":"a","match":"site=rome"}"#).await;
    assert_eq!(
        (pointer.as_str(), message.as_str()),
        ("/match", "chooses none of the 5 endpoints known for `worker`")
    );
    let (_, message) =
        refused(r#"{"identifier":"a","match":"site=berlin","exclude":"name in (web1, db1)"}"#).await;
    assert!(
        message.ends_with("1 that it matches are stopped (web9), 2 are excluded (db1, web1)"),
        "{message}"
    );
    let (pointer, message) = refused(r#"{"identifier":"a","match":["site=a","site in"]}"#).await;
    assert_eq!(pointer, "/match/1");
    assert!(message.starts_with("is not a selector: at character 8: expected `(`"), "{message}");
    let regexes = json!({"identifier": "a", "match": vec!["site~a or site~b"; 33]}).to_string();
    let (pointer, message) = refused(&regexes).await;
    assert_eq!(pointer, "/match/32");
    assert!(message.contains("more than 64 regular expressions"), "{message}");
    assert_eq!(rig.get("/worker/a").await.status, 404, "nothing was recorded");
    rig.stop().await;
}

async fn put_group(rig: &Rig, name: &str, body: Value) -> Answer {
    let request = rig.request("PUT", &format!("/groups/{name}")).header("Content-Type", "application/json");
    rig.send(request.body(body.to_string())).await
}

/// The one spelling that is kept is longer than what was written.
#[tokio::test(flavor = "multi_thread")]
async fn the_longest_selector_can_be_read_again() {
    let rig = fleet().await;
    let longest = vec!["name"; 819].join(",");
    let posted = rig.post("/worker", json!({"identifier": "a", "match": longest}).to_string()).await;
    assert_eq!(posted.status, 201, "{posted:?}");
    let listed = rig.get("/tasks?identifier=a").await;
    assert_eq!((listed.status, listed.json()["tasks"][0]["identifier"].as_str()), (200, Some("a")));
    let group = put_group(&rig, "all", json!({"match": longest})).await;
    assert!(group.status < 300, "{group:?}");
    let (read, deleted) = (rig.get("/groups").await, rig.delete("/groups/all").await);
    assert_eq!((read.status, deleted.status), (200, 200), "{read:?} {deleted:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_who_would_and_who_not() {
    let rig = fleet().await;
    let told = async |body: &str| {
        let answer = rig.post("/worker?dry_run=true", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let preview = told(r#"{"identifier":"a","match":"site=berlin or name=db2","exclude":"role=db"}"#).await;
    let left_out =
        json!([{"name": "db1", "reason": "excluded"}, {"name": "web9", "reason": "not_subscribed"}]);
    assert_eq!(
        (&preview["endpoints"], &preview["left_out"], &preview["unmatched"]),
        (&json!(["db2", "web1"]), &left_out, &json!(1))
    );
    assert_eq!(preview["warnings"], json!(["endpoint \"db2\" takes no tasks now: disk full"]));
    let everybody = told(r#"{"identifier":"a"}"#).await;
    assert_eq!(everybody["endpoints"], json!(["db1", "db2", "web1", "web2"]));
    let named = told(r#"{"identifier":"a","endpoints":["web9","wbe1"]}"#).await;
    assert_eq!((&named["endpoints"], &named["unmatched"]), (&json!(["wbe1", "web9"]), &json!(4)));
    assert!(named["warnings"].to_string().contains("never heard of; did you mean web1?"), "{named}");
    assert!(named["warnings"].to_string().contains(r#"\"web9\" is not subscribed now"#), "{named}");
    let nobody = told(r#"{"identifier":"a","match":"site=rome"}"#).await;
    assert_eq!(nobody["warnings"], json!(["chooses none of the 5 endpoints known for `worker`"]));
    assert_eq!(rig.get("/worker/a").await.status, 404, "nothing was recorded");
    assert_eq!(rig.post("/worker?dry_run=maybe", r#"{"identifier":"a"}"#).await.code(), "invalid_query");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_stored_selectors() {
    let rig = fleet().await;
    let put = async |name: &str, body: Value| put_group(&rig, name, body).await;
    assert_eq!(rig.get("/groups").await.json(), json!({"groups": []}));
    let new = put("berlin", json!({"match": ["site = berlin", "name!=db9"]})).await;
    assert_eq!((new.status, &new.json()["match"]), (201, &json!("site=berlin and name!=db9")), "{new:?}");
    let changed = put("berlin", json!({"match": "site=berlin"})).await;
    assert_eq!((changed.status, &changed.json()["changed_by"]), (200, &Value::Null), "{changed:?}");
    assert_eq!(put("web", json!({"match": "role=web"})).await.status, 201);
    assert_eq!(rig.get("/groups/berlin").await.json(), changed.json());
    let names: Vec<_> = rig.get("/groups").await.json()["groups"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|group| group["name"].clone())
        .collect();
    assert_eq!(names, ["berlin", "web"]);

    for (index, (members, endpoints)) in [
        (json!({"groups": ["berlin"]}), json!(["db1", "web1"])),
        (json!({"groups": ["berlin", "web"]}), json!(["db1", "web1", "web2"])),
        (json!({"groups": ["berlin"], "match": "name=db2"}), json!(["db1", "db2", "web1"])),
        (json!({"match": "@berlin and @web"}), json!(["web1"])),
        (json!({"match": "@web", "exclude": "@berlin"}), json!(["web2"])),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(chosen(&rig, &format!("t{index}"), &members).await, endpoints, "{members}");
    }
    let listed = rig.get("/endpoints?match=%40web%20and%20site%3Dparis").await.json();
    assert_eq!(listed["endpoints"][0]["name"], "web2");

    // A group that is not there is an error with the one that was likely meant, wherever it is named.
    for (members, pointer) in [
        (json!({"groups": ["web", "berlni"]}), "/groups/1"),
        (json!({"match": "@berlni"}), "/match"),
        (json!({"match": "@web", "exclude": "@berlni"}), "/exclude"),
    ] {
        let mut body = json!({"identifier": "x"});
        body.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
        let refused = rig.post("/worker", body.to_string()).await;
        let error = &refused.json()["errors"][0];
        assert_eq!((refused.status, error["pointer"].as_str()), (422, Some(pointer)), "{refused:?}");
        assert_eq!(error["message"], "unknown group \"berlni\" (stored: berlin, web); did you mean berlin?");
    }
    assert_eq!(rig.get("/endpoints?match=%40nobody").await.code(), "invalid_query");

    // What is no group.
    for (name, body, pointer) in [
        ("-a", json!({"match": "a"}), ""),
        ("a", json!({"match": "a="}), "/match"),
        ("a", json!({"match": ["a", "@web"]}), "/match/1"),
        ("a", json!({"match": []}), "/match"),
        (
            "a",
            json!({"match": [format!("a={}", "x".repeat(4000)), "b=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"]}),
            "/match",
        ),
        ("a", json!({"match": "a", "name": "b"}), ""),
    ] {
        let refused = put(name, body.clone()).await;
        assert_eq!(
            (refused.status, refused.code()),
            (422, "invalid_group".to_owned()),
            "{name} {body}: {refused:?}"
        );
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{name} {body}");
    }
    let gone = rig.delete("/groups/web").await;
    assert_eq!((gone.status, &gone.json()["match"]), (200, &json!("role=web")));
    for answer in [rig.get("/groups/web").await, rig.delete("/groups/web").await] {
        assert_eq!((answer.status, answer.code()), (404, "unknown_group".to_owned()), "{answer:?}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_endpoints_are_told_of_and_expected_on_request() {
    let rig = fleet().await;
    let posted = async |path: &str, body: Value| {
        let answer = rig.post(path, body.to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    };
    let task = posted("/worker", json!({"identifier": "a"})).await;
    assert_eq!((&task["stopped"], &task["endpoints"]), (&json!(1), &json!([])), "{task}");
    let named = posted("/worker", json!({"identifier": "b", "endpoints": ["web9"]})).await;
    assert_eq!(named.get("stopped"), None, "{named}");
    let known =
        posted("/worker", json!({"identifier": "c", "match": "site=berlin", "expect": "known"})).await;
    assert_eq!(
        (&known["endpoints"], known.get("stopped")),
        (&json!(["db1", "web1", "web9"]), None),
        "{known}"
    );
    let all = posted("/worker", json!({"identifier": "d", "expect": "known"})).await;
    assert_eq!(all["endpoints"], json!(["db1", "db2", "web1", "web2", "web9"]));
    let preview = rig.post("/worker?dry_run=true", r#"{"identifier":"e","expect":"known"}"#).await.json();
    assert_eq!((&preview["endpoints"], &preview["left_out"]), (&all["endpoints"], &json!([])));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_never_heard_of_is_refused_where_that_is_asked_for() {
    let rig = fleet().await;
    let body = r#"{"identifier":"a","endpoints":["web1","wbe2","web9"]}"#;
    let refused = rig.post("/worker?strict=true", body).await;
    assert_eq!((refused.status, refused.code()), (422, "invalid_submission".to_owned()), "{refused:?}");
    let told =
        json!([{"pointer": "/endpoints/1", "message": "\"wbe2\" was never heard of; did you mean web2?"}]);
    assert_eq!(refused.json()["errors"], told);
    assert_eq!(rig.get("/worker/a").await.status, 404, "nothing was recorded");
    assert_eq!(
        rig.post("/worker?strict=true", r#"{"identifier":"a","endpoints":["web1","web9"]}"#).await.status,
        201
    );
    assert_eq!(
        rig.post("/worker?strict=false", r#"{"identifier":"b","endpoints":["wbe2"]}"#).await.status,
        201
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_are_long_gone_are_forgotten_together() {
    let rig = fleet().await;
    let forget = async |query: &str| rig.delete(&format!("/endpoints?{query}")).await;
    for wrong in ["", "gone_for=long", "gone_for=0s&dry_run=perhaps"] {
        assert_eq!(forget(wrong).await.code(), "invalid_query", "{wrong}");
    }
    assert_eq!(forget("dry_run=perhaps").await.pointers(), ["?gone_for", "?dry_run"]);
    assert_eq!(forget("gone_for=1h").await.json(), json!({"endpoints": [], "open": 0, "more": false}));
    let gone = json!({"endpoints": ["web9"], "open": 0, "more": false});
    assert_eq!(forget("gone_for=1us&dry_run=true").await.json(), gone);
    assert_eq!(forget("gone_for=1us").await.json(), gone);
    assert_eq!(forget("gone_for=1us").await.json()["endpoints"], json!([]));
    assert_eq!(rig.get("/endpoints?match=name%3Dweb9").await.json()["endpoints"], json!([]));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_listed_by_their_labels() {
    let rig = fleet().await;
    let names = async |query: &str| {
        let page = rig.get(&format!("/endpoints?{query}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        let names = page["endpoints"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|endpoint| endpoint["name"].clone())
            .collect::<Value>();
        (names, page["next_cursor"].clone())
    };
    assert_eq!(names("match=site%3Dberlin").await, (json!(["db1", "web1", "web9"]), Value::Null));
    let (first, cursor) = names("match=site%3Dberlin&limit=2").await;
    assert_eq!(first, json!(["db1", "web1"]));
    assert_eq!(
        names(&format!("match=site%3Dberlin&limit=2&cursor={}", cursor.as_str().expect("a cursor"))).await,
        (json!(["web9"]), Value::Null)
    );
    assert_eq!(rig.get("/endpoints?match=site%3D").await.code(), "invalid_query");
    assert_eq!(names("name=db1&match=site%3Dberlin").await.0, json!(["db1"]));
    assert_eq!(names("name=db1&match=site%3Dparis").await.0, json!([]), "both must hold");
    let one = &rig.get("/endpoints?match=name%3Ddb1").await.json()["endpoints"][0];
    assert_eq!(one["labels"], json!({"role": "db", "site": "berlin"}));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusion_that_spares_nobody_is_refused_or_told() {
    let rig = fleet().await;
    for wrong in ["site==paris", "site=~par", "site='paris'"] {
        let body = json!({"identifier": "x", "exclude": wrong}).to_string();
        let refused = rig.post("/worker", body).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec!["/exclude".to_owned()]), "{refused:?}");
        let told = refused.json()["errors"][0]["message"].to_string();
        assert!(told.contains("write site"), "{told}");
    }
    let odd = json!({"identifier": "x", "exclude": ["siet=paris", "role=db"]});
    let warning =
        "exclude \"siet=paris\": excludes none of the 5 endpoints known for the type: unknown label \"siet\"";
    let dry = rig.post("/worker?dry_run=true", odd.to_string()).await;
    let submitted = rig.post("/worker", odd.to_string()).await;
    let batch = json!([{"type": "worker", "identifier": "y", "exclude": "siet=paris"}]);
    let batch = rig.post("/tasks", batch.to_string()).await;
    assert_eq!((dry.status, submitted.status, batch.status), (200, 201, 200));
    for answer in [dry, submitted, batch] {
        let warnings = answer.json()["warnings"].to_string();
        assert!(warnings.contains(&warning.replace('"', "\\\"")), "{answer:?}");
        assert!(!warnings.contains("role=db"), "{answer:?}");
    }
    let document = |exclude: &str| {
        json!({
            "identifier": "r", "type": "worker", "start_at": "manual",
            "targets": {"match": ["site"], "exclude": {"match": [exclude]}},
        })
    };
    let plan = async |exclude: &str| rig.post("/rollouts/plan", document(exclude).to_string()).await;
    assert_eq!(plan("site==paris").await.pointers(), ["/targets/exclude/match/0"]);
    assert_eq!(plan("role=db").await.json().get("warnings"), None);
    let planned = plan("siet=paris").await;
    let recorded = rig.post("/rollouts", document("siet=paris").to_string()).await;
    assert_eq!((planned.status, recorded.status), (200, 201), "{recorded:?}");
    for answer in [planned, recorded] {
        assert!(answer.json()["warnings"][0].to_string().contains("siet=paris"), "{answer:?}");
    }
    rig.stop().await;
}
