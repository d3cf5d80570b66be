//! A request as it goes out: the task's, or what a redirect made of it.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, LOCATION,
    PROXY_AUTHORIZATION, USER_AGENT,
};
use hyper::http::response::Parts;
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use url::{Position, Url};

use super::TaskError;
use super::connection::Payload;
use super::proxy::Via;
use super::task::{Task, is_credential, take_credentials};

pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) url: Url,
    headers: Arc<HeaderMap>,
    pub(super) body: Bytes,
}

impl Ask {
    pub(super) fn of(task: &Task) -> Result<Self, TaskError> {
        let url = task
            .validate()
            .map_err(|error| TaskError::Invalid { field: error.field, why: error.why })?
            .clone();
        Ok(Self { method: task.method.clone(), url, headers: task.headers.clone(), body: task.body.clone() })
    }

    /// The request for hyper. `bare` leaves out what could carry credentials.
    pub(super) fn request(
        &self,
        service: &str,
        gzip: bool,
        via: Option<&Via>,
        bare: bool,
    ) -> Result<Request<Payload>, TaskError> {
        let start = if via.is_some() { Position::BeforeScheme } else { Position::BeforePath };
        let uri =
            Uri::try_from(&self.url[start..Position::AfterQuery]).map_err(|error| invalid("url", &error))?;
        let mut headers = (*self.headers).clone();
        if bare {
            keep_harmless(&mut headers);
        }
        if !headers.contains_key(HOST) {
            let host = HeaderValue::from_str(&self.url[Position::BeforeHost..Position::AfterPort])
                .map_err(|error| invalid("url", &error))?;
            headers.insert(HOST, host);
        }
        if !headers.contains_key(USER_AGENT) {
            headers.insert(
                USER_AGENT,
                HeaderValue::from_str(service).map_err(|error| invalid("service", &error))?,
            );
        }
        if gzip && !headers.contains_key(ACCEPT_ENCODING) {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(credentials) = via.and_then(|via| via.credentials.clone()) {
            headers.insert(PROXY_AUTHORIZATION, credentials);
        }
        if self.body.is_empty() && matches!(self.method, Method::POST | Method::PUT | Method::PATCH) {
            // These have a body by their meaning: a server may answer 411 to one that says nothing of it (RFC
            // 9110, 8.6). The length of any other body is written by hyper.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let mut request = Request::new(Payload::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Whether the answer is to be inflated: it is compressed, and we asked for that, not the task.
    pub(super) fn inflates(&self, gzip: bool, headers: &HeaderMap) -> bool {
        let coded = || {
            headers
                .get(CONTENT_ENCODING)
                .is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"gzip"))
        };
        gzip && !self.headers.contains_key(ACCEPT_ENCODING) && coded()
    }

    /// Where a response leads to, if it does. A redirect without a place is a response like any other.
    pub(super) fn redirect(head: &Parts) -> Option<&HeaderValue> {
        matches!(head.status.as_u16(), 301 | 302 | 303 | 307 | 308)
            .then(|| head.headers.get(LOCATION))
            .flatten()
    }

    /// The request that a redirect asks for, or why it is not followed.
    pub(super) fn follow(&self, status: StatusCode, location: &HeaderValue) -> Result<Self, String> {
        // Servers write letters of all languages unescaped; the URL escapes them.
        let text = str::from_utf8(location.as_bytes()).map_err(|_| "its place cannot be read".to_owned())?;
        let mut url = self.url.join(text).map_err(|error| format!("its place cannot be read: {error}"))?;
        // Whoever redirects does not choose our credentials.
        _ = take_credentials(&mut url);
        url.set_fragment(None);
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err("it leads out of HTTP".to_owned());
        }
        if self.url.scheme() == "https" && url.scheme() == "http" {
            return Err("it leads from https to http".to_owned());
        }
        let mut headers = self.headers.clone();
        if (url.scheme(), url.host_str(), url.port_or_known_default())
            != (self.url.scheme(), self.url.host_str(), self.url.port_or_known_default())
        {
            keep_harmless(Arc::make_mut(&mut headers));
        }
        let (method, body) = match status.as_u16() {
            301..=303 if !matches!(self.method, Method::GET | Method::HEAD) => {
                let headers = Arc::make_mut(&mut headers);
                let of_body: Vec<_> =
                    headers.keys().filter(|name| name.as_str().starts_with("content-")).cloned().collect();
                for name in of_body {
                    headers.remove(name);
                }
                (Method::GET, Bytes::new())
            }
            _ => (self.method.clone(), self.body.clone()),
        };
        Ok(Self { method, url, headers, body })
    }
}

/// Leaves out all that is not known to be harmless in the hands of a server that the task was not meant for:
/// a credential can have any name.
fn keep_harmless(headers: &mut HeaderMap) {
    let others: Vec<_> = headers.keys().filter(|name| !is_harmless(name)).cloned().collect();
    for name in others {
        headers.remove(name);
    }
}

/// Headers that say what a request is about or how its answer may look, and nothing of who sends it.
fn is_harmless(name: &HeaderName) -> bool {
    let text = name.as_str();
    let known = matches!(
        text,
        "accept"
            | "user-agent"
            | "cache-control"
            | "pragma"
            | "range"
            | "prefer"
            | "odata-version"
            | "odata-maxversion"
    );
    (known || text.starts_with("accept-") || text.starts_with("content-")) && !is_credential(name)
}

fn invalid(field: &'static str, error: &dyn std::error::Error) -> TaskError {
    TaskError::Invalid { field, why: error.to_string() }
}
