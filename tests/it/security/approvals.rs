//! A task that two persons must sign waits for the second signature, and nobody can lower the number of signatures
//! that endpoints require.

use std::fs;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, MySqlConnection};
use tasker::clock::Clock;
use tasker::domain::{Order, OrderSignature, Ordered, Recipients, Timestamp, json as raw};
use tasker::signing::sign_order;
use tasker_services::Process;
use uuid::Uuid;

use super::signatures::{Signed, was_refused};
use crate::support::platform::{Platform, response_of};

/// An installation where two of alice, bob and carol sign tasks of `worker`, and the API knows that.
struct Two {
    signed: Signed,
    _api: Process,
    _endpoint: Process,
}

impl Two {
    fn start() -> anyhow::Result<Self> {
        let signed = Signed::new()?;
        signed.two_of(&["alice", "bob", "carol"])?;
        signed.platform.tasker(&["key", "create", "mallory", "--dir", &signed.path("")])?;
        let api = signed.start_api_with(&[("TRUST", signed.path("trust.yaml"))])?;
        let endpoint = signed.start("ep1")?;
        Ok(Self { signed, _api: api, _endpoint: endpoint })
    }

    fn platform(&self) -> &Platform {
        &self.signed.platform
    }

    /// Submits a task that alice has signed.
    fn submit(&self, identifier: &str, payload: &str) -> anyhow::Result<String> {
        let key = self.signed.path("alice.key");
        let arguments = [
            "submit", "worker", "--identifier", identifier, "--payload", payload, "--key", &key,
            "--environment", "it",
        ];
        let output = self.platform().tasker(&arguments)?;
        Ok(String::from_utf8(output.stderr)?)
    }

    fn approve(&self, identifier: &str, name: &str) -> anyhow::Result<(bool, String)> {
        let key = self.signed.path(&format!("{name}.key"));
        let output =
            self.platform().tasker_any(&["approve", "worker", identifier, "--key", &key, "--yes"])?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        Ok((output.status.success(), said))
    }

    /// Sends the signature of a person again that is in the payload of a task.
    fn repeat(&self, identifier: &str, name: &str) -> anyhow::Result<(u16, Value)> {
        let task = self.task(identifier)?;
        let ordered = Ordered::read(&raw(&task["payload"])).map_err(anyhow::Error::msg)?;
        let signature = sign_order(&self.signed.key(name)?, &ordered.order, &ordered.payload);
        self.platform().post(&format!("/worker/{identifier}/approvals"), &serde_json::to_value(&signature)?)
    }

    /// An order for tasks of this type, signed by these persons, that ends so many seconds from now.
    fn order(&self, task_type: &str, secs: i64, persons: &[&str]) -> anyhow::Result<(Order, Value)> {
        let now = Clock::system().now().as_millis();
        let order = Order {
            id: Uuid::new_v4(),
            environment: "it".parse()?,
            task_type: task_type.parse()?,
            not_after: Timestamp::from_millis(now + secs * 1000),
            to: Recipients::All,
            signatures: vec![],
        };
        let payload = raw(&json!({"n": 7}));
        let sign = |name: &&str| anyhow::Ok(sign_order(&self.signed.key(name)?, &order, &payload));
        let signatures = persons.iter().map(sign).collect::<anyhow::Result<Vec<OrderSignature>>>()?;
        let ordered = Ordered { order: Order { signatures, ..order.clone() }, payload };
        Ok((order, serde_json::to_value(ordered)?))
    }

    fn task(&self, identifier: &str) -> anyhow::Result<Value> {
        Ok(self.platform().get(&format!("/worker/{identifier}"))?.1["task"].clone())
    }
}

#[test]
fn a_task_waits_for_the_second_person() -> anyhow::Result<()> {
    let two = Two::start()?;
    let platform = two.platform();
    let said = two.submit("first", r#"{"n":1}"#)?;
    ensure!(said.contains("1 of 2 persons have signed (alice)"), "{said}");
    let task = two.task("first")?;
    let approval = json!({"signed": ["alice"], "others": ["bob", "carol"], "needed": 2});
    ensure!(task["status"] == "CREATED" && task["approval"] == approval, "{task}");
    let (_, explained) = platform.get("/worker/first/explain")?;
    ensure!(explained["reasons"][0]["code"] == "waits_for_approval", "{explained}");

    // Neither whoever may not sign, nor whoever has signed already, is a second person.
    let (approved, said) = two.approve("first", "mallory")?;
    ensure!(!approved && said.contains("is not a valid one of alice, bob, carol"), "{said}");
    let (approved, said) = two.approve("first", "alice")?;
    ensure!(approved && said.contains("1 of 2 persons") && said.contains("it waits for others"), "{said}");
    ensure!(two.task("first")?["status"] == "CREATED");
    // The same submission again is the same task.
    let (_, whole) = platform.get("/worker/first")?;
    let again = json!({"identifier": "first", "payload": whole["task"]["payload"]});
    let (status, repeated) = platform.post("/worker", &again)?;
    ensure!(status == 200 && repeated["id"] == task["id"], "{status}: {repeated}");

    let (approved, said) = two.approve("first", "bob")?;
    ensure!(approved && said.contains("2 of 2 persons have signed (alice, bob)"), "{said}");
    let body = platform.task("worker", "first", "DONE")?;
    let response = response_of(&body, "ep1").with_context(|| body.to_string())?;
    ensure!(response["errnr"] == 0 && body["task"].get("approval").is_none(), "{body}");
    let taken: Value = serde_json::from_str(&fs::read_to_string(two.signed.path("payloads"))?)?;
    ensure!(taken["payload"] == json!({"n": 1}), "{taken}");
    let (approved, said) = two.approve("first", "carol")?;
    ensure!(!approved && said.contains("waits for no approval"), "{said}");
    // An answer that was lost can be asked for again.
    let (status, answer) = two.repeat("first", "bob")?;
    ensure!(status == 200 && answer["approval"]["signed"] == json!(["alice", "bob"]), "{status}: {answer}");
    let (status, again) = platform.post("/worker", &again)?;
    ensure!(status == 200 && again["id"] == task["id"], "{status}: {again}");
    let batch = json!([{"type": "worker", "identifier": "first", "payload": whole["task"]["payload"]}]);
    let (_, batch) = platform.post("/tasks", &batch)?;
    ensure!(batch["results"][0]["status"] == 200, "{batch}");

    let (_, log) = platform.get("/audit?action=task.approve")?;
    let entries = log["entries"].as_array().context("entries")?;
    ensure!(entries.len() == 1 && entries[0]["detail"]["signed"] == json!(["alice", "bob"]), "{log}");
    let (_, metrics) = platform.get("/metrics")?;
    let held = "tasker_submissions_total{result=\"held\",task_type=\"worker\"} 1";
    ensure!(metrics.as_str().is_some_and(|text| text.contains(held)), "{metrics}");
    Ok(())
}

#[test]
fn a_task_that_waits_ends_as_others_do() -> anyhow::Result<()> {
    let two = Two::start()?;
    let platform = two.platform();
    two.submit("given-up", "1")?;
    let (status, _) = platform.delete("/worker/given-up")?;
    ensure!(status == 200);
    let (approved, said) = two.approve("given-up", "bob")?;
    ensure!(!approved && said.contains("CANCELED and waits for no approval"), "{said}");

    // With its order, long before a task of the type expires.
    let (order, payload) = two.order("worker", 4, &["alice"])?;
    let (status, task) =
        platform.post("/worker", &json!({"identifier": "late", "payload": payload, "endpoints": ["ep1"]}))?;
    ensure!(status == 201 && task["approval"]["signed"] == json!(["alice"]), "{status}: {task}");
    let late = json!({"identifier": "late", "payload": task["payload"], "endpoints": ["ep1"]});
    platform.task("worker", "late", "EXPIRED")?;
    let (status, again) = platform.post("/worker", &late)?;
    ensure!(status == 200 && again["id"] == task["id"], "{status}: {again}");
    let signature = sign_order(&two.signed.key("bob")?, &order, &raw(&json!({"n": 7})));
    let (status, problem) = platform.post("/worker/late/approvals", &serde_json::to_value(&signature)?)?;
    ensure!(status == 409 && problem["code"] == "not_waiting", "{status}: {problem}");

    // What could never count is refused at once.
    let refused = [
        ("no order", json!({"n": 1})),
        ("nobody", two.order("worker", 60, &[])?.1),
        ("mallory", two.order("worker", 60, &["mallory"])?.1),
        ("another type", two.order("steered", 60, &["alice", "bob"])?.1),
        ("over", two.order("worker", -1, &["alice", "bob"])?.1),
    ];
    for (what, payload) in refused {
        let (status, problem) =
            platform.post("/worker", &json!({"identifier": "never", "payload": payload}))?;
        ensure!(status == 422 && problem["code"] == "invalid_submission", "{what}: {status}: {problem}");
        ensure!(problem["errors"][0]["pointer"] == "/payload", "{what}: {problem}");
    }
    let (_, payload) = two.order("worker", 60, &["alice"])?;
    let (_, batch) =
        platform.post("/tasks", &json!([{"type": "worker", "identifier": "x", "payload": payload}]))?;
    ensure!(batch["results"][0]["status"] == 422, "{batch}");
    // Both have signed: it does not wait.
    let (_, payload) = two.order("worker", 60, &["alice", "carol"])?;
    let (status, task) = platform.post("/worker", &json!({"identifier": "both", "payload": payload}))?;
    ensure!(status == 201 && task.get("approval").is_none(), "{status}: {task}");
    platform.task("worker", "both", "DONE")?;
    ensure!(two.signed.effects().len() == 1, "{:?}", two.signed.effects());
    Ok(())
}

/// The trust file of the API decides how many are needed, whenever it was changed.
#[test]
fn what_waits_counts_by_the_trust_file_of_today() -> anyhow::Result<()> {
    let two = Two::start()?;
    two.submit("waits", "1")?;
    let Two { signed, _api: api, _endpoint: endpoint } = two;
    drop((api, endpoint));
    let (trust, public) = (signed.path("trust.yaml"), signed.path("alice.pub"));
    signed
        .platform
        .tasker(&["key", "trust", &public, "-t", "worker", "--threshold", "1", "--trust", &trust])?;
    let _api = signed.start_api_with(&[("TRUST", trust)])?;
    let _endpoint = signed.start("ep1")?;
    let two = Two { signed, _api, _endpoint };
    let platform = two.platform();
    let (_, explained) = platform.get("/worker/waits/explain")?;
    let reason = &explained["reasons"][0];
    ensure!(reason["code"] == "waits_for_approval", "{explained}");
    ensure!(
        reason["text"].as_str().is_some_and(|text| text.contains("`tasker approve` by one of alice")),
        "{explained}"
    );
    // Nobody has to look at it before it expires, so that nothing is missing.
    let task = two.task("waits")?;
    ensure!(task["receive_by"] == task["expires_at"], "{task}");
    let (_, census) = platform.get("/census?type=worker")?;
    ensure!(census["missing"] == 0, "{census}");
    let (approved, said) = two.approve("waits", "alice")?;
    ensure!(approved && said.contains("1 of 1 persons"), "{said}");
    platform.task("worker", "waits", "DONE")?;
    Ok(())
}

/// Two further persons sign at the same time: at least one signature is accepted, and the task runs once.
#[test]
fn two_may_approve_at_once() -> anyhow::Result<()> {
    let two = Two::start()?;
    let platform = two.platform();
    for round in 0..5 {
        let (order, payload) = two.order("worker", 600, &["alice"])?;
        let identifier = format!("round{round}");
        let (status, task) =
            platform.post("/worker", &json!({"identifier": identifier, "payload": payload}))?;
        ensure!(status == 201, "{status}: {task}");
        let inner = raw(&json!({"n": 7}));
        let path = format!("/worker/{identifier}/approvals");
        let bodies = ["bob", "carol"].map(|name| {
            anyhow::Ok(serde_json::to_value(sign_order(&two.signed.key(name)?, &order, &inner))?)
        });
        let answers = std::thread::scope(|scope| {
            let posts = bodies.map(|body| {
                let path = &path;
                scope.spawn(move || platform.post(path, &body?))
            });
            posts.map(|post| post.join().expect("no panic"))
        });
        let mut statuses = Vec::new();
        for answer in answers {
            let (status, body) = answer?;
            ensure!(status == 200 || body["code"] == "not_waiting", "{status}: {body}");
            statuses.push(status);
        }
        ensure!(statuses.contains(&200), "{statuses:?}");
        platform.task("worker", &identifier, "DONE")?;
    }
    let effects = two.signed.effects();
    ensure!(effects.len() == 5 && effects.values().all(|count| *count == 1), "{effects:?}");
    Ok(())
}

/// Whoever has the database writes what a person would have to sign. The endpoint counts by itself.
#[test]
fn the_ledger_cannot_shorten_what_endpoints_count() -> anyhow::Result<()> {
    let two = Two::start()?;
    two.submit("alone", "1")?;
    two.platform().block_on(async {
        let mut ledger = MySqlConnection::connect(&two.platform().database()).await?;
        ledger.execute("UPDATE task SET due_at = start_time WHERE identifier = 'alone'").await?;
        anyhow::Ok(())
    })?;
    let body = two.platform().task("worker", "alone", "DONE")?;
    let response = response_of(&body, "ep1").with_context(|| body.to_string())?;
    was_refused(response, "unapproved: ")?;
    ensure!(two.signed.effects().is_empty());
    Ok(())
}
