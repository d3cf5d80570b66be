//! A complete response, owned.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode, Version};
use url::Url;

use super::task::is_credential;
use super::text;

/// A complete response.
#[derive(Clone)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// The version of HTTP.
    pub version: Version,
    /// Its headers, in their order.
    pub headers: HeaderMap,
    /// Its body, inflated when it was compressed at our wish.
    pub body: Bytes,
    /// Whether the body was longer.
    pub truncated: bool,
    /// Where it came from, after redirects.
    pub url: Url,
}

impl Response {
    /// The body as text: in UTF-8, or in the character set that `Content-Type` names if that is US-ASCII,
    /// ISO-8859-1 or windows-1252. None when it is no such text or compressed (`Content-Encoding`); nothing
    /// is ever replaced. A character that was cut at the end is left out.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        text::of(&self.headers, &self.body, self.truncated)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().filter(|(name, _)| !is_credential(name)).collect();
        let mut shown = f.debug_struct("Response");
        shown
            .field("status", &self.status.as_u16())
            .field("version", &self.version)
            .field("url", &self.url.as_str());
        shown
            .field("headers", &headers)
            .field("body_bytes", &self.body.len())
            .field("truncated", &self.truncated)
            .finish()
    }
}
