//! The queues of a platform, seen from the broker's side.

use anyhow::Context;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use super::platform::Platform;

/// A channel to the broker of a platform. Its methods take the names that stand in `docs/architecture.md`.
pub struct Queues {
    _connection: Connection,
    channel: Channel,
}

impl Queues {
    /// Connects as the platform's own user.
    pub async fn of(platform: &Platform) -> anyhow::Result<Self> {
        Self::at(&platform.amqp()).await
    }

    /// Connects to the broker at an address.
    pub async fn at(url: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { _connection: connection, channel })
    }

    /// Messages that are ready in a queue; none if there is no such queue on a fresh channel.
    pub async fn ready(&self, queue: &str) -> anyhow::Result<u32> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
        Ok(declared.with_context(|| format!("looking at {queue}"))?.message_count())
    }

    /// A queue of our own that gets a copy of whatever comes to these exchanges, for as long as we are
    /// connected.
    pub async fn tap(&self, name: &str, exchanges: &[(&str, &str)]) -> anyhow::Result<()> {
        let ours = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(name.into(), ours, FieldTable::default()).await?;
        for (exchange, key) in exchanges {
            let options = QueueBindOptions::default();
            self.channel
                .queue_bind(name.into(), (*exchange).into(), (*key).into(), options, FieldTable::default())
                .await?;
        }
        Ok(())
    }

    /// Takes all messages out of a queue.
    pub async fn drain(&self, queue: &str) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut bodies = Vec::new();
        while let Some(message) = self.channel.basic_get(queue.into(), BasicGetOptions::default()).await? {
            message.delivery.acker.ack(BasicAckOptions::default()).await?;
            bodies.push(message.delivery.data);
        }
        Ok(bodies)
    }

    /// Publishes to an exchange, as anybody could.
    pub async fn send(
        &self,
        exchange: &str,
        key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> anyhow::Result<()> {
        self.channel
            .basic_publish(exchange.into(), key.into(), BasicPublishOptions::default(), body, properties)
            .await?
            .await?;
        Ok(())
    }

    /// Puts many messages into a queue, without waiting for each.
    pub async fn flood(&self, queue: &str, bodies: impl Iterator<Item = String>) -> anyhow::Result<()> {
        let mut confirms = Vec::new();
        for body in bodies {
            let options = BasicPublishOptions::default();
            let publish = self.channel.basic_publish(
                "".into(),
                queue.into(),
                options,
                body.as_bytes(),
                BasicProperties::default(),
            );
            confirms.push(publish.await?);
        }
        for confirm in confirms {
            confirm.await?;
        }
        Ok(())
    }

    /// Puts a message into a queue.
    pub async fn put(&self, queue: &str, body: &[u8]) -> anyhow::Result<()> {
        let options = BasicPublishOptions::default();
        self.channel
            .basic_publish("".into(), queue.into(), options, body, BasicProperties::default())
            .await?
            .await?;
        Ok(())
    }
}
