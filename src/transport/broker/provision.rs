//! The virtual host, the users and their permissions, made over RabbitMQ's management interface
//! (`tasker initialize -r`, `tasker endpoint invite`).
//!
//! Makes what is missing and leaves what is there; only when told to reset does it delete first. The user may
//! do anything in the virtual host and nothing outside of it: the virtual host is the boundary between
//! installations.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Certificate, Client, Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::account::Permissions;
use crate::config::{Management, MessageQueue, Secret};
use crate::https;

/// For one answer of the management interface.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Characters of an answer's text that an error repeats.
const REASON_CHARACTERS: usize = 200;

/// Why the broker could not be set up. No text here holds a password.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The configured address is none.
    #[error("`rabbitmq.apiurl` is not an address such as http://localhost:15672/api")]
    Address,
    /// Nobody answers there, or not as the management interface does.
    #[error("no answer from the management interface at {safe_url}: {reason}")]
    Unreachable {
        /// The address without password.
        safe_url: String,
        /// What was seen, and what to do about it.
        reason: String,
    },
    /// It does not know the user, or the user may not administer.
    #[error(
        "the management interface at {safe_url} refuses the user `{username}`: check `rabbitmq.username`, its password and its tag `administrator`"
    )]
    Unauthorized {
        /// The address without password.
        safe_url: String,
        /// Who asked.
        username: String,
    },
    /// The certificates of its CA cannot be used.
    #[error("rabbitmq.ca: {0}")]
    Ca(String),
    /// It would not do what was asked.
    #[error("{what} failed with status {status}: {reason}")]
    Refused {
        /// What was asked.
        what: String,
        /// The answer's status.
        status: u16,
        /// The answer's text.
        reason: String,
    },
}

/// Whether the management interface lets the administering user in.
///
/// # Errors
/// See [`ProvisionError`].
pub async fn look(management: &Management) -> Result<(), ProvisionError> {
    Api::new(management)?.get::<Value>("looking for the administering user", &["whoami"]).await.map(drop)
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, ProvisionError> {
    let read = std::fs::read(path).map_err(|error| error.to_string());
    read.and_then(|pem| https::certificates(&pem))
        .map_err(|error| ProvisionError::Ca(format!("cannot use {}: {error}", path.display())))
}

/// What to do where no answer came.
fn explain(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(at) = cause {
        causes.push(at.to_string());
        cause = at.source();
    }
    let all = causes.join(": ");
    let remedy = if error.is_timeout() {
        "it does not answer; check rabbitmq.apiurl, and firewalls on the way"
    } else if all.contains("Connection refused") {
        "nothing listens there (connection refused); enable the plugin with `rabbitmq-plugins enable rabbitmq_management`, or correct \
         rabbitmq.apiurl (port 15672 usually)"
    } else if all.contains("lookup address") {
        "the host name is not known; correct rabbitmq.apiurl, or the name service"
    } else if all.contains("corrupt message") || all.contains("InvalidContentType") {
        "it does not speak TLS; write http:// in rabbitmq.apiurl, or take the port for TLS (15671 usually)"
    } else if all.contains("certificate") {
        "its certificate is not trusted; its CA must be among the system's or in rabbitmq.ca, and rabbitmq.apiurl name the host as the certificate does"
    } else {
        "it does not answer as HTTP does; correct scheme and port in rabbitmq.apiurl (http on 15672, https on 15671 usually)"
    };
    format!("{remedy} ({})", causes.last().map_or("", String::as_str))
}

/// Makes virtual host, user and permissions; answers what it did, a sentence a step.
///
/// With `reset`, user and virtual host are deleted first, with all queues and messages in it. The
/// administering user itself is never deleted or changed.
///
/// # Errors
/// See [`ProvisionError`]. What was done until then stays done; running it again continues.
pub async fn provision(
    management: &Management,
    message_queue: &MessageQueue,
    reset: bool,
) -> Result<Vec<String>, ProvisionError> {
    let api = Api::new(management)?;
    let MessageQueue { username, password, virtual_host, .. } = message_queue;
    let (user_path, vhost_path) = (["users", username.as_str()], ["vhosts", virtual_host.as_str()]);
    let own_user = *username == management.username;
    let mut done = Vec::new();

    if reset {
        if !own_user && api.delete(&format!("deleting the user `{username}`"), &user_path).await? {
            done.push(format!("deleted the user `{username}`"));
        }
        if api.delete(&format!("deleting the virtual host `{virtual_host}`"), &vhost_path).await? {
            done.push(format!("deleted the virtual host `{virtual_host}`"));
        }
    }

    let there = api
        .get::<Value>(&format!("looking for the virtual host `{virtual_host}`"), &vhost_path)
        .await?
        .is_some();
    if there {
        done.push(format!("kept the virtual host `{virtual_host}`"));
    } else {
        api.put(&format!("creating the virtual host `{virtual_host}`"), &vhost_path, &json!({})).await?;
        done.push(format!("created the virtual host `{virtual_host}`"));
    }

    if own_user {
        done.push(format!("kept the user `{username}`, who administers the broker"));
    } else {
        let there: Option<User> = api.get(&format!("looking for the user `{username}`"), &user_path).await?;
        // A user that is there keeps its tags: setting a password must not take an administrator's rights
        // away.
        let tags = there.as_ref().map_or_else(|| json!(""), |user| user.tags.clone());
        let body = json!({ "password": password.reveal(), "tags": tags });
        api.put(&format!("setting up the user `{username}`"), &user_path, &body).await?;
        let did = if there.is_some() { "set the password of" } else { "created" };
        done.push(format!("{did} the user `{username}`"));
    }

    let what = format!("giving `{username}` its permissions in `{virtual_host}`");
    let everything = json!({ "configure": ".*", "write": ".*", "read": ".*" });
    api.put(&what, &["permissions", virtual_host, username], &everything).await?;
    done.push(format!("gave `{username}` all permissions in `{virtual_host}`"));
    Ok(done)
}

/// The most connections of an endpoint's user, and the most channels of all of them: enough for a few
/// processes.
const ENDPOINT_LIMITS: [(&str, u32); 2] = [("max-connections", 16), ("max-channels", 512)];

/// Creates the user of an endpoint with its permissions in a virtual host. A user of this name gets the new
/// password. The broker gets only the hash of the password.
///
/// # Errors
/// See [`ProvisionError`].
pub async fn make_user(
    management: &Management,
    virtual_host: &str,
    username: &str,
    password: &Secret,
    permissions: &Permissions,
) -> Result<(), ProvisionError> {
    let api = Api::new(management)?;
    let body = json!({
        "password_hash": password_hash(password),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "",
    });
    api.put(&format!("setting up the user `{username}`"), &["users", username], &body).await?;
    let what = format!("giving `{username}` its permissions in `{virtual_host}`");
    api.put(&what, &["permissions", virtual_host, username], &json!(permissions)).await?;
    for (limit, value) in ENDPOINT_LIMITS {
        let what = format!("giving `{username}` the limit {limit}");
        api.put(&what, &["user-limits", username, limit], &json!({ "value": value })).await?;
    }
    Ok(())
}

/// Deletes a user; the broker closes its connections. Returns whether there was one.
///
/// # Errors
/// See [`ProvisionError`].
pub async fn delete_user(management: &Management, username: &str) -> Result<bool, ProvisionError> {
    Api::new(management)?.delete(&format!("deleting the user `{username}`"), &["users", username]).await
}

/// The password as RabbitMQ stores it: four bytes of salt, then the SHA-256 of salt and password.
fn password_hash(password: &Secret) -> String {
    let mut bytes = fastrand::u32(..).to_be_bytes().to_vec();
    let hash = Sha256::new().chain_update(&bytes).chain_update(password.reveal()).finalize();
    bytes.extend_from_slice(&hash);
    BASE64_STANDARD.encode(bytes)
}

#[derive(Deserialize)]
struct User {
    /// A text until 3.8, a list since.
    tags: Value,
}

struct Api<'a> {
    client: Client,
    base: Url,
    management: &'a Management,
}

impl<'a> Api<'a> {
    fn new(management: &'a Management) -> Result<Self, ProvisionError> {
        let mut base: Url = management.apiurl.parse().map_err(|_| ProvisionError::Address)?;
        if base.cannot_be_a_base() {
            return Err(ProvisionError::Address);
        }
        // Credentials in the address would end up in errors; the configured ones count.
        let (_, _) = (base.set_username(""), base.set_password(None));
        let unusable = |source: reqwest::Error| ProvisionError::Unreachable {
            safe_url: base.to_string(),
            reason: explain(&source.without_url()),
        };
        let trusted = match &management.ca {
            Some(path) => certificates(path)?,
            None => Vec::new(),
        };
        // No proxy: this talks to a broker's port of its own network.
        let client = || {
            let client = https::client().timeout(ANSWER_TIME);
            if trusted.is_empty() { client } else { client.tls_certs_merge(trusted.iter().cloned()) }
        };
        let client = https::build(client).map_err(unusable)?;
        Ok(Self { client, base, management })
    }

    /// Whether there was something to delete.
    async fn delete(&self, what: &str, path: &[&str]) -> Result<bool, ProvisionError> {
        Ok(self.call(what, Method::DELETE, path, None).await?.is_some())
    }

    async fn put(&self, what: &str, path: &[&str], body: &Value) -> Result<(), ProvisionError> {
        match self.call(what, Method::PUT, path, Some(body)).await? {
            Some(_) => Ok(()),
            None => Err(ProvisionError::Refused {
                what: what.to_owned(),
                status: 404,
                reason: "not found".to_owned(),
            }),
        }
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        path: &[&str],
    ) -> Result<Option<T>, ProvisionError> {
        let Some(text) = self.call(what, Method::GET, path, None).await? else { return Ok(None) };
        let form = |error: serde_json::Error| ProvisionError::Refused {
            what: what.to_owned(),
            status: 200,
            reason: error.to_string(),
        };
        serde_json::from_str(&text).map(Some).map_err(form)
    }

    /// The answer's text; `None` for what is not there.
    async fn call(
        &self,
        what: &str,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Option<String>, ProvisionError> {
        let mut url = self.base.clone();
        // Pushed as segments, so that a virtual host `/` becomes `%2F`.
        url.path_segments_mut().map_err(|()| ProvisionError::Address)?.pop_if_empty().extend(path);
        let mut request = self
            .client
            .request(method, url)
            .basic_auth(&self.management.username, Some(self.management.password.reveal()));
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = |source: reqwest::Error| {
            let reason = explain(&source.without_url());
            ProvisionError::Unreachable { safe_url: self.base.to_string(), reason }
        };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unreachable)?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ProvisionError::Unauthorized {
                safe_url: self.base.to_string(),
                username: self.management.username.clone(),
            }),
            status if status.is_success() => Ok(Some(text)),
            status => {
                let mut reason: String = text.chars().take(REASON_CHARACTERS).collect();
                if reason.trim().is_empty() {
                    reason = format!(
                        "no reason was given; does {} end as rabbitmq.apiurl has to, with `/api`?",
                        self.base
                    );
                }
                Err(ProvisionError::Refused { what: what.to_owned(), status: status.as_u16(), reason })
            }
        }
    }
}
