//! The broker users of endpoints: their names and permissions.
//!
//! The user of an endpoint may consume the queues of the endpoint, and publish reports and presence. It may
//! not declare, bind or publish tasks. The name of a user contains that of its endpoint, so the reader of a
//! message knows the sender without a lookup.

use serde::Serialize;

use crate::config::MessageQueue;
use crate::domain::{EndpointName, TaskType};

/// Separates the parts of a user's name. Exchange prefixes and endpoint names cannot contain it.
const SEPARATOR: char = ':';

/// The name of an endpoint's user. The virtual hosts of a broker share its users, so the name contains the
/// virtual host. An endpoint gets one user after the other, numbered by `generation`; the old user works
/// until it is deleted.
pub fn user_name(queue: &MessageQueue, endpoint: &EndpointName, generation: u32) -> String {
    let MessageQueue { virtual_host, exchange, .. } = queue;
    format!("{virtual_host}{SEPARATOR}{exchange}{SEPARATOR}{endpoint}{SEPARATOR}{generation}")
}

/// The endpoint that a user belongs to, and its generation; none for any other user.
pub fn owner(queue: &MessageQueue, user: &str) -> Option<(EndpointName, u32)> {
    let exchange = user.strip_prefix(&queue.virtual_host)?.strip_prefix(SEPARATOR)?;
    let endpoint = exchange.strip_prefix(&queue.exchange)?.strip_prefix(SEPARATOR)?;
    let (endpoint, generation) = endpoint.split_once(SEPARATOR)?;
    let number: u32 = generation.parse().ok()?;
    // A number is spelled in one way, so that no endpoint has two users of one generation.
    (number.to_string() == generation).then_some((endpoint.parse().ok()?, number))
}

/// What a user may do in a virtual host, as regular expressions for the names of queues and exchanges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Permissions {
    /// What it may declare and delete.
    pub configure: String,
    /// What it may publish to.
    pub write: String,
    /// What it may consume.
    pub read: String,
}

impl Permissions {
    /// The permissions of an endpoint that performs these types.
    pub fn of_endpoint(exchange: &str, endpoint: &EndpointName, types: &[TaskType]) -> Self {
        let (exchange, endpoint) = (literal(exchange), literal(endpoint.as_str()));
        let types: Vec<_> = types.iter().map(|task_type| literal(task_type.as_str())).collect();
        let types = types.join("|");
        Self {
            configure: "^$".to_owned(),
            write: format!(r"^{exchange}\.(responses|presence)$"),
            read: format!(r"^{exchange}\.(control\.)?({types})\.{endpoint}$"),
        }
    }
}

/// A regular expression for one name. The dot is the only character of a name that needs escaping.
fn literal(name: &str) -> String {
    name.replace('.', r"\.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn queue(virtual_host: &str, exchange: &str) -> MessageQueue {
        MessageQueue {
            host: "localhost".to_owned(),
            port: 5672,
            username: "tasker".to_owned(),
            password: Secret::new("secret"),
            virtual_host: virtual_host.to_owned(),
            exchange: exchange.to_owned(),
            queue: None,
            routing_key: None,
            tls: false,
            tls_files: crate::config::BrokerTls::default(),
        }
    }

    fn name(text: &str) -> EndpointName {
        text.parse().expect("a name")
    }

    #[test]
    fn a_user_tells_whose_it_is() {
        let ours = queue("/", "tasker");
        for (endpoint, generation) in [("ep1", 1), ("a.ep1", 20), ("ep1-2", 1)] {
            let user = user_name(&ours, &name(endpoint), generation);
            assert_eq!(owner(&ours, &user), Some((name(endpoint), generation)), "{user}");
        }
        assert_eq!(user_name(&ours, &name("ep1"), 3), "/:tasker:ep1:3");
        for stranger in [
            "tasker",
            "",
            "/:tasker:ep1",
            "/:tasker:ep1:",
            "/:tasker:ep1:01",
            "/:tasker:ep1:+1",
            "/:tasker:ep1:1:1",
            "/:tasker:ep 1:1",
            "/:tasker2:ep1:1",
            "x/:tasker:ep1:1",
            "/:tasker::1",
            "/:tasker:ep1:4294967296",
        ] {
            assert_eq!(owner(&ours, stranger), None, "{stranger}");
        }
        // Two installations never share one, however their parts are divided.
        let others = [queue("a:b", "c"), queue("a", "b.c"), queue("a", "b")];
        let users = others.map(|queue| user_name(&queue, &name("c.d"), 1));
        assert!(users.iter().all(|user| users.iter().filter(|other| *other == user).count() == 1));
    }

    #[test]
    fn permissions_name_what_is_its_own() {
        let types = ["worker", "disk-check"].map(|name| name.parse().expect("a type"));
        assert_eq!(
            Permissions::of_endpoint("my.tasker", &name("a.ep1"), &types),
            Permissions {
                configure: "^$".to_owned(),
                write: r"^my\.tasker\.(responses|presence)$".to_owned(),
                read: r"^my\.tasker\.(control\.)?(worker|disk-check)\.a\.ep1$".to_owned(),
            }
        );
    }
}
