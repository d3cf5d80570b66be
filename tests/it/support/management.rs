//! The management interface of the RabbitMQ under test.

use tasker::config::{Management, Secret};

/// Its address, and who administers it.
pub fn configuration() -> Management {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"));
    let amqp: reqwest::Url = variable("TASKER_TEST_AMQP").parse().expect("TASKER_TEST_AMQP is an address");
    Management {
        apiurl: variable("TASKER_TEST_RABBITMQ_API"),
        username: amqp.username().to_owned(),
        password: Secret::new(amqp.password().unwrap_or_default()),
    }
}

/// Deletes something behind everybody's back: `["queues", "/", name]`, for instance.
pub async fn delete(path: &[&str]) {
    let Management { apiurl, username, password } = configuration();
    let mut url: reqwest::Url = apiurl.parse().expect("TASKER_TEST_RABBITMQ_API is an address");
    url.path_segments_mut().expect("it has a path").extend(path);
    let request = tasker::https::client().build().expect("an HTTP client").delete(url).basic_auth(username, Some(password.reveal()));
    let status = request.send().await.expect("the management interface answers").status();
    assert!(status.is_success(), "{status} for {path:?}");
}
