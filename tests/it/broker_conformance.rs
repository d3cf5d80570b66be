//! What every broker has to do, told to both of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tasker::broker::amqp::{AmqpBroker, AmqpOptions, Role};
use tasker::broker::memory::MemoryBroker;
use tasker::broker::{
    Address, Broker, BrokerError, Consumer, Delivery, Message, Origin, SharedBroker, Source, envelope,
};
use tasker::config::{MessageQueue, Secret};
use tasker::domain::{EndpointName, TaskType, WireVersion};
use tokio::time::timeout;

use crate::support::proxy::Proxy;
use crate::support::{management, message_queue};

/// How long a test waits for what must come. Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(60);

/// One broker, and how processes connect to it.
#[expect(clippy::large_enum_variant, reason = "a test has one or two")]
enum Site {
    Memory(MemoryBroker),
    Amqp(MessageQueue),
}

impl Site {
    fn memory() -> Self {
        Self::Memory(MemoryBroker::new())
    }

    /// RabbitMQ, with a prefix of the test's own.
    fn amqp() -> Self {
        Self::Amqp(message_queue())
    }

    fn connect(&self, role: Role) -> SharedBroker {
        match self {
            Self::Memory(broker) => broker.connect(),
            Self::Amqp(message_queue) => AmqpBroker::start(AmqpOptions::new(message_queue.clone(), role)),
        }
    }

    /// A connected API process.
    async fn api(&self) -> SharedBroker {
        let api = self.connect(Role::Api { types: vec![worker()] });
        up(&*api).await;
        api
    }

    /// A connected endpoint process.
    async fn endpoint(&self) -> SharedBroker {
        let endpoint = self.connect(Role::Endpoint);
        up(&*endpoint).await;
        endpoint
    }

    /// The same broker behind a proxy.
    async fn proxied(&self) -> (Self, Proxy) {
        let Self::Amqp(message_queue) = self else { panic!("only RabbitMQ has a port") };
        let target = tokio::net::lookup_host((message_queue.host.as_str(), message_queue.port)).await;
        let target =
            target.expect("the broker's host resolves").next().expect("the broker's host has an address");
        let proxy = Proxy::to(target).await;
        let (host, port) = (proxy.address().ip().to_string(), proxy.address().port());
        (Self::Amqp(MessageQueue { host, port, ..message_queue.clone() }), proxy)
    }
}

fn worker() -> TaskType {
    "worker".parse().expect("a type")
}

fn name(text: impl AsRef<str>) -> EndpointName {
    text.as_ref().parse().expect("an endpoint name")
}

fn message(to: Address, body: impl Into<Bytes>) -> Message {
    Message::new(to, body.into())
}

async fn up(broker: &dyn Broker) {
    timeout(PATIENCE, broker.link().wait_for(|link| link.up))
        .await
        .expect("connects in time")
        .expect("is not closed");
}

/// Consumes the tasks of these endpoints, and waits until it does.
async fn tasks(broker: &SharedBroker, names: &[&str], prefetch: u16) -> Consumer {
    let names = names.iter().map(|text| (worker(), name(text))).collect();
    consume(broker, Source::Tasks(names), prefetch).await
}

async fn consume(broker: &SharedBroker, source: Source, prefetch: u16) -> Consumer {
    let mut consumer = broker.consume(source, prefetch).await.expect("consumes");
    timeout(PATIENCE, consumer.link.wait_for(|link| link.up))
        .await
        .expect("comes up in time")
        .expect("is not closed");
    consumer
}

async fn next(consumer: &mut Consumer) -> Delivery {
    timeout(PATIENCE, consumer.deliveries.recv())
        .await
        .expect("a delivery comes in time")
        .expect("the consumer is open")
}

/// A queue whose nodes are still choosing a leader takes it a moment later.
async fn publish(broker: &SharedBroker, message: Message) {
    let begun = Instant::now();
    loop {
        let results = broker.publish(vec![message.clone()]).await;
        match results[..] {
            [Ok(())] => return,
            [Err(BrokerError::NotNow { .. })] if begun.elapsed() < PATIENCE => {}
            _ => panic!("{results:?}"),
        }
    }
}

fn text(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.body).expect("the test sent text")
}

/// Sends a mark by name and asserts that it is the next to come: nothing else was in between.
async fn nothing_else(api: &SharedBroker, consumer: &mut Consumer, endpoint: &str) {
    publish(api, message(Address::Named(worker(), vec![name(endpoint)]), "mark")).await;
    let delivery = next(consumer).await;
    assert_eq!(text(&delivery), "mark", "{:?} came unexpectedly", delivery.origin);
    delivery.acker.ack_through().await;
}

async fn fanout_reaches_every_subscriber(site: Site) {
    let (api, one, two) = (site.api().await, site.endpoint().await, site.endpoint().await);
    let (mut first, mut others) = (tasks(&one, &["a"], 10).await, tasks(&two, &["b", "c.d"], 10).await);
    publish(&api, message(Address::All(worker()), "to all")).await;
    let delivery = next(&mut first).await;
    assert_eq!(
        (text(&delivery), &delivery.origin, delivery.redelivered),
        ("to all", &Origin::All(worker(), name("a")), false)
    );
    let mut origins = vec![next(&mut others).await.origin, next(&mut others).await.origin];
    origins.sort_by_key(|origin| format!("{origin:?}"));
    assert_eq!(origins, [Origin::All(worker(), name("b")), Origin::All(worker(), name("c.d"))]);
    nothing_else(&api, &mut first, "a").await;
}

async fn a_type_nobody_declared_is_published_all_the_same(site: Site) {
    let api = site.api().await;
    let other: TaskType = "backup".parse().expect("a type");
    publish(&api, message(Address::All(other.clone()), "nobody")).await;
    publish(&api, message(Address::Named(other, vec![name("a")]), "nobody")).await;
    publish(&api, message(Address::Named(worker(), vec![]), "nobody")).await;
}

async fn named_reaches_just_those(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    let (mut a, mut b) = (tasks(&endpoint, &["a"], 10).await, tasks(&endpoint, &["b"], 10).await);
    let mut c = tasks(&endpoint, &["c"], 10).await;
    let names = vec![name("a"), name("c"), name("unknown"), name("a")];
    publish(&api, message(Address::Named(worker(), names), "to two")).await;
    for (consumer, endpoint) in [(&mut a, "a"), (&mut c, "c")] {
        let delivery = next(consumer).await;
        assert_eq!((text(&delivery), &delivery.origin), ("to two", &Origin::Named(worker(), name(endpoint))));
        nothing_else(&api, consumer, endpoint).await;
    }
    nothing_else(&api, &mut b, "b").await;
}

async fn named_waits_for_those_who_are_away(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    drop(tasks(&endpoint, &["a"], 10).await);
    publish(&api, message(Address::Named(worker(), vec![name("a")]), "named")).await;
    publish(&api, message(Address::All(worker()), "all")).await;
    let mut a = tasks(&endpoint, &["a"], 10).await;
    assert_eq!((text(&next(&mut a).await), text(&next(&mut a).await)), ("named", "all"));
}

async fn control_overtakes_and_reaches_the_connected(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    let mut a = tasks(&endpoint, &["a", "b"], 1).await;
    drop(tasks(&endpoint, &["away"], 1).await);
    let names = vec![name("a"), name("b"), name("away"), name("unknown")];
    for number in 0..20 {
        publish(&api, message(Address::Named(worker(), vec![name("a")]), number.to_string())).await;
    }
    // Held: everything behind it waits, control does not.
    let held = next(&mut a).await;
    publish(&api, message(Address::Control(worker(), names), "stop")).await;
    let mut stopped = BTreeSet::new();
    while stopped.len() < 2 {
        let delivery = next(&mut a).await;
        if let Origin::Control(task_type, endpoint) = &delivery.origin {
            assert_eq!((text(&delivery), task_type), ("stop", &worker()));
            assert!(stopped.insert(endpoint.clone()), "{endpoint} was told twice");
        }
    }
    assert_eq!(stopped, BTreeSet::from([name("a"), name("b")]));
    held.acker.ack_through().await;
    let mut away = tasks(&endpoint, &["away"], 1).await;
    nothing_else(&api, &mut away, "away").await;
}

async fn responses_are_shared_without_loss(site: Site) {
    let (api, other, endpoint) = (site.api().await, site.api().await, site.endpoint().await);
    let (mut one, mut two) =
        (consume(&api, Source::Responses, 50).await, consume(&other, Source::Responses, 50).await);
    let total = 500;
    let messages = (0..total)
        .map(|number| Message { persistent: true, ..message(Address::Responses, number.to_string()) });
    let results = endpoint.publish(messages.collect()).await;
    assert!(results.len() == total && results.iter().all(Result::is_ok));
    let (mut seen, mut from_two) = (BTreeSet::new(), 0);
    while seen.len() < total {
        let delivery = tokio::select! {
            delivery = next(&mut one) => delivery,
            delivery = next(&mut two) => { from_two += 1; delivery }
        };
        assert_eq!(delivery.origin, Origin::Responses);
        assert!(seen.insert(text(&delivery).to_owned()), "{} came twice", text(&delivery));
        delivery.acker.ack_through().await;
    }
    assert!(from_two > 0, "the second consumer got nothing");
}

async fn what_is_published_together_goes_together_to_who_reads_lists(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    let mut responses = consume(&api, Source::Responses, 50).await;
    let message = |reads, number: usize| Message {
        persistent: true,
        reads,
        ..message(Address::Responses, number.to_string())
    };
    for (reads, bodies) in [(WireVersion::One, 300), (WireVersion::Two, 1)] {
        let results = endpoint.publish((0..300).map(|number| message(reads, number)).collect()).await;
        assert!(results.len() == 300 && results.iter().all(Result::is_ok), "one result for each");
        let mut items = Vec::new();
        for _ in 0..bodies {
            let delivery = next(&mut responses).await;
            items.extend(envelope::items(&delivery.body));
            delivery.acker.ack_through().await;
        }
        assert_eq!(items, (0..300).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}

async fn presence_arrives(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    let mut presence = consume(&api, Source::Presence, 10).await;
    publish(&endpoint, message(Address::Presence, "here")).await;
    let delivery = next(&mut presence).await;
    assert_eq!((text(&delivery), &delivery.origin), ("here", &Origin::Presence));
}

async fn dead_messages_are_taken(site: Site) {
    let api = site.api().await;
    let reason = "ä long reason ".repeat(1000);
    publish(&api, message(Address::Dead { reason: reason.clone() }, "\u{0}")).await;
    if let Site::Memory(broker) = &site {
        assert_eq!(broker.dead(), [(reason, Bytes::from_static(b"\0"))]);
    }
}

async fn unacknowledged_come_again(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    let mut a = tasks(&endpoint, &["a"], 10).await;
    for number in 0..4 {
        publish(&api, message(Address::All(worker()), number.to_string())).await;
    }
    for _ in 0..2 {
        next(&mut a).await.acker.ack_through().await;
    }
    assert_eq!(text(&next(&mut a).await), "2");
    drop(a);
    let mut again = tasks(&endpoint, &["a"], 10).await;
    let (third, fourth) = (next(&mut again).await, next(&mut again).await);
    assert_eq!((text(&third), third.redelivered, text(&fourth)), ("2", true, "3"));
    fourth.acker.ack_through().await;
    nothing_else(&api, &mut again, "a").await;
}

async fn acknowledging_covers_all_before(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    let queues: Vec<String> = (0..5).map(|number| format!("e{number}")).collect();
    let queues: Vec<&str> = queues.iter().map(String::as_str).collect();
    let mut fleet = tasks(&endpoint, &queues, 4).await;
    for number in 0..10 {
        publish(&api, message(Address::All(worker()), number.to_string())).await;
    }
    // Four of each queue may be outstanding; the acknowledgement of the twentieth lets the rest come.
    let mut seen = Vec::new();
    let mut last = None;
    for _ in 0..20 {
        let delivery = next(&mut fleet).await;
        seen.push((format!("{:?}", delivery.origin), text(&delivery).to_owned()));
        last = Some(delivery);
    }
    last.expect("twenty came").acker.ack_through().await;
    // Acknowledges out of order from here on: a smaller number after a greater one changes nothing.
    let (one, two) = (next(&mut fleet).await, next(&mut fleet).await);
    two.acker.ack_through().await;
    one.acker.ack_through().await;
    for delivery in [one, two] {
        seen.push((format!("{:?}", delivery.origin), text(&delivery).to_owned()));
    }
    drop(fleet);
    let mut again = tasks(&endpoint, &queues, 4).await;
    while seen.len() < 50 {
        let delivery = next(&mut again).await;
        seen.push((format!("{:?}", delivery.origin), text(&delivery).to_owned()));
        delivery.acker.ack_through().await;
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 50, "something came twice: {seen:?}");
}

async fn the_prefetch_is_the_brake(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    let mut slow = tasks(&endpoint, &["slow"], 3).await;
    let messages = (0..10).map(|number| message(Address::All(worker()), number.to_string())).collect();
    assert!(api.publish(messages).await.iter().all(Result::is_ok));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut slow).await);
    }
    assert!(
        timeout(Duration::from_millis(200), slow.deliveries.recv()).await.is_err(),
        "more than the prefetch came"
    );
    held.last().expect("three are held").acker.ack_through().await;
    assert_eq!(text(&next(&mut slow).await), "3");
}

async fn unsubscribing_leaves_named_delivery(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    let mut a = tasks(&endpoint, &["a"], 10).await;
    endpoint.dismiss(vec![(worker(), name("a"))]).await.expect("unsubscribes");
    publish(&api, message(Address::All(worker()), "to all")).await;
    nothing_else(&api, &mut a, "a").await;
    drop(a);
    let mut again = tasks(&endpoint, &["a"], 10).await;
    publish(&api, message(Address::All(worker()), "to all")).await;
    assert_eq!(text(&next(&mut again).await), "to all");
}

async fn one_process_for_a_name(site: Site) {
    let (api, one, two) = (site.api().await, site.endpoint().await, site.endpoint().await);
    let mut first = tasks(&one, &["a"], 10).await;
    // Makes the queue of `b`, so that what is sent before it is consumed waits there.
    drop(tasks(&one, &["b"], 10).await);
    let names = ["a", "b"].map(|text| (worker(), name(text)));
    let mut second = two.consume(Source::Tasks(names.into()), 10).await.expect("consumes");
    // The free name is served all the same.
    publish(&api, message(Address::Named(worker(), vec![name("a"), name("b")]), "who")).await;
    assert_eq!(next(&mut second).await.origin, Origin::Named(worker(), name("b")));
    assert!(second.link.borrow().up, "one name that another process has is no reason to be down");
    let refused: Vec<_> = second
        .refused
        .borrow()
        .iter()
        .map(|(subscription, refusal)| (subscription.clone(), refusal.held))
        .collect();
    assert_eq!(refused, [((worker(), name("a")), true)]);
    assert_eq!(next(&mut first).await.origin, Origin::Named(worker(), name("a")));
    let epoch = second.link.borrow().epoch;
    one.close().await;
    timeout(PATIENCE, second.refused.wait_for(|refused| refused.is_empty()))
        .await
        .expect("takes over in time")
        .expect("is not closed");
    assert_eq!(second.link.borrow().epoch, epoch, "the name that was served all the time lost its link");
    let delivery = next(&mut second).await;
    assert_eq!((delivery.origin, delivery.redelivered), (Origin::Named(worker(), name("a")), true));
}

async fn thousands_of_names_in_one_message(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    // Long names, so that one header could not hold them all; a tenth of them have a queue, spread over all
    // groups.
    let names: Vec<EndpointName> =
        (0..3000).map(|number| name(format!("{number:04}.{}", "x".repeat(60)))).collect();
    let present: Vec<(TaskType, EndpointName)> =
        names.iter().step_by(10).map(|name| (worker(), name.clone())).collect();
    let mut wanted: BTreeSet<EndpointName> = present.iter().map(|(_, name)| name.clone()).collect();
    let mut fleet = consume(&endpoint, Source::Tasks(present), 10).await;
    let body = "x".repeat(1000);
    let named = message(Address::Named(worker(), names.clone()), body.clone());
    let control = message(Address::Control(worker(), names), body.clone());
    let results = api.publish(vec![named, control]).await;
    assert!(matches!(results[..], [Ok(()), Ok(())]), "{results:?}");
    let mut controlled = wanted.clone();
    while !wanted.is_empty() || !controlled.is_empty() {
        let delivery = next(&mut fleet).await;
        assert_eq!(text(&delivery), body);
        match &delivery.origin {
            Origin::Named(_, name) => assert!(wanted.remove(name), "{name} got it twice"),
            Origin::Control(_, name) => assert!(controlled.remove(name), "{name} was told twice"),
            other => panic!("{other:?} came unexpectedly"),
        }
        delivery.acker.ack_through().await;
    }
}

async fn a_fleet_on_one_link(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    let names: Vec<_> = (0..1000).map(|number| (worker(), name(format!("e{number}")))).collect();
    let mut missing: BTreeSet<_> = names.iter().map(|(_, name)| name.clone()).collect();
    let mut fleet = consume(&endpoint, Source::Tasks(names), 10).await;
    publish(&api, message(Address::All(worker()), "to all")).await;
    while !missing.is_empty() {
        let delivery = next(&mut fleet).await;
        let Origin::All(_, name) = &delivery.origin else {
            panic!("{:?} came unexpectedly", delivery.origin)
        };
        assert!(missing.remove(name), "{name} got it twice");
        delivery.acker.ack_through().await;
    }
}

async fn bodies_pass_untouched(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    let mut a = tasks(&endpoint, &["a"], 10).await;
    let mut responses = consume(&api, Source::Responses, 10).await;
    let every_byte: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for body in [vec![], b"\0".to_vec(), b"{not json".to_vec(), vec![0xff; 7], every_byte] {
        publish(&api, message(Address::All(worker()), body.clone())).await;
        publish(&endpoint, message(Address::Responses, body.clone())).await;
        let (there, back) = (next(&mut a).await, next(&mut responses).await);
        assert!(there.body == body && back.body == body, "a body of {} bytes changed", body.len());
        there.acker.ack_through().await;
        back.acker.ack_through().await;
    }
}

async fn messages_expire(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    drop(tasks(&endpoint, &["a"], 10).await);
    let short =
        Message { expires_in: Some(Duration::from_millis(1)), ..message(Address::All(worker()), "short") };
    let long = Message { expires_in: Some(Duration::MAX), ..message(Address::All(worker()), "long") };
    let results = api.publish(vec![short, long]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut a = tasks(&endpoint, &["a"], 10).await;
    assert_eq!(text(&next(&mut a).await), "long");
}

async fn order_is_kept(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    let mut a = tasks(&endpoint, &["a"], 100).await;
    let total = 2000;
    let publishing = async {
        let messages = (0..total).map(|number| message(Address::All(worker()), number.to_string()));
        assert!(api.publish(messages.collect()).await.iter().all(Result::is_ok));
    };
    let receiving = async {
        for number in 0..total {
            let delivery = next(&mut a).await;
            assert_eq!(text(&delivery), number.to_string());
            delivery.acker.ack_through().await;
        }
    };
    tokio::join!(publishing, receiving);
}

async fn closing_ends_everything(site: Site) {
    let (api, endpoint) = (site.api().await, site.endpoint().await);
    let mut a = tasks(&endpoint, &["a"], 10).await;
    publish(&api, message(Address::All(worker()), "once")).await;
    next(&mut a).await.acker.ack_through().await;
    endpoint.close().await;
    assert!(timeout(PATIENCE, a.deliveries.recv()).await.expect("ends in time").is_none());
    assert!(!endpoint.link().borrow().up && !a.link.borrow().up);
    let refused = endpoint.publish(vec![message(Address::Presence, "late")]).await;
    assert!(matches!(refused[..], [Err(BrokerError::Closed)]), "{refused:?}");
    assert!(matches!(endpoint.consume(Source::Presence, 1).await, Err(BrokerError::Closed)));
    endpoint.close().await;
    // What was acknowledged just before the end stays acknowledged, and others go on.
    let other = site.endpoint().await;
    let mut again = tasks(&other, &["a"], 10).await;
    nothing_else(&api, &mut again, "a").await;
    api.close().await;
}

/// RabbitMQ behind a proxy that breaks the link.
mod broken_links {
    use super::*;

    /// Publishes until it works again, as callers do.
    async fn publish_again(broker: &SharedBroker, message: Message) {
        loop {
            up(&**broker).await;
            if matches!(broker.publish(vec![message.clone()]).await[..], [Ok(())]) {
                return;
            }
        }
    }

    async fn down(broker: &dyn Broker) {
        timeout(PATIENCE, broker.link().wait_for(|link| !link.up))
            .await
            .expect("goes down in time")
            .expect("is not closed");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_cut_is_healed() {
        let site = Site::amqp();
        let (proxied, proxy) = site.proxied().await;
        let (api, endpoint) = (site.api().await, proxied.endpoint().await);
        let mut a = tasks(&endpoint, &["a"], 10).await;
        for number in 0..4 {
            publish(&api, message(Address::All(worker()), number.to_string())).await;
        }
        next(&mut a).await.acker.ack_through().await;
        let stale = next(&mut a).await;
        assert_eq!(text(&stale), "1");
        let before = (endpoint.link().borrow().epoch, a.link.borrow().epoch);

        proxy.refuse();
        down(&*endpoint).await;
        timeout(PATIENCE, a.link.wait_for(|link| !link.up))
            .await
            .expect("goes down in time")
            .expect("is not closed");
        let results = endpoint.publish(vec![message(Address::Presence, "lost"); 2]).await;
        assert!(
            matches!(
                results[..],
                [Err(BrokerError::Disconnected { .. }), Err(BrokerError::Disconnected { .. })]
            ),
            "{results:?}"
        );
        publish(&api, message(Address::All(worker()), "4")).await;

        proxy.pass();
        timeout(PATIENCE, a.link.wait_for(|link| link.up && link.epoch > before.1))
            .await
            .expect("in time")
            .expect("is not closed");
        up(&*endpoint).await;
        assert!(endpoint.link().borrow().epoch > before.0);
        // Belongs to a link that is gone: must not acknowledge anything of the new one.
        stale.acker.ack_through().await;
        let (mut seen, mut again) = (BTreeSet::new(), BTreeSet::new());
        // Of the old link there may still be some that had been handed over.
        while !seen.contains("4") {
            let delivery = next(&mut a).await;
            seen.insert(text(&delivery).to_owned());
            if delivery.redelivered {
                again.insert(text(&delivery).to_owned());
            }
            delivery.acker.ack_through().await;
        }
        // At least what was not acknowledged; the last acknowledgement may have been cut off as well.
        assert!(["1", "2", "3"].iter().all(|text| again.contains(*text)), "{again:?} came again");
        publish_again(&endpoint, message(Address::Presence, "back")).await;
        nothing_else(&api, &mut a, "a").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_confirmed_is_lost_under_cuts() {
        let site = Site::amqp();
        let (proxied, proxy) = site.proxied().await;
        let (api, endpoint) = (proxied.api().await, proxied.endpoint().await);
        let mut responses = consume(&api, Source::Responses, 100).await;
        let total = 400;
        let publishing = async {
            for chunk in 0..total / 20 {
                if chunk % 5 == 2 {
                    proxy.cut();
                }
                let mut left: Vec<Message> = (0..20)
                    .map(|number| Message {
                        persistent: true,
                        ..message(Address::Responses, (chunk * 20 + number).to_string())
                    })
                    .collect();
                while !left.is_empty() {
                    up(&*endpoint).await;
                    let results = endpoint.publish(left.clone()).await;
                    assert_eq!(results.len(), left.len());
                    left = left
                        .into_iter()
                        .zip(results)
                        .filter(|(_, result)| result.is_err())
                        .map(|(message, _)| message)
                        .collect();
                }
            }
        };
        let receiving = async {
            let mut seen = BTreeSet::new();
            while seen.len() < total {
                let delivery = next(&mut responses).await;
                seen.insert(text(&delivery).to_owned());
                delivery.acker.ack_through().await;
            }
        };
        tokio::join!(publishing, receiving);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_silent_broker_is_noticed() {
        let site = Site::amqp();
        let (Site::Amqp(message_queue), proxy) = site.proxied().await else { panic!("it is RabbitMQ") };
        let heartbeat = Duration::from_secs(1);
        let endpoint =
            AmqpBroker::start(AmqpOptions { heartbeat, ..AmqpOptions::new(message_queue, Role::Endpoint) });
        up(&*endpoint).await;
        let mut a = tasks(&endpoint, &["a"], 10).await;
        let epoch = a.link.borrow().epoch;
        proxy.black_hole();
        let since = Instant::now();
        let results = endpoint.publish(vec![message(Address::Presence, "unknown")]).await;
        assert!(matches!(results[..], [Err(BrokerError::Unconfirmed { .. })]), "{results:?}");
        assert!(since.elapsed() < Duration::from_secs(15), "noticed after {:?}", since.elapsed());
        // Hangs up on those who try meanwhile, so that the test need not wait for their time limits.
        proxy.refuse();
        proxy.pass();
        timeout(PATIENCE, a.link.wait_for(|link| link.up && link.epoch > epoch))
            .await
            .expect("in time")
            .expect("is not closed");
        let api = site.api().await;
        nothing_else(&api, &mut a, "a").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_broker_may_come_later() {
        let site = Site::amqp();
        let (proxied, proxy) = site.proxied().await;
        proxy.refuse();
        let endpoint = proxied.connect(Role::Endpoint);
        let mut a = endpoint.consume(Source::Tasks(vec![(worker(), name("a"))]), 10).await.expect("consumes");
        let results = endpoint.publish(vec![message(Address::Presence, "early")]).await;
        assert!(
            matches!(&results[..], [Err(BrokerError::Disconnected { safe_url })] if !safe_url.contains(":guest@")),
            "{results:?}"
        );
        assert!(!endpoint.link().borrow().up && !a.link.borrow().up);
        proxy.pass();
        timeout(PATIENCE, a.link.wait_for(|link| link.up))
            .await
            .expect("comes up in time")
            .expect("is not closed");
        nothing_else(&site.api().await, &mut a, "a").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn leaving_the_fanout_outlives_a_cut() {
        let site = Site::amqp();
        let (proxied, proxy) = site.proxied().await;
        let (api, endpoint) = (site.api().await, proxied.endpoint().await);
        let mut a = tasks(&endpoint, &["a"], 10).await;
        endpoint.dismiss(vec![(worker(), name("a"))]).await.expect("unsubscribes");
        let epoch = a.link.borrow().epoch;
        proxy.cut();
        timeout(PATIENCE, a.link.wait_for(|link| link.up && link.epoch > epoch))
            .await
            .expect("in time")
            .expect("is not closed");
        publish(&api, message(Address::All(worker()), "to all")).await;
        nothing_else(&api, &mut a, "a").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_deleted_queue_comes_back() {
        let site = Site::amqp();
        let Site::Amqp(MessageQueue { exchange, .. }) = &site else { panic!("it is RabbitMQ") };
        let (api, endpoint) = (site.api().await, site.endpoint().await);
        let mut a = tasks(&endpoint, &["a", "b"], 10).await;
        let epoch = a.link.borrow().epoch;
        management::delete(&["queues", "/", &format!("{exchange}.worker.a")]).await;
        // Until the queue is back, and then for `b` as well.
        let (mut back, mut others) = (false, 0);
        while !back {
            publish(&api, message(Address::All(worker()), "to all")).await;
            while let Ok(delivery) = timeout(Duration::from_millis(100), a.deliveries.recv()).await {
                let delivery = delivery.expect("the consumer is open");
                back |= delivery.origin == Origin::All(worker(), name("a"));
                others += usize::from(delivery.origin == Origin::All(worker(), name("b")));
                delivery.acker.ack_through().await;
            }
        }
        assert!(others > 0, "the other queue was not served");
        assert_eq!(a.link.borrow().epoch, epoch, "a deleted queue cost the connection");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_deleted_exchange_comes_back() {
        let site = Site::amqp();
        let Site::Amqp(MessageQueue { exchange, .. }) = &site else { panic!("it is RabbitMQ") };
        let (api, endpoint) = (site.api().await, site.endpoint().await);
        let mut responses = consume(&api, Source::Responses, 10).await;
        publish(&endpoint, message(Address::Responses, "before")).await;
        management::delete(&["exchanges", "/", &format!("{exchange}.responses")]).await;
        let results = endpoint
            .publish(vec![message(Address::Responses, "lost"), message(Address::Presence, "as well")])
            .await;
        assert!(
            matches!(&results[0], Err(BrokerError::Unconfirmed { reason }) if reason.contains("NOT_FOUND")),
            "{results:?}"
        );
        publish_again(&endpoint, message(Address::Responses, "after")).await;
        assert_eq!(
            (text(&next(&mut responses).await), text(&next(&mut responses).await)),
            ("before", "after")
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_report_that_no_queue_takes_is_not_confirmed() {
        let site = Site::amqp();
        let Site::Amqp(MessageQueue { exchange, .. }) = &site else { panic!("it is RabbitMQ") };
        let (api, endpoint) = (site.api().await, site.endpoint().await);
        publish(&endpoint, message(Address::Responses, "before")).await;
        management::delete(&["queues", "/", &format!("{exchange}.responses")]).await;
        let results = endpoint.publish(vec![message(Address::Responses, "lost")]).await;
        assert!(
            matches!(&results[0], Err(BrokerError::Unconfirmed { reason }) if reason.contains("does not exist")),
            "{results:?}"
        );
        publish_again(&endpoint, message(Address::Responses, "after")).await;
        let mut responses = consume(&api, Source::Responses, 10).await;
        assert_eq!(text(&next(&mut responses).await), "after");
    }

    fn backup() -> TaskType {
        "backup".parse().expect("a type")
    }

    /// Consumes `worker` and `backup` of `a`, of which `worker` alone can be had.
    async fn worker_alone(api: &SharedBroker, endpoint: &SharedBroker) -> Consumer {
        let mut a =
            consume(endpoint, Source::Tasks(vec![(backup(), name("a")), (worker(), name("a"))]), 10).await;
        let refused = timeout(PATIENCE, a.refused.wait_for(|refused| !refused.is_empty()))
            .await
            .expect("in time")
            .expect("is open")
            .clone();
        let refused: Vec<_> =
            refused.into_iter().map(|(subscription, refusal)| (subscription, refusal.held)).collect();
        assert_eq!(refused, [((backup(), name("a")), false)]);
        let epoch = a.link.borrow().epoch;
        // Over several tries of the other one.
        for round in 0..20 {
            publish(api, message(Address::All(worker()), round.to_string())).await;
            let delivery = next(&mut a).await;
            assert_eq!(
                (text(&delivery), &delivery.origin),
                (round.to_string().as_str(), &Origin::All(worker(), name("a")))
            );
            delivery.acker.ack_through().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(
            (a.link.borrow().up, a.link.borrow().epoch),
            (true, epoch),
            "a refused queue cost the connection"
        );
        a
    }

    async fn all_can_be_had(api: &SharedBroker, a: &mut Consumer) {
        timeout(PATIENCE, a.refused.wait_for(|refused| refused.is_empty()))
            .await
            .expect("in time")
            .expect("is not closed");
        publish(api, message(Address::Named(backup(), vec![name("a")]), "backup")).await;
        assert_eq!(text(&next(a).await), "backup");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_queue_with_foreign_arguments_takes_no_other_along() {
        let site = Site::amqp();
        let Site::Amqp(MessageQueue { exchange, .. }) = &site else { panic!("it is RabbitMQ") };
        let (api, endpoint) = (site.api().await, site.endpoint().await);
        let queue = format!("{exchange}.backup.a");
        management::put(
            &["queues", "/", &queue],
            &json!({ "durable": true, "arguments": { "x-max-length": 7 } }),
        )
        .await;
        let mut a = worker_alone(&api, &endpoint).await;
        management::delete(&["queues", "/", &queue]).await;
        all_can_be_had(&api, &mut a).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_exchange_of_another_kind_takes_no_other_along() {
        let site = Site::amqp();
        let Site::Amqp(MessageQueue { exchange, .. }) = &site else { panic!("it is RabbitMQ") };
        let exchange = format!("{exchange}.backup");
        management::put(&["exchanges", "/", &exchange], &json!({ "type": "topic", "durable": true })).await;
        let (api, endpoint) = (site.api().await, site.endpoint().await);
        let mut a = worker_alone(&api, &endpoint).await;
        management::delete(&["exchanges", "/", &exchange]).await;
        all_can_be_had(&api, &mut a).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_missing_permission_takes_no_other_along() {
        let site = Site::amqp();
        let Site::Amqp(queue) = &site else { panic!("it is RabbitMQ") };
        // One that may not declare, then one that may not consume.
        for kind in ["configure", "read"] {
            let user = format!("{}-{kind}", queue.exchange);
            management::put(&["users", &user], &json!({ "password": "secret", "tags": "" })).await;
            let mut permissions = json!({ "configure": ".*", "write": ".*", "read": ".*" });
            permissions[kind] = json!(format!("^(?!{}[.]backup[.]a$).*", queue.exchange));
            management::put(&["permissions", "/", &user], &permissions).await;
            let queue =
                MessageQueue { username: user.clone(), password: Secret::new("secret"), ..queue.clone() };
            let (api, endpoint) = (site.api().await, Site::Amqp(queue).endpoint().await);
            let mut a = worker_alone(&api, &endpoint).await;
            permissions[kind] = json!(".*");
            management::put(&["permissions", "/", &user], &permissions).await;
            all_can_be_had(&api, &mut a).await;
            endpoint.close().await;
            management::delete(&["users", &user]).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_a_control_queue_tasks_come_all_the_same() {
        let site = Site::amqp();
        let Site::Amqp(queue) = &site else { panic!("it is RabbitMQ") };
        let user = format!("{}-control", queue.exchange);
        management::put(&["users", &user], &json!({ "password": "secret", "tags": "" })).await;
        let own = json!({ "configure": format!("^{}[.].*", queue.exchange), "write": ".*", "read": ".*" });
        management::put(&["permissions", "/", &user], &own).await;
        let queue = MessageQueue { username: user.clone(), password: Secret::new("secret"), ..queue.clone() };
        let (api, endpoint) = (site.api().await, Site::Amqp(queue).endpoint().await);
        let mut a = tasks(&endpoint, &["a"], 10).await;
        nothing_else(&api, &mut a, "a").await;
        management::put(
            &["permissions", "/", &user],
            &json!({ "configure": ".*", "write": ".*", "read": ".*" }),
        )
        .await;
        loop {
            publish(&api, message(Address::Control(worker(), vec![name("a")]), "stop")).await;
            if timeout(Duration::from_millis(200), a.deliveries.recv()).await.is_ok() {
                break;
            }
        }
        management::delete(&["users", &user]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_full_queue_does_not_take_it_may_take_later() {
        let site = Site::amqp();
        let Site::Amqp(MessageQueue { exchange, .. }) = &site else { panic!("it is RabbitMQ") };
        let (api, endpoint) = (site.api().await, site.endpoint().await);
        let queue = format!("{exchange}.responses");
        let policy = ["policies", "/", &queue];
        let full = serde_json::json!({"pattern": format!("^{}$", queue.replace('.', "\\.")), "definition": {"max-length": 1}, "apply-to": "queues"});
        management::put(&policy, &full).await;
        let began = tokio::time::Instant::now();
        let refused = loop {
            match endpoint.publish(vec![message(Address::Responses, "filling")]).await.remove(0) {
                Ok(()) => assert!(began.elapsed() < PATIENCE, "the queue is never full"),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, BrokerError::NotNow { .. }), "{refused:?}");
        management::delete(&policy).await;
        publish_again(&endpoint, message(Address::Responses, "after")).await;
        let mut responses = consume(&api, Source::Responses, 10).await;
        while text(&next(&mut responses).await) != "after" {}
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn closing_while_the_broker_is_away_does_not_hang() {
        let (proxied, proxy) = Site::amqp().proxied().await;
        let endpoint = proxied.endpoint().await;
        let mut a = tasks(&endpoint, &["a"], 10).await;
        proxy.black_hole();
        timeout(PATIENCE, endpoint.close()).await.expect("closes in time");
        assert!(a.deliveries.recv().await.is_none());
    }
}

/// A case for each broker.
macro_rules! conformance {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::Site::memory()).await;
            })*
        }
        mod amqp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::Site::amqp()).await;
            })*
        }
    };
}

conformance!(
    a_fleet_on_one_link,
    a_type_nobody_declared_is_published_all_the_same,
    acknowledging_covers_all_before,
    bodies_pass_untouched,
    closing_ends_everything,
    control_overtakes_and_reaches_the_connected,
    dead_messages_are_taken,
    fanout_reaches_every_subscriber,
    messages_expire,
    named_reaches_just_those,
    named_waits_for_those_who_are_away,
    one_process_for_a_name,
    order_is_kept,
    presence_arrives,
    responses_are_shared_without_loss,
    what_is_published_together_goes_together_to_who_reads_lists,
    the_prefetch_is_the_brake,
    thousands_of_names_in_one_message,
    unacknowledged_come_again,
    unsubscribing_leaves_named_delivery,
);
