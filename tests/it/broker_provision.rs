//! What `tasker initialize -r` does to a real RabbitMQ.

use tasker::broker::amqp::{AmqpBroker, AmqpOptions, Role};
use tasker::broker::provision::{ProvisionError, provision};
use tasker::broker::{Address, Message};
use tasker::config::{Management, MessageQueue, Secret};
use uuid::Uuid;

use crate::support::{management, message_queue};

/// The management interface and broker under test, with a user and a virtual host of the test's own.
fn configuration() -> (Management, MessageQueue) {
    let management = management::configuration();
    let own = format!("test/{}", Uuid::new_v4().simple());
    let (username, virtual_host, password) = (own.clone(), own, Secret::new("first & ?#%"));
    let message_queue =
        MessageQueue { username, virtual_host, password, exchange: "tasker".to_owned(), ..message_queue() };
    (management, message_queue)
}

/// Connects as the configured user, and publishes.
async fn works(message_queue: &MessageQueue) {
    let broker = AmqpBroker::start(AmqpOptions::new(message_queue.clone(), Role::Endpoint));
    broker.link().wait_for(|link| link.up).await.expect("is not closed");
    let message = Message::new(Address::Presence, "here".into());
    assert!(broker.publish(vec![message]).await.iter().all(Result::is_ok));
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn makes_what_is_missing_and_resets_when_told() {
    let (interface, message_queue) = configuration();
    let own = message_queue.virtual_host.as_str();

    let done = provision(&interface, &message_queue, false).await.expect("provisions");
    let created = [
        format!("created the virtual host `{own}`"),
        format!("created the user `{own}`"),
        format!("gave `{own}` all permissions in `{own}`"),
    ];
    assert_eq!(done, created);
    works(&message_queue).await;

    let changed = MessageQueue { password: Secret::new("second"), ..message_queue.clone() };
    let done = provision(&interface, &changed, false).await.expect("provisions again");
    assert_eq!(
        done[..2],
        [format!("kept the virtual host `{own}`"), format!("set the password of the user `{own}`")]
    );
    works(&changed).await;

    let done = provision(&interface, &changed, true).await.expect("resets");
    assert_eq!(done[..2], [format!("deleted the user `{own}`"), format!("deleted the virtual host `{own}`")]);
    assert_eq!(done[2..], created);
    works(&changed).await;

    management::delete(&["vhosts", own]).await;
    management::delete(&["users", own]).await;
    // Nothing there to delete is no error.
    let done = provision(&interface, &changed, true).await.expect("resets what is not there");
    assert_eq!(done, created);
    management::delete(&["vhosts", own]).await;
    management::delete(&["users", own]).await;
}

#[tokio::test]
async fn says_what_is_wrong_without_secrets() {
    let (management, message_queue) = configuration();
    let secret = || Secret::new("canary-password");
    let wrong = Management { password: secret(), ..management.clone() };
    let nobody =
        Management { apiurl: "http://user:canary-password@127.0.0.1:1/api".to_owned(), ..wrong.clone() };
    let nonsense = Management { apiurl: "canary-password".to_owned(), ..wrong.clone() };
    let errors = [
        provision(&wrong, &message_queue, false).await.expect_err("the password is wrong"),
        provision(&nobody, &message_queue, false).await.expect_err("nobody listens there"),
        provision(&nonsense, &message_queue, false).await.expect_err("that is no address"),
    ];
    assert!(matches!(
        &errors,
        [ProvisionError::Unauthorized { .. }, ProvisionError::Unreachable { .. }, ProvisionError::Address]
    ));
    for error in errors {
        let text = format!("{error} {error:?}");
        assert!(!text.contains("canary"), "{text}");
    }
}
