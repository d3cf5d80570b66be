//! Why the API does not answer, or not as it was asked.

use reqwest::StatusCode;

use crate::contract::{Problem, ProblemCode};
use crate::domain::RESERVED_TASK_TYPES;

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
    /// Something else listens there: a web server, or a server that does not speak HTTP.
    #[error("{url} answers, but it is not a tasker API ({seen}): check host, port and path")]
    NotTasker {
        /// Where.
        url: String,
        /// What was seen.
        seen: String,
    },
    /// The API does not have what a newer one has.
    #[error(
        "the API at {url} does not offer {path} as this program asks for it: it is of an older version, or --api names a wrong path. Update its API processes as docs/upgrade.md says, or use the `tasker` of its version (it says: {problem})"
    )]
    Older {
        /// Where.
        url: String,
        /// The path that was asked for.
        path: String,
        /// What the API says.
        problem: Box<Problem>,
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
            | Self::NotTasker { .. }
            | Self::Older { .. }
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
            Self::Foreign { .. } | Self::NotTasker { .. } => "foreign",
            Self::Older { .. } => "older",
            Self::Unnameable { .. } => "unnameable",
        }
    }
}

/// Whether a refusal says that the API does not know the path: `first` is what the path begins with. An API that
/// does not have `/audit` takes it for the list of a task type; of names of other things in a path it says the
/// same.
pub(super) fn knows_no_path(status: StatusCode, problem: &Problem, first: &str) -> bool {
    let is = |code: ProblemCode| problem.code == code.as_str();
    let names_it = match &problem.value {
        Some(value) => value == first,
        // 0.1.0 has its words alone.
        None => problem.detail.contains(first),
    };
    match status {
        StatusCode::NOT_FOUND => {
            let taken_for_a_type =
                is(ProblemCode::UnknownTaskType) && RESERVED_TASK_TYPES.contains(&first) && names_it;
            is(ProblemCode::NotFound) || taken_for_a_type
        }
        StatusCode::METHOD_NOT_ALLOWED => is(ProblemCode::MethodNotAllowed),
        _ => false,
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

/// Whether a refusal is that of another server: an API and its older versions send problem documents with such a
/// status. With others a proxy may have answered in the place of the API.
pub(super) fn is_of_another(status: StatusCode, problem: &Problem) -> bool {
    let of_api_only = [
        StatusCode::BAD_REQUEST,
        StatusCode::NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::NOT_IMPLEMENTED,
    ];
    problem.code.starts_with("http_") && (status.is_redirection() || of_api_only.contains(&status))
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
    fn an_older_api_is_known_by_its_refusal() {
        let refusal = |status, json: &str| (status, problem(status, json.as_bytes()));
        let (no_path, no_type) = (StatusCode::NOT_FOUND, "unknown_task_type");
        let of_type = |detail: &str, value: &str| {
            let value = if value.is_empty() { String::new() } else { format!(r#","value":"{value}""#) };
            refusal(
                no_path,
                &format!(
                    r#"{{"type":"about:blank","code":"{no_type}","detail":"{detail}","errors":[]{value}}}"#
                ),
            )
        };
        let plain = |status, code: &str| {
            refusal(status, &format!(r#"{{"type":"about:blank","code":"{code}","detail":"","errors":[]}}"#))
        };
        for ((status, problem), first, wanted) in [
            (plain(no_path, "not_found"), "worker", true),
            (plain(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"), "rollouts", true),
            (of_type("unknown task type", "audit"), "audit", true),
            (of_type("there is no task type `audit`", ""), "audit", true),
            (of_type("unknown work queue", "biulds"), "queues", false),
            (of_type("there is no task type `biulds`", ""), "queues", false),
            (of_type("unknown task type", "wroker"), "wroker", false),
            (plain(no_path, "unknown_request"), "requests", false),
            (plain(no_path, "http_404"), "audit", false),
        ] {
            assert_eq!(knows_no_path(status, &problem, first), wanted, "{problem:?} {first}");
        }
    }

    #[test]
    fn reads_problems_of_others() {
        let ours = br#"{"type":"about:blank","code":"invalid_body","detail":"the body is not valid","errors":[{"pointer":"/identifier","message":"is missing"}]}"#;
        assert_eq!(problem(StatusCode::UNPROCESSABLE_ENTITY, ours).to_string(), "/identifier: is missing");
        let proxy = problem(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(
            (proxy.code.as_str(), proxy.detail.as_str()),
            ("http_502", "the answer was HTTP 502 Bad Gateway")
        );
        assert!(!is_of_another(StatusCode::BAD_GATEWAY, &proxy));
        let web = problem(StatusCode::NOT_FOUND, b"<html>");
        assert!(is_of_another(StatusCode::NOT_FOUND, &web));
        let api = br#"{"type":"about:blank","code":"unknown_task","detail":"","errors":[]}"#;
        assert!(!is_of_another(StatusCode::NOT_FOUND, &problem(StatusCode::NOT_FOUND, api)));
    }
}
