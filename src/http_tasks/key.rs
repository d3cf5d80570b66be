//! What a connection is good for.

use url::Url;

/// What has to be the same for a connection to serve a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// A connection to a server that did not have to prove who it is never serves a task for which it has to.
    pub(super) verify: bool,
    /// Which [`super::tls::TlsContext`] made it; 0 without TLS.
    pub(super) generation: u64,
}

impl Key {
    pub(super) fn of(url: &Url, verify: bool, generation: u64) -> Self {
        let https = url.scheme() == "https";
        Self {
            https,
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default().unwrap_or_default(),
            verify: verify || !https,
            generation: if https { generation } else { 0 },
        }
    }

    /// Whether it is the key that [`Self::of`] would make; without making it.
    pub(super) fn fits(&self, url: &Url, verify: bool, generation: u64) -> bool {
        let https = url.scheme() == "https";
        self.https == https
            && url.port_or_known_default() == Some(self.port)
            && url.host_str() == Some(self.host.as_str())
            && (!https || self.verify == verify && self.generation == generation)
    }

    pub(super) fn target(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}
