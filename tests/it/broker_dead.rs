//! Dead letters on RabbitMQ: junk of any size and number holds nobody up, whatever the dead exchange says to
//! it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tasker::broker::amqp::{AmqpBroker, AmqpOptions, Role};
use tasker::broker::dead::{Buried, DeadLetter, DeadLetters};
use tasker::broker::{Address, Consumer, Delivery, Message, SharedBroker, Source};
use tasker::config::{MessageQueue, Secret};
use tokio::time::timeout;

use crate::support::platform::Platform;
use crate::support::queues::Queues;
use crate::support::{management, message_queue};

const PATIENCE: Duration = Duration::from_secs(60);

async fn connect(message_queue: &MessageQueue) -> SharedBroker {
    let api = AmqpBroker::start(AmqpOptions::new(message_queue.clone(), Role::Api { types: vec![] }));
    timeout(PATIENCE, api.link().wait_for(|link| link.up))
        .await
        .expect("connects in time")
        .expect("is not closed");
    api
}

async fn responses(api: &SharedBroker) -> Consumer {
    api.consume(Source::Responses, 100).await.expect("consumes")
}

async fn next(consumer: &mut Consumer) -> Delivery {
    timeout(PATIENCE, consumer.deliveries.recv())
        .await
        .expect("a delivery comes in time")
        .expect("the consumer is open")
}

async fn queues() -> Queues {
    Queues::at(&std::env::var("TASKER_TEST_AMQP").expect("TASKER_TEST_AMQP is not set"))
        .await
        .expect("connects")
}

async fn report(api: &SharedBroker) {
    let message =
        Message { persistent: true, ..Message::new(Address::Responses, Bytes::from_static(b"honest")) };
    let results = api.publish(vec![message]).await;
    assert!(matches!(results[..], [Ok(())]), "{results:?}");
}

/// Buries what came, and asserts that it was dropped in time and took no honest message along.
async fn is_dropped(api: &SharedBroker, consumer: &mut Consumer) {
    let dead = DeadLetters::new(api.clone(), "responses");
    report(api).await;
    let delivery = next(consumer).await;
    let connections = api.link().borrow().epoch;
    for _ in 0..2 {
        let since = Instant::now();
        let letters = vec![DeadLetter::new(delivery.body.clone(), "junk".to_owned()); 3];
        assert_eq!(dead.bury(letters).await, Buried { kept: 0, dropped: 3 });
        assert!(since.elapsed() < Duration::from_secs(10), "held up for {:?}", since.elapsed());
        report(api).await;
        next(consumer).await.acker.ack_through().await;
    }
    assert_eq!(api.link().borrow().epoch, connections, "a dead letter cost a link");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_huge_message_the_head_is_kept() {
    let message_queue = message_queue();
    let (api, queues) = (connect(&message_queue).await, queues().await);
    let mut consumer = responses(&api).await;
    queues
        .put(&format!("{}.responses", message_queue.exchange), &vec![b'x'; 17 << 20])
        .await
        .expect("publishes");
    let delivery = next(&mut consumer).await;
    let dead = DeadLetters::new(api.clone(), "responses");
    assert_eq!(
        dead.bury(vec![DeadLetter::new(delivery.body.clone(), "junk".to_owned())]).await,
        Buried { kept: 1, dropped: 0 }
    );
    let kept = queues.drain(&format!("{}.dead", message_queue.exchange)).await.expect("reads");
    assert_eq!(kept.iter().map(Vec::len).collect::<Vec<_>>(), [64 << 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_dead_queue_refuses_is_dropped() {
    let message_queue = message_queue();
    let dead = format!("{}.dead", message_queue.exchange);
    // Made by somebody else, full at once, and used as it is.
    let arguments = json!({ "x-max-length": 0, "x-overflow": "reject-publish" });
    management::put(&["queues", "/", &dead], &json!({ "durable": true, "arguments": arguments })).await;
    let api = connect(&message_queue).await;
    is_dropped(&api, &mut responses(&api).await).await;
    management::delete(&["queues", "/", &dead]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_buried_is_dropped() {
    let message_queue = message_queue();
    let user = format!("{}-dead", message_queue.exchange);
    management::put(&["users", &user], &json!({ "password": "secret", "tags": "" })).await;
    let permissions = json!({ "configure": ".*", "write": format!("^(?!{}[.]dead$).*", message_queue.exchange), "read": ".*" });
    management::put(&["permissions", "/", &user], &permissions).await;
    let api =
        connect(&MessageQueue { username: user.clone(), password: Secret::new("secret"), ..message_queue })
            .await;
    is_dropped(&api, &mut responses(&api).await).await;
    management::delete(&["users", &user]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_exchange_stops_no_publish_to_another() {
    let message_queue = message_queue();
    let exchange = &message_queue.exchange;
    let [bad, good] = ["bad", "good"].map(|name| name.parse::<tasker::domain::TaskType>().expect("a type"));
    management::put(
        &["exchanges", "/", &format!("{exchange}.bad")],
        &json!({ "type": "topic", "durable": true }),
    )
    .await;
    for queue in ["responses", "presence", "dead"] {
        let arguments = json!({ "x-max-length": 1000 });
        management::put(
            &["queues", "/", &format!("{exchange}.{queue}")],
            &json!({ "durable": true, "arguments": arguments }),
        )
        .await;
    }
    let role = Role::Api { types: vec![bad.clone(), good.clone()] };
    let api = AmqpBroker::start(AmqpOptions::new(message_queue.clone(), role));
    timeout(PATIENCE, api.link().wait_for(|link| link.up))
        .await
        .expect("connects in time")
        .expect("is not closed");
    let epoch = api.link().borrow().epoch;
    let to = |task_type: &tasker::domain::TaskType| {
        Message::new(Address::All(task_type.clone()), Bytes::from_static(b"task"))
    };
    for _ in 0..5 {
        let results = api.publish(vec![to(&good), to(&bad), to(&good)]).await;
        assert!(
            matches!(&results[..], [Ok(()), Err(tasker::broker::BrokerError::Refused { reason }), Ok(())] if reason.contains("bad")),
            "{results:?}"
        );
        report(&api).await;
    }
    assert_eq!(api.link().borrow().epoch, epoch, "a bad exchange cost a link");
    // Queues of the API with other arguments are used as they are.
    assert_eq!(next(&mut responses(&api).await).await.body, "honest");
    management::delete(&["exchanges", "/", &format!("{exchange}.bad")]).await;
    loop {
        if api.publish(vec![to(&bad)]).await[0].is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_the_api_that_is_refused_is_told_and_stops_no_other() {
    let message_queue = message_queue();
    // Which makes all there is.
    connect(&message_queue).await.close().await;
    let user = format!("{}-api", message_queue.exchange);
    management::put(&["users", &user], &json!({ "password": "secret", "tags": "" })).await;
    let mut permissions = json!({ "configure": ".*", "write": ".*", "read": format!("^(?!{}[.]responses$).*", message_queue.exchange) });
    management::put(&["permissions", "/", &user], &permissions).await;
    let api = connect(&MessageQueue {
        username: user.clone(),
        password: Secret::new("secret"),
        ..message_queue.clone()
    })
    .await;
    let mut refused = responses(&api).await;
    let mut presence = api.consume(Source::Presence, 100).await.expect("consumes");
    timeout(PATIENCE, async {
        while api.refused_queues() != [format!("{}.responses", message_queue.exchange)] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it is told");
    report(&api).await;
    let word = Message::new(Address::Presence, Bytes::from_static(b"here"));
    assert!(api.publish(vec![word]).await[0].is_ok());
    assert_eq!(next(&mut presence).await.body, "here");
    assert_eq!(presence.link.borrow().epoch, 1, "a refused queue cost the connection of another");
    permissions["read"] = json!(".*");
    management::put(&["permissions", "/", &user], &permissions).await;
    assert_eq!(next(&mut refused).await.body, "honest");
    assert!(api.refused_queues().is_empty());
    management::delete(&["users", &user]).await;
}

#[test]
fn junk_beside_an_honest_task_holds_it_up_for_a_moment() -> anyhow::Result<()> {
    let mut platform = Platform::real()?;
    platform.block_on(async {
        let queues = Queues::of(&platform).await?;
        queues.flood("it.responses", (0..20_000).map(|number| format!("junk {number}"))).await
    })?;
    let since = Instant::now();
    let identifier = platform.submit("worker", json!({ "seconds": 0 }), &["console1"])?;
    platform.task("worker", &identifier, "DONE")?;
    eprintln!("done after {:?}", since.elapsed());
    let log = platform.process("api").log();
    let lines = log.lines().filter(|line| line.contains("dead exchange")).count();
    anyhow::ensure!((1..=10).contains(&lines), "{lines} lines of the log tell of junk: {log}");
    Ok(())
}
