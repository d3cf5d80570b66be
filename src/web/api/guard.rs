//! Whether a request was meant for this process: by its `Host`, and by what a browser says about the page
//! that sends it.
//!
//! A browser sends requests of any web page to any address, this machine's own included, and a page may have
//! its own name resolved to this machine (DNS rebinding). Such a request comes from a loopback address, so
//! where no token is needed nothing but these headers tells it from one of a program here. It runs before
//! `access` and compares in place: every request passes it.

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::page;
use super::problem::Problem;
use crate::contract::ProblemCode;
use crate::domain::Authority;

pub(super) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names this process is known by.
#[derive(Debug)]
pub struct Hosts {
    port: u16,
    /// The port of a `Host` without one.
    usual_port: u16,
    listed: Vec<String>,
}

/// Whom a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meant {
    /// This process, by a name of its own.
    Us,
    /// Nobody by name, or an address that is not a name: what a load balancer's probe sends.
    Address,
    /// Another name.
    Other,
}

impl Hosts {
    /// Of a process that listens on this port; `listed` are the names beside those of this machine, each with
    /// a port or without.
    pub fn new(port: u16, tls: bool, listed: &[String]) -> Self {
        Self { port, usual_port: if tls { 443 } else { 80 }, listed: listed.to_vec() }
    }

    /// Whether there is a list of names, which then holds for everybody.
    pub const fn is_listed(&self) -> bool {
        !self.listed.is_empty()
    }

    /// Whom a request is for.
    ///
    /// # Errors
    /// When it has several hosts, or comes from a page of another site.
    pub fn check(&self, request: &ServiceRequest) -> Result<Meant, Problem> {
        let headers = request.headers();
        let host = host(headers)?;
        // The host of an absolute target counts, whatever the header says (RFC 9112, 3.2.2), so both have to
        // be one.
        let target = request.uri().authority().map(|authority| authority.as_str());
        let host = match (target, host) {
            (Some(target), Some(host)) if !host.eq_ignore_ascii_case(target.as_bytes()) => {
                return self.refuse_origin(request, None, Meant::Other);
            }
            (Some(target), _) => Some(Authority::parse(target.as_bytes())),
            (None, host) => host.map(Authority::parse),
        };
        let meant = match &host {
            None => Meant::Address,
            Some(Some(authority)) if self.is_ours(authority, self.usual_port) => Meant::Us,
            Some(Some(authority)) if authority.is_address() => Meant::Address,
            Some(_) => Meant::Other,
        };
        self.refuse_origin(request, host.flatten().as_ref(), meant)
    }

    /// What a browser says about the page, if it is one that sends this.
    fn refuse_origin(
        &self,
        request: &ServiceRequest,
        host: Option<&Authority<'_>>,
        meant: Meant,
    ) -> Result<Meant, Problem> {
        let headers = request.headers();
        let foreign = |value: &HeaderValue| {
            [&b"cross-site"[..], b"same-site"]
                .iter()
                .any(|site| value.as_bytes().trim_ascii().eq_ignore_ascii_case(site))
        };
        if headers.get_all(SEC_FETCH_SITE).any(foreign) && !page::is_visit(request) {
            return Err(Problem::new(
                ProblemCode::CrossSite,
                "a web page of another site has sent this (Sec-Fetch-Site)",
            ));
        }
        match headers.get_all(header::ORIGIN).all(|origin| self.is_our_origin(origin.as_bytes(), host)) {
            true => Ok(meant),
            false => Err(Problem::new(
                ProblemCode::CrossSite,
                "a web page of another origin has sent this; `api.hosts` lists the names of this API",
            )),
        }
    }

    fn is_our_origin(&self, origin: &[u8], host: Option<&Authority<'_>>) -> bool {
        let (usual_port, rest) = match (origin.strip_prefix(b"http://"), origin.strip_prefix(b"https://")) {
            (Some(rest), _) => (80, rest),
            (None, Some(rest)) => (443, rest),
            (None, None) => return false,
        };
        let Some(origin) = Authority::parse(rest) else { return false };
        let port = |authority: &Authority<'_>| authority.port.unwrap_or(usual_port);
        self.is_ours(&origin, usual_port)
            || host.is_some_and(|host| {
                host.name.eq_ignore_ascii_case(origin.name) && port(host) == port(&origin)
            })
    }

    fn is_ours(&self, authority: &Authority<'_>, usual_port: u16) -> bool {
        let port = authority.port.unwrap_or(usual_port);
        let listed = |listed: &String| {
            Authority::parse(listed.as_bytes()).is_some_and(|listed| {
                listed.name.eq_ignore_ascii_case(authority.name)
                    && listed.port.is_none_or(|listed| listed == port)
            })
        };
        authority.is_local() && port == self.port || self.listed.iter().any(listed)
    }
}

fn host(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let mut hosts = headers.get_all(header::HOST);
    match (hosts.next(), hosts.next()) {
        (first, None) => Ok(first.map(HeaderValue::as_bytes)),
        // Who reads the first and who reads the last would see two requests.
        (_, Some(_)) => Err(Problem::misdirected("a request has one `Host`, this one has several")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn check(hosts: &Hosts, target: &str, headers: &[(&str, &str)]) -> Result<Meant, u16> {
        let mut request = TestRequest::with_uri(target);
        for (name, value) in headers {
            request = request.append_header((*name, *value));
        }
        hosts
            .check(&request.to_srv_request())
            .map_err(|problem| actix_web::ResponseError::status_code(&problem).as_u16())
    }

    #[test]
    fn names_of_this_machine_with_our_port_are_ours() {
        let hosts = Hosts::new(8888, false, &[]);
        for ours in [
            "localhost:8888", "LocalHost:8888", "localhost.:8888", "127.0.0.1:8888", "127.9.8.7:8888",
            "[::1]:8888", "[0:0::1]:8888",
        ] {
            assert_eq!(check(&hosts, "/", &[("Host", ours)]), Ok(Meant::Us), "{ours}");
        }
        for address in
            ["10.0.0.1:8888", "127.0.0.1:8889", "127.0.0.1", "[::1]", "[fe80::1]:8888", "0.0.0.0:8888"]
        {
            assert_eq!(check(&hosts, "/", &[("Host", address)]), Ok(Meant::Address), "{address}");
        }
        for other in [
            "evil.example:8888",
            "localhost",
            "localhost:8889",
            "localhost.evil.example:8888",
            "127.0.0.1.evil.example:8888",
            "127.1:8888",
            "0x7f000001:8888",
            "2130706433:8888",
            "user@localhost:8888",
            "localhost:8888:8888",
            "localhost:",
            "localhost:99999",
            "",
            "[::1:8888",
            "localhost:8888/",
            "localhost..:8888",
            "localhost :8888",
            "[localhost]:8888",
        ] {
            assert_eq!(check(&hosts, "/", &[("Host", other)]), Ok(Meant::Other), "{other}");
        }
        assert_eq!(check(&hosts, "/", &[]), Ok(Meant::Address));
        assert_eq!(check(&hosts, "/", &[("Host", "localhost:8888"), ("Host", "localhost:8888")]), Err(421));
        assert_eq!(check(&Hosts::new(80, false, &[]), "/", &[("Host", "localhost")]), Ok(Meant::Us));
        assert_eq!(check(&Hosts::new(443, true, &[]), "/", &[("Host", "localhost")]), Ok(Meant::Us));
    }

    #[test]
    fn a_target_with_a_host_counts() {
        let hosts = Hosts::new(8888, false, &[]);
        let table = [
            ("http://localhost:8888/", Some("localhost:8888"), Meant::Us),
            ("http://localhost:8888/", None, Meant::Us),
            ("http://evil.example/", Some("localhost:8888"), Meant::Other),
            ("http://evil.example/", Some("evil.example"), Meant::Other),
            ("http://localhost:8888/", Some("evil.example"), Meant::Other),
        ];
        for (target, host, meant) in table {
            let headers: Vec<_> = host.map(|host| ("Host", host)).into_iter().collect();
            assert_eq!(check(&hosts, target, &headers), Ok(meant), "{target} {host:?}");
        }
    }

    #[test]
    fn listed_names_are_ours() {
        let hosts = Hosts::new(
            8888,
            false,
            &["tasker.example".to_owned(), "other.example:9000".to_owned(), "192.0.2.7".to_owned()],
        );
        for ours in
            ["tasker.example", "Tasker.Example.:1234", "other.example:9000", "192.0.2.7", "localhost:8888"]
        {
            assert_eq!(check(&hosts, "/", &[("Host", ours)]), Ok(Meant::Us), "{ours}");
        }
        for other in ["other.example", "other.example:9001", "a.tasker.example"] {
            assert_eq!(check(&hosts, "/", &[("Host", other)]), Ok(Meant::Other), "{other}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let hosts = Hosts::new(8888, false, &["tasker.example".to_owned()]);
        let with = |host: &str, name: &str, value: &str| {
            check(&hosts, "/", &[("Host", host), (name, value)]).map(|_| ())
        };
        for (host, origin) in [
            ("localhost:8888", "http://localhost:8888"),
            ("localhost:8888", "http://127.0.0.1:8888"),
            ("localhost:8888", "https://tasker.example"),
            ("proxied.example", "https://proxied.example"),
            ("proxied.example:443", "https://proxied.example"),
        ] {
            assert_eq!(with(host, "Origin", origin), Ok(()), "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://evil.example",
            "http://localhost",
            "http://localhost:8889",
            "file://",
            "localhost:8888",
            "http://localhost:8888/",
            "ftp://localhost:8888",
            "http://localhost:8888@evil.example",
            "http://proxied.example",
        ] {
            assert_eq!(with("proxied.example:443", "Origin", origin), Err(403), "{origin}");
        }
        let both = [
            ("Host", "localhost:8888"),
            ("Origin", "http://localhost:8888"),
            ("Origin", "http://evil.example"),
        ];
        assert_eq!(check(&hosts, "/", &both), Err(403));
        for (site, wanted) in
            [("cross-site", Err(403)), ("Same-Site", Err(403)), ("same-origin", Ok(())), ("none", Ok(()))]
        {
            assert_eq!(with("localhost:8888", "Sec-Fetch-Site", site), wanted, "{site}");
        }
    }
}
