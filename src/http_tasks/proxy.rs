//! A way through a proxy; off unless somebody asks for it.

use hyper::header::HeaderValue;
use url::Url;

use super::task::{InvalidTask, take_credentials};

/// Which targets are reached through a proxy.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    http: Option<Via>,
    https: Option<Via>,
    /// Hosts and domains that are reached directly.
    direct: Vec<String>,
}

/// A proxy.
#[derive(Debug, Clone)]
pub(super) struct Via {
    pub(super) host: String,
    pub(super) port: u16,
    /// Marked as sensitive.
    pub(super) credentials: Option<HeaderValue>,
}

impl Proxy {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// One for all targets.
    ///
    /// # Errors
    /// When the URL is not `http` with a host.
    pub fn at(url: &str) -> Result<Self, InvalidTask> {
        let via = via(url)?;
        Ok(Self { http: Some(via.clone()), https: Some(via), direct: Vec::new() })
    }

    /// As `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say now, in capitals or not.
    ///
    /// # Errors
    /// When one of them names something that is no proxy.
    pub fn from_environment() -> Result<Self, InvalidTask> {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidTask> {
        let read = |name: &str| {
            variable(&name.to_lowercase()).or_else(|| variable(name)).filter(|text| !text.is_empty())
        };
        let direct = read("NO_PROXY").unwrap_or_default();
        Ok(Self {
            http: read("HTTP_PROXY").as_deref().map(via).transpose()?,
            https: read("HTTPS_PROXY").as_deref().map(via).transpose()?,
            direct: direct
                .split(',')
                .map(|part| part.trim().trim_start_matches('.').to_ascii_lowercase())
                .filter(|part| !part.is_empty())
                .collect(),
        })
    }

    /// Reaches a host, and all below it, directly.
    #[must_use]
    pub fn except(mut self, host: &str) -> Self {
        self.direct.push(host.to_ascii_lowercase());
        self
    }

    pub(super) const fn is_none(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }

    pub(super) fn way_to(&self, https: bool, host: &str) -> Option<&Via> {
        let direct = |name: &String| {
            name == "*"
                || host == name
                || host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'))
        };
        if self.direct.iter().any(direct) {
            return None;
        }
        if https { self.https.as_ref() } else { self.http.as_ref() }
    }
}

fn via(url: &str) -> Result<Via, InvalidTask> {
    let wrong = |why: &str| InvalidTask { field: "proxy", why: why.to_owned() };
    let mut url = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
    if url.scheme() != "http" {
        return Err(wrong("expected an http URL"));
    }
    let credentials = take_credentials(&mut url);
    let host =
        url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("there is no host"))?.to_owned();
    Ok(Via { host, port: url.port_or_known_default().unwrap_or(80), credentials })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_which_targets_go_where() {
        let given = [
            ("http_proxy", "http://small:1"),
            ("HTTP_PROXY", "http://capital:2"),
            ("HTTPS_PROXY", "http://secure:3"),
            ("NO_PROXY", " .example.org, localhost"),
        ];
        let variable =
            |name: &str| given.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let proxy = Proxy::read(variable).expect("proxies");
        let way = |https, host| proxy.way_to(https, host).map(|via| (via.host.as_str(), via.port));
        assert_eq!((way(false, "bmc1"), way(true, "bmc1")), (Some(("small", 1)), Some(("secure", 3))));
        assert_eq!((way(false, "a.example.org"), way(true, "localhost")), (None, None));
        assert!(Proxy::read(|_| None).expect("none").is_none());
        assert!(Proxy::read(|name| (name == "HTTPS_PROXY").then(|| "socks5://x".to_owned())).is_err());
    }

    #[test]
    fn exceptions_hold_for_what_lies_below() {
        let proxy = Proxy::at("http://user:secret@proxy:3128").expect("a proxy").except("example.org");
        assert!(
            proxy.way_to(true, "bmc.example.org").is_none() && proxy.way_to(true, "example.org").is_none()
        );
        assert!(proxy.way_to(true, "badexample.org").is_some_and(|via| via.port == 3128));
        assert!(!format!("{proxy:?}").contains("secret") && !format!("{proxy:?}").contains("dXNl"));
    }
}
