//! From a message to what is really published: exchange, routing key, properties. Pure but for the names.
//!
//! Many endpoints in one publish is RabbitMQ's sender-selected distribution: the routing key names the first,
//! a header the others. Tasks by name use `BCC`, which the broker takes away again, so that a copy does not
//! carry everyone's name. Control uses `CC`, which stays, since one process may serve many endpoints through
//! its one control queue and must learn which of them are meant; so control is split into small groups.

use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};

use super::link_error::LinkError;
use super::options::{AmqpOptions, Role};
use super::topology::{Names, control_key, short};
use crate::broker::{About, Address, Message, Sender, account, envelope};
use crate::config::MessageQueue;
use crate::domain::{TaskId, TaskType};

/// Publishes that wait for their confirms. The library's own buffers have no bound.
pub(super) const IN_FLIGHT: usize = 256;
/// For a confirm, and for a message that waits to be sent because no confirms come.
pub(super) const CONFIRM_TIME: Duration = Duration::from_secs(30);
/// Bytes of names in one header. Headers must fit into one frame, or the connection dies.
const HEADER_BYTES: usize = 32 << 10;
/// Endpoints in one control message; each of them receives all these names.
const CONTROL_GROUP: usize = 64;
/// What an entry of a header's list takes besides its text.
const ENTRY_BYTES: usize = 5;
/// The header with the reason of a dead message.
const REASON: &str = "x-reason";
/// Bytes of a reason that are kept.
const REASON_BYTES: usize = 1024;
/// Headers of a message about one task.
const TASK: &str = "x-task-id";
const TYPE: &str = "x-task-type";
const ATTEMPT: &str = "x-attempt";
const TRACE: &str = "traceparent";
/// The header of a message with several items.
const ITEMS: &str = "x-items";
/// The header of messages that the API publishes for workers over HTTP. It tells them from messages of an
/// endpoint that still has the API's broker user.
const VIA: &str = "x-via";
/// The header with the further routing keys of a control message.
const CC: &str = "CC";

/// The user that a process names in its messages. The broker refuses a message that names another user than
/// that of the connection, so the name is proof of the sender.
#[derive(Debug, Clone)]
pub(super) struct Author {
    user: Option<ShortString>,
    /// Whether this process publishes messages of workers over HTTP.
    is_api: bool,
}

impl Author {
    pub(super) fn of(options: &AmqpOptions) -> Self {
        let user = ShortString::try_new(options.message_queue.username.as_str()).ok();
        Self { user, is_api: matches!(options.role, Role::Api { .. }) }
    }
}

/// Who has published a message.
pub(super) fn sender(properties: &BasicProperties, message_queue: &MessageQueue) -> Sender {
    let Some(user) = properties.user_id() else { return Sender::Unproven };
    let via_api = properties.headers().as_ref().is_some_and(|headers| headers.inner().contains_key(VIA));
    if via_api && user.as_str() == message_queue.username {
        return Sender::Api;
    }
    account::owner(message_queue, user.as_str())
        .map_or(Sender::Unproven, |(endpoint, _)| Sender::Endpoint(endpoint))
}

/// One `basic.publish`.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
    /// Whether it is lost if no queue takes it. Of a task every queue may be gone: the ledger asks again.
    pub(super) mandatory: bool,
}

/// The type whose exchanges a message needs.
pub(super) fn needed_type(message: &Message) -> Option<&TaskType> {
    match &message.to {
        Address::All(task_type) | Address::Named(task_type, _) => Some(task_type),
        _ => None,
    }
}

/// Splits a message into publishes; none if it names nobody.
pub(super) fn parts(
    names: &Names,
    author: &Author,
    message: &Message,
    frame_max: usize,
) -> Result<Vec<Part>, LinkError> {
    let (properties, mut headers) = (properties(author, message), headers(&message.about));
    if author.is_api && matches!(message.to, Address::Responses | Address::Presence) {
        headers.insert(VIA.into(), AMQPValue::LongString("api".into()));
    }
    let mandatory = matches!(message.to, Address::Responses | Address::Dead { .. });
    let part = |exchange, routing_key, headers: FieldTable| {
        let bare = headers.inner().is_empty();
        let properties = if bare { properties.clone() } else { properties.clone().with_headers(headers) };
        Part { exchange, routing_key, properties, body: message.body.clone(), mandatory }
    };
    let one = |exchange| Ok(vec![part(exchange, ShortString::default(), headers.clone())]);
    let many = |exchange: ShortString, keys: Vec<String>, header: &'static str, most: usize| {
        let budget = HEADER_BYTES.min(frame_max / 2);
        groups(keys, most, budget)
            .into_iter()
            .map(|(first, others)| {
                let mut headers = headers.clone();
                if !others.is_empty() {
                    let others: Vec<_> =
                        others.into_iter().map(|key| AMQPValue::LongString(key.into())).collect();
                    headers.insert(header.into(), AMQPValue::FieldArray(FieldArray::from(others)));
                }
                Ok(part(exchange.clone(), short(first)?, headers))
            })
            .collect()
    };
    match &message.to {
        Address::All(task_type) => one(names.fanout(task_type)?),
        Address::Responses => one(names.responses()?),
        Address::Presence => one(names.presence()?),
        Address::Named(task_type, endpoints) => {
            let keys = endpoints.iter().map(ToString::to_string).collect();
            many(names.direct(task_type)?, keys, "BCC", usize::MAX)
        }
        Address::Control(task_type, endpoints) => {
            let keys = endpoints.iter().map(|endpoint| control_key(task_type, endpoint)).collect();
            many(names.control()?, keys, CC, CONTROL_GROUP)
        }
        // No queue is bound with this key: those that are have a dot.
        Address::Dead { reason } => {
            let end = reason.floor_char_boundary(REASON_BYTES);
            let mut headers = FieldTable::default();
            headers.insert(REASON.into(), AMQPValue::LongString(LongString::from(&reason[..end])));
            Ok(vec![part(names.dead()?, ShortString::default(), headers)])
        }
    }
}

/// The endpoints' keys that a control message was sent to.
pub(super) fn control_keys<'a>(
    routing_key: &'a str,
    properties: &'a BasicProperties,
) -> impl Iterator<Item = &'a str> {
    let others = match properties.headers().as_ref().and_then(|headers| headers.inner().get(CC)) {
        Some(AMQPValue::FieldArray(keys)) => keys.as_slice(),
        _ => &[],
    };
    let others = others.iter().filter_map(|key| match key {
        AMQPValue::LongString(key) => std::str::from_utf8(key.as_bytes()).ok(),
        _ => None,
    });
    std::iter::once(routing_key).chain(others)
}

/// What those who watch the broker are told of a message. Nobody here reads it: the body alone counts.
fn headers(about: &About) -> FieldTable {
    let mut headers = FieldTable::default();
    match about {
        About::Nothing => {}
        About::Items(count) => drop(
            headers.insert(ITEMS.into(), AMQPValue::LongLongInt(i64::try_from(*count).unwrap_or(i64::MAX))),
        ),
        About::Task { id, asked } => {
            headers.insert(TASK.into(), AMQPValue::LongString(id.to_string().into()));
            headers.insert(TRACE.into(), AMQPValue::LongString(trace_of(*id).into()));
            if let Some((task_type, attempt)) = asked {
                headers.insert(TYPE.into(), AMQPValue::LongString(task_type.as_str().into()));
                headers.insert(ATTEMPT.into(), AMQPValue::LongLongInt((*attempt).into()));
            }
        }
    }
    headers
}

/// A `traceparent` (W3C Trace Context): all messages of a task are of one trace, whose number is the task's
/// id. It is not sampled here.
fn trace_of(id: TaskId) -> String {
    let trace = id.0.simple().to_string();
    format!("00-{trace}-{}-00", &trace[16..])
}

fn properties(author: &Author, message: &Message) -> BasicProperties {
    let content_type =
        if envelope::is_list(&message.body) { "application/json-seq" } else { "application/json" };
    let properties = BasicProperties::default()
        .with_content_type(ShortString::from(content_type))
        .with_delivery_mode(if message.persistent { 2 } else { 1 });
    let properties = match &author.user {
        Some(user) => properties.with_user_id(user.clone()),
        None => properties,
    };
    match message.expires_in {
        Some(span) => properties.with_expiration(expiration(span)),
        None => properties,
    }
}

/// How long a message may lie in a queue, as the broker reads it: in milliseconds. On a number beyond 32 bits
/// it closes the channel, and with it ends what others have in flight.
pub(super) fn expiration(span: Duration) -> ShortString {
    span.as_millis().min(u128::from(u32::MAX)).to_string().into()
}

/// Routing key and further keys of each publish: at most so many keys, and so many bytes of further ones.
fn groups(keys: Vec<String>, most: usize, budget: usize) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    let mut room = 0;
    for key in keys {
        let size = key.len() + ENTRY_BYTES;
        match groups.last_mut() {
            Some((_, others)) if room >= size && others.len() + 1 < most => {
                room -= size;
                others.push(key);
            }
            _ => {
                room = budget;
                groups.push((key, Vec::new()));
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Secret;

    fn message(to: Address) -> Message {
        let expires_in = Some(Duration::from_secs(u64::MAX / 1000));
        Message { persistent: true, expires_in, ..Message::new(to, Bytes::from_static(b"{}")) }
    }

    fn message_queue(username: &str) -> MessageQueue {
        MessageQueue {
            host: "localhost".to_owned(),
            port: 5672,
            username: username.to_owned(),
            password: Secret::new("secret"),
            virtual_host: "/".to_owned(),
            exchange: "ex".to_owned(),
            queue: None,
            routing_key: None,
            tls: false,
            tls_files: crate::config::BrokerTls::default(),
        }
    }

    fn author() -> Author {
        Author::of(&AmqpOptions::new(message_queue("/:ex:a:1"), Role::Endpoint))
    }

    #[test]
    fn a_message_tells_who_has_sent_it() {
        let api = Role::Api { types: Vec::new() };
        let a = Sender::Endpoint("a".parse().expect("a name"));
        for (user, role, to, wanted) in [
            ("/:ex:a:1", Role::Endpoint, Address::Responses, a.clone()),
            ("/:ex:a:2", Role::Endpoint, Address::Presence, a),
            ("/:other:a:1", Role::Endpoint, Address::Responses, Sender::Unproven),
            // An endpoint that still has the user of the API.
            ("tasker", Role::Endpoint, Address::Responses, Sender::Unproven),
            ("tasker", api.clone(), Address::Responses, Sender::Api),
            ("tasker", api.clone(), Address::Presence, Sender::Api),
            ("other", api, Address::Presence, Sender::Unproven),
        ] {
            let author = Author::of(&AmqpOptions::new(message_queue(user), role));
            let parts = parts(&Names::new("ex"), &author, &message(to), 131_072).expect("names are short");
            let [part] = &parts[..] else { panic!("{user} makes {} parts", parts.len()) };
            assert_eq!(sender(&part.properties, &message_queue("tasker")), wanted, "{user}");
        }
        assert_eq!(sender(&BasicProperties::default(), &message_queue("tasker")), Sender::Unproven);
    }

    fn task_type() -> TaskType {
        "worker".parse().expect("a type")
    }

    #[test]
    fn goes_where_the_topology_says() {
        let names = Names::new("ex");
        let endpoints = vec!["a".parse().expect("a name"), "b.c".parse().expect("a name")];
        let table = [
            (Address::All(task_type()), "ex.worker", ""),
            (Address::Named(task_type(), endpoints.clone()), "ex.worker.to", "a"),
            (Address::Control(task_type(), endpoints), "ex.control", "worker.a"),
            (Address::Responses, "ex.responses", ""),
            (Address::Presence, "ex.presence", ""),
            (Address::Dead { reason: "ä".repeat(1000) }, "ex.dead", ""),
        ];
        for (to, exchange, key) in table {
            let parts = parts(&names, &author(), &message(to.clone()), 131_072).expect("names are short");
            let [part] = &parts[..] else { panic!("{to:?} makes {} parts", parts.len()) };
            assert_eq!((part.exchange.as_str(), part.routing_key.as_str()), (exchange, key), "{to:?}");
            assert_eq!(part.properties.expiration().as_ref().map(ShortString::as_str), Some("4294967295"));
        }
        assert!(
            parts(&names, &author(), &message(Address::Named(task_type(), vec![])), 131_072)
                .expect("names are short")
                .is_empty()
        );
    }

    #[test]
    fn control_names_everyone_it_is_for() {
        let endpoints: Vec<_> = (0..200).map(|n| format!("e{n}").parse().expect("a name")).collect();
        let parts = parts(
            &Names::new("ex"),
            &author(),
            &message(Address::Control(task_type(), endpoints.clone())),
            131_072,
        )
        .expect("names are short");
        assert_eq!(parts.len(), 4);
        let keys: Vec<_> = parts
            .iter()
            .flat_map(|part| {
                control_keys(part.routing_key.as_str(), &part.properties)
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(
            keys,
            endpoints.iter().map(|endpoint| control_key(&task_type(), endpoint)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn says_beside_the_body_what_it_is_about() {
        let id = TaskId(uuid::Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_00ff));
        let asked = About::Task { id, asked: Some((task_type(), 2)) };
        let named =
            Address::Named(task_type(), vec!["a".parse().expect("a name"), "b".parse().expect("a name")]);
        let list = envelope::list(&[Bytes::from_static(b"{}"), Bytes::from_static(b"{}")]);
        let task = ["traceparent", "x-attempt", "x-task-id", "x-task-type"];
        for (message, headers, content) in [
            (
                Message { about: asked.clone(), ..message(Address::All(task_type())) },
                &task[..],
                "application/json",
            ),
            (
                Message { about: asked, ..message(named) },
                &["BCC", "traceparent", "x-attempt", "x-task-id", "x-task-type"],
                "application/json",
            ),
            (
                Message { about: About::Task { id, asked: None }, ..message(Address::Responses) },
                &["traceparent", "x-task-id"],
                "application/json",
            ),
            (
                Message { about: About::Items(2), body: list, ..message(Address::Responses) },
                &["x-items"],
                "application/json-seq",
            ),
        ] {
            let parts = parts(&Names::new("ex"), &author(), &message, 131_072).expect("names are short");
            let [Part { properties, .. }] = &parts[..] else { panic!("{message:?}") };
            let table = properties.headers().as_ref().expect("headers");
            assert_eq!(table.inner().keys().map(ShortString::as_str).collect::<Vec<_>>(), headers);
            assert_eq!(properties.content_type().as_ref().map(ShortString::as_str), Some(content));
        }
        assert_eq!(trace_of(id), "00-019200000000700080000000000000ff-80000000000000ff-00");
    }

    proptest! {
        #[test]
        fn groups_lose_nobody_and_fit(lengths in proptest::collection::vec(1usize..128, 0..400), most in 1usize..100, budget in 0usize..2000) {
            let keys: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
            let made = groups(keys.clone(), most, budget);
            let again: Vec<String> = made.iter().flat_map(|(first, others)| std::iter::once(first).chain(others)).cloned().collect();
            prop_assert_eq!(again, keys);
            for (_, others) in &made {
                prop_assert!(others.len() < most);
                prop_assert!(others.iter().map(|key| key.len() + ENTRY_BYTES).sum::<usize>() <= budget);
            }
        }
    }
}
