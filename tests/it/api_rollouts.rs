//! `/rollouts` as their clients meet them; nothing moves them on here.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tasker::api::Limits;
use tasker::domain::rollout::{Command, Edit};
use tasker::domain::{PresenceState, Scope};
use tasker::store::RolloutPick;

use crate::api_access::{ADMIN, create, with};
use crate::api_rig::{Answer, Rig};

const CONFIG: &str = "task_types: [worker, {name: builds, delivery: queue}]\napi: {port: 0}";

/// With so many endpoints that are there.
async fn rig(endpoints: usize) -> Rig {
    let rig = Rig::start_as(CONFIG, Limits::default()).await;
    let names: Vec<String> = (1..=endpoints).map(|n| format!("web{n}")).collect();
    for name in &names {
        rig.see(name, &["worker"], PresenceState::Alive).await;
    }
    rig
}

async fn submit(rig: &Rig, document: &Value) -> Answer {
    rig.post("/rollouts", document.to_string()).await
}

async fn act(rig: &Rig, path: &str, body: &Value) -> Answer {
    rig.post(&format!("/rollouts/{path}"), body.to_string()).await
}

/// Changes the document of `r`.
async fn patch(rig: &Rig, changes: &Value) -> Answer {
    let request = rig
        .request("PATCH", "/rollouts/r")
        .header("Content-Type", "application/json")
        .body(changes.to_string());
    rig.send(request).await
}

fn document(identifier: &str) -> Value {
    json!({"identifier": identifier, "type": "worker", "payload": {"v": 2}, "waves": [1, "50%", "rest"], "start_at": "manual"})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_is_what_is_created() {
    let rig = rig(10).await;
    let plan = act(&rig, "plan", &document("r")).await;
    assert_eq!(plan.status, 200, "{plan:?}");
    let plan = plan.json();
    let sizes: Vec<_> =
        plan["waves"].as_array().expect("waves").iter().map(|wave| wave["size"].clone()).collect();
    assert_eq!(
        (sizes, &plan["size"], &plan["max_absent"]),
        (vec![json!(1), json!(5), json!(4)], &json!(10), &json!(1)),
        "{plan}"
    );
    assert_eq!(rig.get("/rollouts/r").await.status, 404, "a plan records nothing");
    let mut spread = document("r");
    spread["spread"] = json!({"by": ["name"], "max_in_flight": "50%"});
    let domains = act(&rig, "plan", &spread).await.json()["domains"].clone();
    assert_eq!(
        (domains.as_array().map(Vec::len), &domains[0]),
        (Some(10), &json!({"domain": "name=web1", "size": 1, "max_in_flight": 1}))
    );
    let created = submit(&rig, &document("r")).await;
    assert_eq!((created.status, created.header("location")), (201, "/rollouts/r"), "{created:?}");
    let shown = rig.get("/rollouts/r").await.json();
    assert_eq!(
        (&shown["status"], &shown["document"]["payload"]),
        (&json!("CREATED"), &json!({"v": 2})),
        "{shown}"
    );
    let targets = rig.get("/rollouts/r/targets").await.json();
    let names: Vec<_> = targets["targets"]
        .as_array()
        .expect("targets")
        .iter()
        .map(|target| target["endpoint"].clone())
        .collect();
    let planned: Vec<_> = plan["waves"]
        .as_array()
        .expect("waves")
        .iter()
        .flat_map(|wave| wave["endpoints"].as_array().cloned().expect("names"))
        .collect();
    assert_eq!(names, planned);
    let page = rig.get("/rollouts/r/targets?wave=2&limit=3").await.json();
    let cursor = page["next_cursor"].as_str().expect("there is more").to_owned();
    let rest = rig.get(&format!("/rollouts/r/targets?wave=2&limit=3&cursor={cursor}")).await.json();
    assert_eq!(
        (rest["targets"].as_array().map(Vec::len), &rest["next_cursor"]),
        (Some(2), &Value::Null),
        "{rest}"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_event_holds_no_room() {
    // Room for one page of events.
    let limits = Limits { answer_budget: 100 << 10, room_timeout: Duration::ZERO, ..Limits::default() };
    let rig = Rig::start_as(CONFIG, limits).await;
    rig.see("web1", &["worker"], PresenceState::Alive).await;
    let document =
        json!({"identifier": "r", "type": "worker", "payload": {}, "waves": ["rest"], "start_at": "manual"});
    assert_eq!(submit(&rig, &document).await.status, 201);
    let wait = async || rig.get("/rollouts/r/events?after=1000&wait=3s").await.status;
    let read = async || {
        // By now the other one has looked and waits.
        tokio::time::sleep(Duration::from_millis(200)).await;
        rig.get("/rollouts/r/events").await
    };
    let (waited, read) = tokio::join!(wait(), read());
    assert_eq!((waited, read.status), (200, 200), "{read:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_among_the_holds_is_a_lane_and_an_endpoint() {
    let rig = rig(1).await;
    assert_eq!(rig.get("/rollouts/holds?lane=a&after=web1").await.json(), json!({"holds": []}));
    for query in ["after=web1", "lane=a", "lane=a&after=a%20b"] {
        let answer = rig.get(&format!("/rollouts/holds?{query}")).await;
        assert_eq!(
            (answer.code(), answer.pointers()),
            ("invalid_query".to_owned(), vec!["?after".to_owned()]),
            "{query}"
        );
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_document_is_one_rollout() {
    let rig = rig(3).await;
    assert_eq!(submit(&rig, &document("r")).await.status, 201);
    let again = rig
        .post(
            "/rollouts",
            r#"{"start_at": "manual", "type": "worker", "identifier": "r", "waves": [1.0, "50%", "rest"], "payload": {"v": 2.0}}"#,
        )
        .await;
    assert_eq!(again.status, 422, "a size is a whole number: {again:?}");
    let again = rig
        .post(
            "/rollouts",
            r#"{"start_at": "manual", "type": "worker", "identifier": "r", "waves": [1, "50%", "rest"], "payload": {"v": 2.0}}"#,
        )
        .await;
    assert_eq!((again.status, &again.json()["identifier"]), (200, &json!("r")), "{again:?}");
    let mut other = document("r");
    other["payload"] = json!({"v": 3});
    let other = submit(&rig, &other).await;
    assert_eq!((other.status, other.code()), (409, "rollout_conflict".to_owned()), "{other:?}");
    let listed = rig.get("/rollouts?status=CREATED").await.json();
    assert_eq!(
        (listed["rollouts"].as_array().map(Vec::len), listed["rollouts"][0].get("document")),
        (Some(1), None),
        "{listed}"
    );
    assert_eq!(rig.get("/rollouts?status=DONE").await.json()["rollouts"], json!([]));
    // A fleet that has changed since then changes nothing of it: now the document would be refused.
    let mut strict = document("strict");
    strict["targets"] = json!({"max": 3});
    assert_eq!(submit(&rig, &strict).await.status, 201);
    let rerun = json!({"identifier": "again", "only": ["PENDING"]});
    assert_eq!(act(&rig, "strict/rerun", &rerun).await.status, 201);
    assert_eq!(act(&rig, "strict/skip", &json!({"states": ["PENDING"]})).await.status, 200);
    rig.see("web4", &["worker"], PresenceState::Alive).await;
    let again = submit(&rig, &strict).await;
    assert_eq!((again.status, &again.json()["size"]), (200, &json!(3)), "{again:?}");
    strict["payload"] = json!({"v": 3});
    assert_eq!(
        submit(&rig, &strict).await.code(),
        "rollout_conflict",
        "not that the fleet is too large by now"
    );
    let again = act(&rig, "strict/rerun", &rerun).await;
    assert_eq!((again.status, &again.json()["identifier"]), (200, &json!("again")), "{again:?}");
    let taken = act(&rig, "strict/rerun", &json!({"identifier": "holds"})).await;
    assert_eq!((taken.status, taken.pointers()), (422, vec!["/identifier".to_owned()]), "{taken:?}");
    // Endpoints that have come since then.
    let newcomers = act(&rig, "r/rerun", &json!({"identifier": "newcomers", "only": ["new"]})).await;
    assert_eq!((newcomers.status, &newcomers.json()["size"]), (201, &json!(1)), "{newcomers:?}");
    assert_eq!(rig.get("/rollouts/newcomers/targets").await.json()["targets"][0]["endpoint"], "web4");
    let both = act(&rig, "r/rerun", &json!({"identifier": "both", "only": ["PENDING", "new"]})).await;
    assert_eq!((both.status, &both.json()["size"]), (201, &json!(4)), "{both:?}");
    let none = act(&rig, "both/rerun", &json!({"identifier": "none", "only": ["new"]})).await;
    assert_eq!((none.status, none.code()), (409, "nothing_failed".to_owned()), "{none:?}");
    assert_eq!(act(&rig, "r/rerun", &json!({"identifier": "x", "only": ["newest"]})).await.status, 422);
    // What a batch is called is not for others.
    let taken = rig.post("/worker", r#"{"identifier": "rollout-r-w1-b1"}"#).await;
    assert_eq!((taken.status, taken.pointers()), (422, vec!["/identifier".to_owned()]), "{taken:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_with_its_place() {
    let rig = rig(3).await;
    let with = |name: &str, value: Value| {
        let mut document = document("r");
        document[name] = value;
        document
    };
    for (document, pointer, word) in [
        (with("targets", json!({"endpoints": ["wbe1"]})), "/targets/endpoints/0", "did you mean web1?"),
        (with("targets", json!({"match": "name=db*"})), "/targets", "choose none of the 3 endpoints"),
        (with("targets", json!({"max": 2})), "/targets/max", "the targets are 3 endpoints"),
        (with("waves", json!([3, 1])), "/waves/1", "earlier waves already take all targets"),
        (with("targets", json!({"groups": ["web"]})), "/targets/groups/0", "unknown group \"web\""),
        (with("identifier", json!("plan")), "/identifier", "is a path of the API"),
        (with("spread", json!({"by": ["rack"]})), "/spread/by/0", "a label that none of the 3 targets has"),
        (with("probe", json!({"type": "builds"})), "/probe/type", "which has a work queue"),
    ] {
        for path in ["/rollouts", "/rollouts/plan"] {
            let answer = rig.post(path, document.to_string()).await;
            assert_eq!(
                (answer.status, answer.code()),
                (422, "invalid_submission".to_owned()),
                "{document}: {answer:?}"
            );
            let errors = answer.json()["errors"].clone();
            let text = errors[0]["message"].as_str().unwrap_or_default();
            assert!(errors[0]["pointer"] == pointer && text.contains(word), "{document}: {errors}");
        }
    }
    let mut groups = document("r");
    groups["healthy"] = json!({"match": "@blue"});
    groups["waves"] = json!([1, {"size": 1, "healthy": {"match": "@green"}}, "rest"]);
    let answer = rig.post("/rollouts/plan", groups.to_string()).await;
    assert_eq!(
        answer.pointers(),
        ["/healthy/match", "/waves/1/healthy/match"],
        "each group once: {answer:?}"
    );
    assert_eq!(rig.get("/rollouts").await.json()["rollouts"], json!([]), "nothing is half-made");
    for path in ["/rollouts/none", "/rollouts/none/targets", "/rollouts/none/events"] {
        let answer = rig.get(path).await;
        assert_eq!((answer.status, answer.code()), (404, "unknown_rollout".to_owned()), "{path}: {answer:?}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_asked_for_where_the_document_has_one() {
    let rig = rig(2).await;
    let mut wanted = document("plain");
    assert_eq!(submit(&rig, &wanted).await.status, 201);
    let refused = act(&rig, "plain/abort", &json!({"rollback": true})).await;
    assert_eq!((refused.status, refused.code()), (409, "wrong_state".to_owned()), "{refused:?}");
    wanted["identifier"] = json!("r");
    wanted["rollback"] = json!({"payload": {"v": 1}, "on": "failed", "healthy": {"match": "@old"}});
    let answer = submit(&rig, &wanted).await;
    assert_eq!(answer.pointers(), ["/rollback/healthy/match"], "{answer:?}");
    wanted["rollback"] = json!({"payload": {"v": 1}, "on": "failed"});
    let created = submit(&rig, &wanted).await;
    assert_eq!(
        (created.status, &created.json()["rollback"]),
        (201, &json!({"type": "worker", "on": "failed", "rollout": null}))
    );
    let aborted = act(&rig, "r/abort", &json!({"rollback": true})).await;
    assert_eq!((aborted.status, &aborted.json()["status"]), (200, &json!("ABORTING")), "{aborted:?}");
    let events = rig.get("/rollouts/r/events?after=1").await.json();
    assert_eq!(
        (&events["events"][0]["kind"], &events["events"][0]["text"]),
        (&json!("aborting"), &json!("with a rollback"))
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_changes_while_its_rollout_goes_on() {
    let rig = rig(10).await;
    let mut wanted = document("r");
    wanted["budget"] = json!({"wave": {"failed": "20%"}});
    assert_eq!(submit(&rig, &wanted).await.status, 201);
    for (body, pointer, word) in [
        (json!({"window": 2}), "/revision", "must be the revision"),
        (json!({"revision": 1}), "", "changes nothing"),
        (
            json!({"revision": 1, "payload": {}}),
            "/payload",
            "cannot be changed any more; what can be changed: window, budget,",
        ),
        (json!({"revision": 1, "waves": [11, 1]}), "/waves/1", "earlier waves already take all targets"),
        (json!({"revision": 1, "waves": [{"endpoints": ["db9"]}]}), "/waves/0/endpoints/0", "not a target"),
        (json!({"revision": 1, "waves": [1, 2]}), "/waves", "leave 7 targets without a wave"),
        (json!({"revision": 1, "soak": "31d"}), "/soak", "must be a span"),
        (json!({"revision": 1, "on_breach": "rollback"}), "/on_breach", "needs the member `rollback`"),
        (json!({"revision": 1, "probe": {"type": "builds"}}), "/probe/type", "which has a work queue"),
    ] {
        let answer = patch(&rig, &body).await;
        let errors = answer.json()["errors"].clone();
        let text = errors[0]["message"].as_str().unwrap_or_default();
        assert!(
            answer.status == 422 && errors[0]["pointer"] == pointer && text.contains(word),
            "{body}: {errors}"
        );
    }
    let stale = patch(&rig, &json!({"revision": 7, "window": 2})).await;
    assert_eq!((stale.status, stale.code()), (409, "stale_revision".to_owned()), "{stale:?}");
    let changes = json!({"revision": 1, "window": 2, "soak": "5m", "probe": {"type": "worker"}, "budget": {"wave": {"failed": "40%"}, "total": {"failed": 3}}});
    let edited = patch(&rig, &changes).await;
    assert_eq!(edited.status, 200, "{edited:?}");
    let shown = edited.json();
    assert_eq!(
        (&shown["revision"], &shown["allowed_failed"], &shown["waves"][1]["allowed_failed"]),
        (&json!(2), &json!(3), &json!(2))
    );
    assert_eq!(
        (&shown["waves"][1]["window"], &shown["waves"][1]["gates"]),
        (&json!(2), &json!(["soak 5m", "probe worker"]))
    );
    assert_eq!(
        (&shown["document"]["window"], &shown["document"]["payload"]),
        (&json!(2), &json!({"v": 2})),
        "{shown}"
    );
    let again =
        patch(&rig, &json!({"revision": 2, "probe": "none", "approval": {"before": [2]}})).await.json();
    assert_eq!(
        (&again["waves"][1]["gates"], &again["waves"][1]["allowed_failed"]),
        (&json!(["approval (1)", "soak 5m"]), &json!(2)),
        "{again}"
    );
    assert_eq!(again["document"].get("probe"), None);
    // The document that was submitted is still that of this rollout.
    assert_eq!(submit(&rig, &wanted).await.status, 200);
    let events = rig.get("/rollouts/r/events?after=1").await.json();
    assert_eq!(
        (&events["events"][0]["kind"], &events["events"][0]["text"]),
        (
            &json!("edited"),
            &json!(
                r#"budget: {"wave":{"failed":"20%"}} -> {"total":{"failed":3},"wave":{"failed":"40%"}}; probe: default -> {"type":"worker"}; soak: default -> 5m; window: default -> 2"#
            )
        )
    );
    // Before it begins all its waves can be others.
    let waves = json!(["20%", {"name": "named", "endpoints": ["web9", "web2"], "window": 1}, "rest"]);
    let shown = patch(&rig, &json!({"revision": 3, "waves": waves})).await.json();
    let sizes: Vec<&Value> =
        shown["waves"].as_array().expect("waves").iter().map(|wave| &wave["size"]).collect();
    assert_eq!(sizes, [&json!(2), &json!(2), &json!(6)], "{shown}");
    let wave = &shown["waves"][1];
    assert_eq!(
        (&wave["name"], &wave["window"], &wave["counts"]["pending"], &wave["allowed_failed"], &shown["size"]),
        (&json!("named"), &json!(1), &json!(2), &json!(0), &json!(10)),
        "{shown}"
    );
    let targets = rig.get("/rollouts/r/targets?wave=2").await.json();
    let names: Vec<&Value> =
        targets["targets"].as_array().expect("targets").iter().map(|target| &target["endpoint"]).collect();
    assert_eq!(names, [&json!("web9"), &json!("web2")], "in the order of the list");
    act(&rig, "r/abort", &json!({})).await;
    let late = patch(&rig, &json!({"revision": 5, "window": 3})).await;
    assert_eq!((late.status, late.code()), (409, "wrong_state".to_owned()), "{late:?}");
    rig.stop().await;
}

/// Selectors that earlier versions have recorded are read as they were; the same slip in what is changed is
/// refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_an_earlier_version_changes_too() {
    let rig = rig(3).await;
    assert_eq!(submit(&rig, &document("r")).await.status, 201);
    let record =
        rig.store.rollout(&"r".parse().expect("a name")).await.expect("SQLite").expect("it is there");
    let mut old = document("r");
    old["targets"] = json!({"exclude": {"match": ["site='x'"]}});
    let edit = Edit {
        told: String::new(),
        changes: true,
        document: tasker::domain::json(&old),
        settings: record.settings,
        expires_at: record.expires_at,
        allowed_failed: None,
        allowed_unreachable: None,
        waves: Vec::new(),
        anew: None,
    };
    let (asked, nobody) = (Command::Edit(Arc::new(edit)), RolloutPick::Nobody);
    rig.store.command_rollout(record.id, asked, nobody, None, None, record.created).await.expect("SQLite");
    let edited = patch(&rig, &json!({"revision": 2, "window": 2, "waves": [2, "rest"]})).await;
    assert_eq!((edited.status, &edited.json()["waves"][0]["window"]), (200, &json!(2)), "{edited:?}");
    let slip = patch(&rig, &json!({"revision": 3, "waves": [{"match": ["site='y'"]}, "rest"]})).await;
    assert_eq!((slip.status, slip.pointers()), (422, vec!["/waves/0/match/0".to_owned()]), "{slip:?}");
    let rerun = act(&rig, "r/rerun", &json!({"identifier": "again"})).await;
    assert_eq!(rerun.status, 201, "{rerun:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rerun_keeps_the_approvals_of_waves_that_it_leaves_out() {
    let rig = rig(4).await;
    let mut wanted = document("r");
    let canary = json!({"name": "canary", "endpoints": ["web1"], "approval": {"count": 2}});
    wanted["waves"] = json!([1, canary, "rest"]);
    assert_eq!(submit(&rig, &wanted).await.status, 201);
    let again = json!({"identifier": "again", "only": ["PENDING"]});
    let rerun = act(&rig, "r/rerun", &again).await;
    let gates = |rollout: &Value| -> Vec<Value> {
        let waves = rollout["waves"].as_array().expect("waves");
        waves.iter().map(|wave| json!([wave["size"], wave["gates"]])).collect()
    };
    let kept = [json!([1, ["approval (2)"]]), json!([3, []])];
    assert_eq!((rerun.status, gates(&rerun.json())), (201, kept.to_vec()), "{rerun:?}");
    let request = rig
        .request("PATCH", "/rollouts/again")
        .header("Content-Type", "application/json")
        .body(json!({"revision": 1, "window": 2}).to_string());
    let edited = rig.send(request).await;
    assert_eq!((edited.status, gates(&edited.json())), (200, kept.to_vec()), "{edited:?}");

    wanted["identifier"] = json!("s");
    wanted["waves"] = json!([{"size": 1, "approval": {"count": 1}}, canary, "rest"]);
    assert_eq!(submit(&rig, &wanted).await.status, 201);
    let refused = act(&rig, "s/rerun", &json!({"identifier": "other"})).await;
    let why = "/waves/1 of its document names its endpoints, so a rerun does not have it, and its approval would stand before wave 1, which has another one";
    assert!(refused.status == 422 && refused.text.contains(why), "{refused:?}");

    wanted["identifier"] = json!("small");
    (wanted["targets"], wanted["waves"]) = (json!({"endpoints": ["web1"]}), json!([1, "rest"]));
    wanted["approval"] = json!({"before": [2]});
    wanted["lane"] = json!("of-its-own");
    let small = submit(&rig, &wanted).await;
    let warned = json!(["no endpoint is left for wave 2: its approval is not asked for"]);
    assert_eq!((small.status, &small.json()["warnings"]), (201, &warned), "{small:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_warns_of_rollouts_that_may_overwrite_it() {
    let rig = rig(2).await;
    let plan = async |lane: &str, subject: Option<&str>| {
        let mut wanted = document("new");
        (wanted["lane"], wanted["waves"]) = (json!(lane), json!(["rest"]));
        if let Some(subject) = subject {
            wanted["subject"] = json!(subject);
        }
        let plan = act(&rig, "plan", &wanted).await.json();
        assert_eq!(plan["subject"], json!(subject), "{plan}");
        plan["warnings"][0].as_str().unwrap_or_default().to_owned()
    };
    let mut wanted = document("plain");
    (wanted["lane"], wanted["waves"]) = (json!("a"), json!(["rest"]));
    assert_eq!(submit(&rig, &wanted).await.status, 201);
    (wanted["identifier"], wanted["lane"], wanted["subject"]) = (json!("web"), json!("b"), json!("web"));
    let web = submit(&rig, &wanted).await.json();
    assert_eq!((&web["subject"], web.get("warnings")), (&json!("web"), None), "{web}");
    for (lane, subject, warned) in [
        (
            "a",
            None,
            "`plain` (CREATED) of the lane `a` can change the same endpoints, and this document has no `subject`",
        ),
        (
            "a",
            Some("web"),
            "`plain` (CREATED) of the lane `a` can change the same endpoints, and not both have a `subject`",
        ),
        (
            "b",
            None,
            "`web` (CREATED) of the lane `b` can change the same endpoints, and this document has no `subject`",
        ),
        ("b", Some("web"), ""),
        ("b", Some("db"), ""),
        ("c", None, ""),
    ] {
        let told = plan(lane, subject).await;
        assert!(
            told.starts_with(warned) && told.is_empty() == warned.is_empty(),
            "{lane} {subject:?}: {told}"
        );
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_move_it_and_are_remembered() {
    let rig = rig(3).await;
    create(&rig, ADMIN, &[Scope::Admin], &[]).await;
    let maker = create(&rig, "tasker_maker", &[Scope::Submit, Scope::Read], &[]).await.name.to_string();
    let second = create(&rig, "tasker_second", &[Scope::Approve, Scope::Read], &[]).await.name.to_string();
    create(&rig, "tasker_blind", &[Scope::Submit], &[]).await;
    let send = async |secret: &str, path: &str, body: &Value| {
        let request = rig
            .request("POST", path)
            .header("Content-Type", "application/json")
            .bearer_auth(secret)
            .body(body.to_string());
        rig.send(request).await
    };
    let mut wanted = document("r");
    wanted["approval"] = json!({"before": [1]});
    assert_eq!(send("tasker_maker", "/rollouts", &wanted).await.status, 201);
    let repeated = send("tasker_blind", "/rollouts", &wanted).await;
    assert_eq!((repeated.status, repeated.code()), (409, "rollout_conflict".to_owned()), "{repeated:?}");
    assert!(!repeated.text.contains("CREATED"), "{repeated:?}");
    let early = send("tasker_second", "/rollouts/r/approve", &json!({})).await;
    assert_eq!((early.status, early.code()), (409, "wrong_state".to_owned()), "{early:?}");
    assert_eq!(
        send("tasker_maker", "/rollouts/r/approve", &json!({})).await.status,
        403,
        "it needs the scope"
    );
    assert_eq!(send("tasker_second", "/rollouts/r/start", &json!({})).await.status, 403);
    let started = send("tasker_maker", "/rollouts/r/start", &json!({})).await;
    assert_eq!((started.status, &started.json()["status"]), (200, &json!("RUNNING")), "{started:?}");
    assert_eq!(send("tasker_maker", "/rollouts/r/start", &json!({})).await.status, 200, "a repeat");
    let stale = send("tasker_maker", "/rollouts/r/pause", &json!({"revision": 1})).await;
    assert_eq!((stale.status, stale.code()), (409, "stale_revision".to_owned()), "{stale:?}");
    let approved = send("tasker_second", "/rollouts/r/approve", &json!({})).await;
    assert_eq!(
        (approved.status, &approved.json()["waves"][0]["approvals"]),
        (200, &json!([second])),
        "{approved:?}"
    );
    let skipped = send("tasker_maker", "/rollouts/r/skip", &json!({"endpoints": ["web2"]})).await;
    assert_eq!((skipped.status, &skipped.json()["counts"]["skipped"]), (200, &json!(1)), "{skipped:?}");
    assert_eq!(
        send("tasker_maker", "/rollouts/r/skip", &json!({"endpoints": ["web2"]})).await.code(),
        "wrong_state"
    );
    assert_eq!(send("tasker_maker", "/rollouts/r/skip", &json!({})).await.status, 422, "it says whom");
    assert_eq!(
        send("tasker_maker", "/rollouts/r/retry", &json!({"states": ["SKIPPED"]})).await.json()["counts"]["pending"],
        3
    );
    // A token that may not read knows nothing of what others have made.
    assert_eq!(send("tasker_blind", "/rollouts/r/pause", &json!({})).await.status, 404);
    assert_eq!(send("tasker_maker", "/rollouts/r/pause", &json!({})).await.json()["status"], "PAUSED");
    assert_eq!(
        send("tasker_maker", "/rollouts/r/resume", &json!({"allow": {"failed": 1}})).await.json()["status"],
        "RUNNING"
    );
    assert_eq!(send("tasker_maker", "/rollouts/r/abort", &json!({})).await.json()["status"], "ABORTING");
    let events = with(&rig, "tasker_maker", "GET", "/rollouts/r/events").await.json();
    let told: Vec<_> = events["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| (event["kind"].clone(), event["actor"].clone()))
        .collect();
    let by = |kind: &str, actor: &str| (json!(kind), json!(actor));
    let expected = [
        by("created", &maker),
        by("started", &maker),
        by("approved", &second),
        by("targets_skipped", &maker),
        by("targets_retried", &maker),
        by("paused", &maker),
        by("resumed", &maker),
        by("aborting", &maker),
    ];
    assert_eq!(told, expected, "{events}");
    let rest = with(&rig, "tasker_maker", "GET", "/rollouts/r/events?after=7").await.json();
    assert_eq!(rest["events"].as_array().map(Vec::len), Some(1), "{rest}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_approve_passes_over_no_approval() {
    let rig = rig(3).await;
    create(&rig, ADMIN, &[Scope::Admin], &[]).await;
    let all = [Scope::Submit, Scope::Read, Scope::Approve];
    create(&rig, "tasker_maker", &all, &[]).await;
    create(&rig, "tasker_carl", &all[..2], &[]).await;
    create(&rig, "tasker_erin", &all, &[]).await;
    let bob = create(&rig, "tasker_bob", &all, &[]).await.name.to_string();
    let send = async |secret: &str, method: &str, path: &str, body: &Value| {
        let request = rig
            .request(method, path)
            .header("Content-Type", "application/json")
            .bearer_auth(secret)
            .body(body.to_string());
        rig.send(request).await
    };
    let mut wanted = document("r");
    wanted["approval"] = json!({"before": [1, 2], "count": 2, "from": [bob, "dan"]});
    assert_eq!(send("tasker_maker", "POST", "/rollouts", &wanted).await.status, 201);
    assert_eq!(send("tasker_maker", "POST", "/rollouts/r/start", &json!({})).await.status, 200);
    let revision = async || {
        let shown = send("tasker_bob", "GET", "/rollouts/r", &Value::Null).await.json();
        (shown["revision"].clone(), shown["waves"][0]["phase"].clone())
    };
    let before = revision().await;
    let gate = json!({"gate": true});
    let changed = |approval: &Value| json!({"revision": before.0, "approval": approval});
    let weaker = [
        json!("none"),
        json!({"before": [1, 2], "count": 1, "from": [bob, "dan"]}),
        json!({"before": [1, 2], "count": 2}),
        json!({"before": [1, 2], "count": 2, "from": [bob, "dan"], "not_creator": false}),
        json!({"before": [1], "count": 2, "from": [bob, "dan"]}),
        json!({"before": [1, 2], "count": 2, "from": [bob, "dan"], "else": "abort"}),
        json!({"before": [1, 2], "count": 2, "from": [bob, "dan"], "within": "1s"}),
    ];
    let refused = |answer: &Answer, why: &str, what: &str| {
        let (status, detail) = ((answer.status, answer.code()), answer.json()["detail"].to_string());
        assert_eq!(status, (403, "insufficient_scope".to_owned()), "{what}: {answer:?}");
        assert!(detail.contains(why), "{what}: {detail}");
    };
    for (secret, why) in [
        ("tasker_maker", "somebody else has to approve"),
        ("tasker_carl", "the scope `approve`"),
        ("tasker_erin", "approval.from"),
    ] {
        let skipped = send(secret, "POST", "/rollouts/r/skip", &gate).await;
        refused(&skipped, "2 people must approve", secret);
        for (number, approval) in weaker.iter().enumerate() {
            let edited = send(secret, "PATCH", "/rollouts/r", &changed(approval)).await;
            // Those that ask for no fewer and no others need what approving needs.
            let why = if number < 5 { "the scope `admin`" } else { why };
            refused(&edited, why, &format!("{secret} {approval}"));
        }
    }
    // One of the two does not decide alone.
    refused(&send("tasker_bob", "POST", "/rollouts/r/skip", &gate).await, "the scope `admin`", "skip");
    for less in &weaker[..5] {
        let edited = send("tasker_bob", "PATCH", "/rollouts/r", &changed(less)).await;
        refused(&edited, "the scope `admin`", &less.to_string());
    }
    assert_eq!(revision().await, before, "nothing was changed");
    // What does not touch the approvals is for all who may submit.
    let same = json!({"before": [1, 2], "count": 2, "from": [bob, "dan"]});
    let edit = json!({"revision": before.0, "window": 2, "approval": same});
    assert_eq!(send("tasker_carl", "PATCH", "/rollouts/r", &edit).await.status, 200);
    // Neither does anybody put endpoints before an approval.
    assert_eq!(send("tasker_carl", "POST", "/rollouts/r/pause", &json!({})).await.status, 200);
    let waves = json!({"revision": revision().await.0, "waves": [2, "rest"]});
    for secret in ["tasker_maker", "tasker_bob"] {
        refused(&send(secret, "PATCH", "/rollouts/r", &waves).await, "the scope `admin`", secret);
    }
    assert_eq!(send("tasker_carl", "POST", "/rollouts/r/resume", &json!({})).await.status, 200);
    // Who approves twice hears that others are waited for.
    for warnings in
        [Value::Null, json!([format!("`{bob}` has approved already (1 of 2): somebody else has to")])]
    {
        let approved = send("tasker_bob", "POST", "/rollouts/r/approve", &json!({})).await;
        assert_eq!((approved.status, &approved.json()["warnings"]), (200, &warnings), "{approved:?}");
    }
    // An edit that changes a value takes his approval back. An edit that changes none keeps it.
    let read = revision().await.0;
    for (edit, approvals) in [(json!({"window": 2}), json!([bob])), (json!({"window": 3}), json!([]))] {
        let mut edit = edit.clone();
        edit["revision"] = revision().await.0;
        let edited = send("tasker_carl", "PATCH", "/rollouts/r", &edit).await;
        assert_eq!((edited.status, &edited.json()["waves"][0]["approvals"]), (200, &approvals), "{edited:?}");
    }
    let late = send("tasker_bob", "POST", "/rollouts/r/approve", &json!({"revision": read})).await;
    assert_eq!((late.status, late.code()), (409, "stale_revision".to_owned()), "{late:?}");
    assert_eq!(send(ADMIN, "POST", "/rollouts/r/skip", &gate).await.status, 200);
    let edit = json!({"revision": revision().await.0, "approval": "none", "probe": {"type": "worker", "payload": {"key": "s3cr3t"}}});
    assert_eq!(send("tasker_maker", "PATCH", "/rollouts/r", &edit).await.status, 403, "wave 2 has not begun");
    assert_eq!(send("tasker_bob", "PATCH", "/rollouts/r", &edit).await.status, 403, "nor he alone");
    assert_eq!(send(ADMIN, "PATCH", "/rollouts/r", &edit).await.status, 200);
    let log = send(ADMIN, "GET", "/audit?action=rollout.", &Value::Null).await.json();
    let told: Vec<_> = log["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| (entry["action"].as_str().unwrap_or_default(), entry["detail"].clone()))
        .collect();
    let set = |edit: &Value| {
        let mut set = edit.clone();
        set.as_object_mut().expect("an object").remove("revision");
        if set.get("probe").is_some() {
            set["probe"]["payload"] = json!("not recorded");
        }
        json!({ "set": set })
    };
    let first = json!({"window": 2, "approval": same, "revision": 0});
    let expected = [
        ("rollout.edit", set(&edit)),
        ("rollout.skip", json!({"event": "gate_skipped", "wave": 1, "text": "approval"})),
        ("rollout.edit", json!({"set": {"window": 3}})),
        ("rollout.edit", json!({"set": {"window": 2}})),
        ("rollout.approve", json!({"event": "approved", "wave": 1, "text": "1 of 2"})),
        ("rollout.resume", json!({"event": "resumed", "wave": null, "text": null})),
        ("rollout.pause", json!({"event": "paused", "wave": null, "text": null})),
        ("rollout.edit", set(&first)),
        ("rollout.start", json!({"event": "started", "wave": null, "text": null})),
        ("rollout.submit", json!({"rollout": "r", "type": "worker", "lane": "worker", "endpoints": 3})),
    ];
    assert_eq!(told, expected, "{log}");
    let events = send(ADMIN, "GET", "/rollouts/r/events", &Value::Null).await.json();
    let edits: Vec<_> = events["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter(|event| event["kind"] == "edited")
        .filter_map(|event| event["text"].as_str())
        .collect();
    let retold = format!("window: 2 -> 3; approvals taken back: {bob}");
    assert_eq!(edits[1..3], ["window: 2 as before", &retold], "{events}");
    assert!(
        edits[3].contains(r#""payload":"not recorded""#) && !events.to_string().contains("s3cr3t"),
        "{events}"
    );
    // One of one does decide alone, and so does an administrator who is not named.
    for (secret, weakened, changed) in
        [("tasker_erin", 403, 403), ("tasker_maker", 403, 403), ("tasker_bob", 200, 200), (ADMIN, 200, 200)]
    {
        let identifier = secret.replace('_', "-");
        let mut wanted = document(&identifier);
        wanted["approval"] = json!({"before": [1], "from": [bob]});
        assert_eq!(send("tasker_maker", "POST", "/rollouts", &wanted).await.status, 201);
        let path = format!("/rollouts/{identifier}");
        for (approval, status) in
            [(json!({"before": [1], "from": [bob], "within": "1h"}), changed), (json!("none"), weakened)]
        {
            let shown = send("tasker_bob", "GET", &path, &Value::Null).await.json();
            let edit = json!({"revision": shown["revision"], "approval": approval});
            let edited = send(secret, "PATCH", &path, &edit).await;
            assert_eq!(edited.status, status, "{secret} {approval}: {edited:?}");
        }
    }
    rig.stop().await;
}
