//! The management interface of the RabbitMQ under test.

use tasker::config::{Management, Secret};

/// Its address, and who administers it.
pub fn configuration() -> Management {
    let variable = |name: &str| {
        std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
    };
    let amqp: reqwest::Url = variable("TASKER_TEST_AMQP").parse().expect("TASKER_TEST_AMQP is an address");
    Management {
        ca: None,
        apiurl: variable("TASKER_TEST_RABBITMQ_API"),
        username: amqp.username().to_owned(),
        password: Secret::new(amqp.password().unwrap_or_default()),
    }
}

/// Deletes something behind everybody's back: `["queues", "/", name]`, for instance.
pub async fn delete(path: &[&str]) {
    let status = ask(reqwest::Method::DELETE, path, None).await;
    assert!(status.is_success(), "{status} for {path:?}");
}

/// Puts something there behind everybody's back: `["policies", "/", name]`, for instance.
pub async fn put(path: &[&str], body: &serde_json::Value) {
    let status = ask(reqwest::Method::PUT, path, Some(body)).await;
    assert!(status.is_success(), "{status} for {path:?}");
}

/// Whether something is there.
pub async fn exists(path: &[&str]) -> bool {
    ask(reqwest::Method::GET, path, None).await.is_success()
}

/// The names of all that is there: `["queues", virtual_host]`, for instance.
pub async fn names(path: &[&str]) -> anyhow::Result<Vec<String>> {
    let found: Vec<serde_json::Value> = send(reqwest::Method::GET, path, None).await.json().await?;
    Ok(found.iter().filter_map(|one| one["name"].as_str()).map(str::to_owned).collect())
}

async fn ask(
    method: reqwest::Method,
    path: &[&str],
    body: Option<&serde_json::Value>,
) -> reqwest::StatusCode {
    send(method, path, body).await.status()
}

async fn send(method: reqwest::Method, path: &[&str], body: Option<&serde_json::Value>) -> reqwest::Response {
    let Management { apiurl, username, password, .. } = configuration();
    let mut url: reqwest::Url = apiurl.parse().expect("TASKER_TEST_RABBITMQ_API is an address");
    url.path_segments_mut().expect("it has a path").extend(path);
    let client = tasker::https::client().build().expect("an HTTP client");
    let mut request = client.request(method, url).basic_auth(username, Some(password.reveal()));
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    request.send().await.expect("the management interface answers")
}
