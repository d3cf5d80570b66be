//! The head of a request and its reply, without any HTTP library.

use std::net::IpAddr;

use serde_json::Value;

/// A request without its body.
#[derive(Debug)]
pub(super) struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// As it was sent, without the query.
    pub path: String,
    /// Who says that they send it.
    pub authorization: Option<String>,
    /// Which program sends it.
    pub user_agent: String,
    /// What kind of body it has.
    pub content_type: String,
    /// The page that a browser sends it from.
    pub origin: Option<String>,
    /// The host that it is for, with the port.
    pub host: String,
    /// Where it comes from.
    pub peer: Option<IpAddr>,
    /// Its port there.
    pub peer_port: u16,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Nothing but a status.
    pub const fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// JSON.
    pub fn json(status: u16, value: &Value) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", "application/json".to_owned())],
            body: value.to_string().into_bytes(),
        }
    }

    /// A line for people.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        let headers = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
        Self { status, headers, body: format!("{}\n", text.into()).into_bytes() }
    }

    /// The same with a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
