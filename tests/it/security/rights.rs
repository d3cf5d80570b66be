//! What the thief of a server can do at the broker: a table of operations, each on a channel of its own.

use anyhow::{Context, ensure};
use futures::future::BoxFuture;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeBindOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, ErrorKind, ExchangeKind};

use super::rig::{Server, start_api};
use crate::support::platform::{PATIENCE, Platform};

/// What the broker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Allowed,
    /// Its user may not (403).
    Denied,
    /// It is not who it says it is (406).
    Impostor,
}

/// What is done.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Consume(&'static str),
    Get(&'static str),
    Purge(&'static str),
    DeclareQueue(&'static str),
    DeclareExchange(&'static str),
    DeleteQueue(&'static str),
    DeleteExchange(&'static str),
    /// Binds a queue to an exchange.
    Bind(&'static str, &'static str),
    Unbind(&'static str, &'static str),
    BindExchange(&'static str, &'static str),
    /// Publishes to an exchange, by a key.
    Publish(&'static str, &'static str),
    /// Publishes as another user; `None`: as nobody.
    PublishAs(&'static str, Option<&'static str>),
}

use Operation as O;
use Wanted::{Allowed, Denied, Impostor};

/// What the user of `ep1` may do.
const TABLE: &[(Operation, Wanted)] = &[
    (O::Consume("it.worker.ep1"), Allowed),
    (O::Consume("it.control.worker.ep1"), Allowed),
    (O::Get("it.steered.ep1"), Allowed),
    (O::Purge("it.control.steered.ep1"), Allowed),
    (O::Publish("it.responses", ""), Allowed),
    (O::Publish("it.presence", ""), Allowed),
    // The broker takes it; the API does not.
    (O::PublishAs("it.responses", None), Allowed),
    (O::PublishAs("it.responses", Some("ep2")), Impostor),
    (O::PublishAs("it.presence", Some("ep2")), Impostor),
    (O::Consume("it.worker.ep2"), Denied),
    (O::Consume("it.worker.ep10"), Denied),
    (O::Consume("it.worker.a.ep1"), Denied),
    (O::Consume("it.control.worker.ep2"), Denied),
    (O::Consume("it.control.worker.a.ep1"), Denied),
    (O::Consume("it.backup.ep1"), Denied),
    (O::Consume("it.responses"), Denied),
    (O::Consume("it.presence"), Denied),
    (O::Consume("it.dead"), Denied),
    (O::Get("it.worker.ep2"), Denied),
    (O::Get("it.responses"), Denied),
    (O::Purge("it.worker.ep2"), Denied),
    (O::Purge("it.responses"), Denied),
    (O::DeclareQueue(""), Denied),
    (O::DeclareQueue("it.worker.ep1"), Denied),
    (O::DeclareQueue("it.worker.ep9"), Denied),
    (O::DeclareQueue("mine"), Denied),
    (O::DeclareExchange("it.worker"), Denied),
    (O::DeclareExchange("mine"), Denied),
    (O::DeleteQueue("it.worker.ep1"), Denied),
    (O::DeleteQueue("it.worker.ep2"), Denied),
    (O::DeleteQueue("it.responses"), Denied),
    (O::DeleteExchange("it.control"), Denied),
    (O::DeleteExchange("it.responses"), Denied),
    (O::Bind("it.worker.ep1", "it.worker"), Denied),
    (O::Bind("it.worker.ep1", "it.responses"), Denied),
    (O::Bind("it.worker.ep1", "it.control"), Denied),
    (O::Unbind("it.worker.ep1", "it.worker"), Denied),
    (O::Unbind("it.worker.ep2", "it.worker"), Denied),
    (O::BindExchange("it.responses", "it.worker"), Denied),
    (O::BindExchange("it.presence", "it.control"), Denied),
    (O::Publish("it.worker", ""), Denied),
    (O::Publish("it.worker.to", "ep1"), Denied),
    (O::Publish("it.worker.to", "ep2"), Denied),
    (O::Publish("it.control", "worker.ep2"), Denied),
    (O::Publish("it.dead", ""), Denied),
    (O::Publish("", "it.worker.ep2"), Denied),
    (O::Publish("", "it.responses"), Denied),
    (O::Publish("amq.topic", "x"), Denied),
];

#[test]
fn a_stolen_user_can_do_what_its_endpoint_needs_and_nothing_else() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let _api = start_api(&platform, "enforce")?;
    let mut servers = Vec::new();
    for name in ["ep1", "ep2", "ep10", "a.ep1"] {
        servers.push(Server::enrolled(&platform, name)?);
    }
    // Its queues are there, and nobody holds them.
    for server in &servers {
        server.start()?.stop(PATIENCE)?;
    }
    let thief = servers.first().context("ep1")?;
    let (user, wrong) = (thief.kept()?.username, servers.get(1).context("ep2")?.kept()?.username);
    let differences: Vec<String> = platform.block_on(async {
        let connection = thief.steal().await?;
        let mut differences = Vec::new();
        for (operation, wanted) in TABLE {
            let channel = connection.create_channel().await?;
            let said = perform(&channel, *operation, &user, &wrong).await;
            let found = verdict(&said);
            if found != Some(*wanted) {
                differences.push(format!("{operation:?}: expected {wanted:?}, got {said:?}"));
            }
            if said.is_ok() {
                channel.close(200, "done".into()).await?;
            }
        }
        anyhow::Ok(differences)
    })?;
    ensure!(differences.is_empty(), "{differences:#?}");
    Ok(())
}

fn verdict(said: &lapin::Result<()>) -> Option<Wanted> {
    let error = match said {
        Ok(()) => return Some(Allowed),
        Err(error) => error,
    };
    let ErrorKind::ProtocolError(told) = error.kind() else { return None };
    match told.get_id() {
        // Not because another process holds the queue.
        403 if told.get_message().as_str().contains("refused for user") => Some(Denied),
        406 if told.get_message().as_str().contains("user_id") => Some(Impostor),
        _ => None,
    }
}

fn perform<'a>(
    channel: &'a Channel,
    operation: Operation,
    user: &'a str,
    wrong: &'a str,
) -> BoxFuture<'a, lapin::Result<()>> {
    let none = FieldTable::default;
    Box::pin(async move {
        match operation {
            O::Consume(queue) => {
                let options = BasicConsumeOptions::default();
                channel.basic_consume(queue.into(), "".into(), options, none()).await.map(drop)
            }
            O::Get(queue) => channel.basic_get(queue.into(), BasicGetOptions::default()).await.map(drop),
            O::Purge(queue) => {
                channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.map(drop)
            }
            O::DeclareQueue(queue) => {
                let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(queue.into(), options, none()).await.map(drop)
            }
            O::DeclareExchange(exchange) => {
                let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(exchange.into(), ExchangeKind::Fanout, options, none()).await
            }
            O::DeleteQueue(queue) => {
                channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.map(drop)
            }
            O::DeleteExchange(exchange) => {
                channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await
            }
            O::Bind(queue, exchange) => {
                let options = QueueBindOptions::default();
                channel.queue_bind(queue.into(), exchange.into(), "".into(), options, none()).await
            }
            O::Unbind(queue, exchange) => {
                channel.queue_unbind(queue.into(), exchange.into(), "".into(), none()).await
            }
            O::BindExchange(to, from) => {
                let options = ExchangeBindOptions::default();
                channel.exchange_bind(to.into(), from.into(), "".into(), options, none()).await
            }
            O::Publish(exchange, key) => publish(channel, exchange, key, Some(user)).await,
            O::PublishAs(exchange, other) => publish(channel, exchange, "", other.map(|_| wrong)).await,
        }
    })
}

async fn publish(channel: &Channel, exchange: &str, key: &str, user: Option<&str>) -> lapin::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let properties = match user {
        Some(user) => BasicProperties::default().with_user_id(user.into()),
        None => BasicProperties::default(),
    };
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), key.into(), options, b"{}", properties).await?.await.map(drop)
}
