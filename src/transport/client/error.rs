//! Why the API does not answer, or not as it was asked.

use reqwest::StatusCode;

use crate::contract::Problem;

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address of the API cannot be read.
    #[error("`{address}` is not the address of an API: expected `http://host:port` or `https://host`")]
    Address {
        /// What was given.
        address: String,
    },
    /// Nobody answers there.
    #[error(
        "no API answers at {url} ({reason}): start one with `tasker up` or `tasker api`, or name another with --api"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// The connection was lost, or no answer came in time.
    #[error("the API at {url} did not answer: {reason}")]
    Lost {
        /// Where.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// The API says no.
    #[error("{problem}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        problem: Box<Problem>,
    },
    /// The API's certificate is not one that we trust.
    #[error(
        "the certificate of {url} is not trusted ({reason}): pass the certificate of its CA with --ca-file"
    )]
    Untrusted {
        /// Where.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The API does not let us in, or not for this.
    #[error("{problem}; {hint}")]
    Locked {
        /// Its words.
        problem: Box<Problem>,
        /// What to do about it.
        hint: &'static str,
    },
    /// The CA certificates cannot be used.
    #[error("the certificates of --ca-file cannot be used: {0}")]
    Trust(String),
    /// One side speaks TLS and the other does not.
    #[error("{url} does not speak {spoken}: use {other}://")]
    Scheme {
        /// Where.
        url: String,
        /// What we spoke.
        spoken: &'static str,
        /// What to try.
        other: &'static str,
    },
    /// What answers does not speak as our API does.
    #[error("what answers at {url} is not this version's API: {reason}")]
    Foreign {
        /// Where.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// The name means something else in an address.
    #[error("a task with the identifier `{name}` can only be named {how}")]
    Unnameable {
        /// What was given.
        name: String,
        /// What to do instead.
        how: &'static str,
    },
}

impl ClientError {
    /// Whether trying again later, unchanged, can help.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } => true,
            Self::Refused { status, .. } => matches!(*status, 429 | 502 | 503 | 504),
            Self::Address { .. }
            | Self::Untrusted { .. }
            | Self::Locked { .. }
            | Self::Trust(_)
            | Self::Scheme { .. }
            | Self::Foreign { .. }
            | Self::Unnameable { .. } => false,
        }
    }

    /// One word for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::Address { .. } => "address",
            Self::Unreachable { .. } => "unreachable",
            Self::Lost { .. } => "lost",
            Self::Refused { problem, .. } | Self::Locked { problem, .. } => &problem.code,
            Self::Untrusted { .. } => "untrusted",
            Self::Trust(_) => "trust",
            Self::Scheme { .. } => "scheme",
            Self::Foreign { .. } => "foreign",
            Self::Unnameable { .. } => "unnameable",
        }
    }
}

/// What to do about a door that stays shut.
pub(super) const fn hint(status: StatusCode, shown: bool) -> Option<&'static str> {
    match (status, shown) {
        (StatusCode::UNAUTHORIZED, false) => Some(
            "name a file that holds a token with --token-file or TASKER_TOKEN_FILE; `tasker token create` makes one",
        ),
        (StatusCode::UNAUTHORIZED, true) => {
            Some("look with `tasker token list` whether the token is there and its time is not over")
        }
        (StatusCode::FORBIDDEN, _) => Some("`tasker token list` shows what each token is good for"),
        _ => None,
    }
}

/// An address as it may be shown: what stands before `@` may be a password.
pub(super) fn shown(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host).trim_end_matches('/');
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

/// The API's words; those of a proxy before it are not JSON and only their status counts.
pub(super) fn problem(status: StatusCode, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| Problem {
        kind: String::new(),
        title: String::new(),
        status: status.as_u16(),
        code: format!("http_{}", status.as_u16()),
        detail: format!("the answer was HTTP {status}"),
        errors: Vec::new(),
        count: None,
        existing_id: None,
        value: None,
        suggestion: None,
        request_id: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_problems_of_others() {
        let ours = br#"{"type":"about:blank","code":"invalid_body","detail":"the body is not valid","errors":[{"pointer":"/identifier","message":"is missing"}]}"#;
        assert_eq!(problem(StatusCode::UNPROCESSABLE_ENTITY, ours).to_string(), "/identifier: is missing");
        let proxy = problem(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(
            (proxy.code.as_str(), proxy.detail.as_str()),
            ("http_502", "the answer was HTTP 502 Bad Gateway")
        );
    }
}
