//! A platform some of whose endpoints have broker users of their own.

use anyhow::Context;
use reqwest::Url;
use serde_json::json;
use tasker::broker::account::{Permissions, user_name};
use tasker::config::{MessageQueue, Secret};
use tasker::domain::{EndpointName, TaskType};
use tasker_services::Process;

use crate::support::management;
use crate::support::platform::Platform;

/// The password of all users that tests make.
pub const PASSWORD: &str = "its-own-secret";

/// The broker of a platform as its configuration names it.
pub fn message_queue(platform: &Platform) -> anyhow::Result<MessageQueue> {
    let amqp = Url::parse(&platform.amqp())?;
    let virtual_host = amqp.path().trim_start_matches('/').to_owned();
    Ok(MessageQueue {
        host: "127.0.0.1".to_owned(),
        port: amqp.port().context("a port")?,
        username: amqp.username().to_owned(),
        password: Secret::new(amqp.password().context("a password")?),
        virtual_host,
        exchange: "it".to_owned(),
        queue: None,
        routing_key: None,
        tls: false,
    })
}

pub fn endpoint(name: &str) -> EndpointName {
    name.parse().expect("an endpoint name")
}

pub fn task_types(names: &[&str]) -> Vec<TaskType> {
    names.iter().map(|name| name.parse().expect("a task type")).collect()
}

/// A broker user of an endpoint, which goes when this is dropped.
pub struct User {
    pub name: String,
    runtime: tokio::runtime::Handle,
}

impl User {
    /// Makes the first user of an endpoint for these types.
    pub fn of(platform: &Platform, name: &str, types: &[&str]) -> anyhow::Result<Self> {
        let queue = message_queue(platform)?;
        let user = user_name(&queue, &endpoint(name), 1);
        let permissions = Permissions::of_endpoint(&queue.exchange, &endpoint(name), &task_types(types));
        platform.block_on(async {
            management::put(&["users", &user], &json!({ "password": PASSWORD, "tags": "" })).await;
            management::put(&["permissions", &queue.virtual_host, &user], &json!(permissions)).await;
        });
        Ok(Self { name: user, runtime: platform.block_on(async { tokio::runtime::Handle::current() }) })
    }

    /// What an endpoint's process finds in its environment to come in as this user.
    pub fn environment(&self) -> [(String, String); 2] {
        [("USERNAME", self.name.as_str()), ("PASSWORD", PASSWORD)]
            .map(|(key, value)| (format!("TASKER_MANAGER__MESSAGE_QUEUE__{key}"), value.to_owned()))
    }

    /// Starts an endpoint as this user.
    pub fn start(&self, platform: &Platform, name: &str, types: &[&str]) -> anyhow::Result<Process> {
        let mut arguments = vec!["endpoint".to_owned(), "-e".to_owned(), name.to_owned()];
        types.iter().for_each(|task_type| arguments.extend(["-t".to_owned(), (*task_type).to_owned()]));
        platform.launch(&format!("{name}-{}", types[0]), &arguments, &self.environment())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let path = ["users", self.name.as_str()];
        self.runtime.block_on(management::delete(&path));
    }
}
