//! Canceling: the ledger first, then the endpoints that run the task are told.

use tasker::broker::{Origin, Source, wire};
use tasker::domain::{Command, ReportEvent};

use crate::api_rig::{PATIENCE, Rig, endpoint, finished, task_type};

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_task_stays_so() {
    let rig = Rig::start().await;
    let id = rig.submit("t", &["console1"]).await;
    let answer = rig.delete("/worker/t").await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("CANCELED")));
    let again = rig.delete(&format!("/worker/{id}")).await;
    assert_eq!((again.status, again.json()), (200, answer.json()), "a repeat answers the same");
    assert_eq!(rig.get("/worker/t").await.json()["task"]["status"], "CANCELED");
    assert!(
        rig.get("/metrics").await.text.contains("tasker_task_moves_total{status=\"CANCELED\"} 1\n"),
        "it counts once"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_run_it_are_told_past_their_queue() {
    let rig = Rig::start().await;
    let all = ["done", "running", "waiting"];
    let id = rig.submit("t", &all).await;
    rig.freeze(id, &all).await;
    rig.report(id, "done", finished(0, "")).await;
    rig.report(id, "running", ReportEvent::Received).await;
    let fleet = rig.broker.connect();
    let sources = all.iter().map(|name| (task_type("worker"), endpoint(name))).collect();
    let mut consumer = fleet.consume(Source::Tasks(sources), 10).await.expect("the broker is there");

    let answer = rig.delete("/worker/t").await.json();
    assert_eq!(
        (&answer["status"], &answer["finished"]),
        (&"CANCELED".into(), &1.into()),
        "what was finished stays"
    );
    // Also the one to which it may be on its way: it must never start it.
    for name in ["running", "waiting"] {
        let told = tokio::time::timeout(PATIENCE, consumer.deliveries.recv())
            .await
            .expect("told in time")
            .expect("a delivery");
        assert_eq!(told.origin, Origin::Control(task_type("worker"), endpoint(name)));
        assert!(matches!(wire::decode_command(&told.body), Ok(Command::Cancel { task_id }) if task_id == id));
    }
    assert!(consumer.deliveries.try_recv().is_err(), "nobody else is told");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_not_needed_to_cancel() {
    let rig = Rig::start().await;
    let id = rig.submit("t", &["running"]).await;
    rig.freeze(id, &["running"]).await;
    rig.report(id, "running", ReportEvent::Received).await;
    rig.broker.cut();
    assert_eq!(rig.delete("/worker/t").await.json()["status"], "CANCELED");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_learns_of_the_cancel() {
    let rig = Rig::start().await;
    rig.submit("t", &["console1"]).await;
    let (answer, ()) = tokio::join!(rig.get("/worker/t?wait=60s"), async {
        while rig.state.watch.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(rig.delete("/worker/t").await.status, 200);
    });
    assert_eq!(answer.json()["task"]["status"], "CANCELED");
    rig.stop().await;
}
