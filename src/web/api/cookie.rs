//! The cookie of a session: where it is set, and when it counts.
//!
//! Over TLS it is `__Host-tasker`, which a browser takes from this very host alone and sends over TLS alone.
//! On this machine there is mostly no TLS, and there it is plain `tasker`, which counts for nothing
//! elsewhere: others on the way could read it.

use actix_web::dev::RequestHead;
use actix_web::http::header::{self, HeaderMap, HeaderValue};

use super::guard::SEC_FETCH_SITE;
use super::problem::Problem;
use crate::contract::ProblemCode;
use crate::domain::Authority;

const OVER_TLS: &str = "__Host-tasker";
const ON_THIS_MACHINE: &str = "tasker";

/// By which way a browser has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// TLS, ours or that of a proxy in front.
    Tls,
    /// Without TLS, from this machine to one of its own names.
    ThisMachine,
    /// Without TLS, from elsewhere.
    Open,
}

impl Way {
    /// The way of a request. A proxy that ends TLS is told from the page's origin, which no page chooses and
    /// `guard` has compared with the names of this process.
    pub fn of(head: &RequestHead, tls: bool) -> Self {
        let of_tls_page =
            head.headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
        let host = head.headers.get(header::HOST).and_then(|host| Authority::parse(host.as_bytes()));
        let from_here = head.peer_addr.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        match tls || of_tls_page {
            true => Self::Tls,
            false if from_here && host.is_some_and(|host| host.is_local()) => Self::ThisMachine,
            false => Self::Open,
        }
    }

    /// The header that makes a browser keep a secret for so many seconds, or forget it after none. None on an
    /// open way.
    pub fn keep(self, secret: &str, seconds: u64) -> Option<String> {
        let (name, secure) = match self {
            Self::Tls => (OVER_TLS, "; Secure"),
            Self::ThisMachine => (ON_THIS_MACHINE, ""),
            Self::Open => return None,
        };
        Some(format!("{name}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"))
    }
}

/// What the cookies of a request say.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept<'a> {
    /// No session.
    Nothing,
    /// Several sessions: who reads the first and who reads the last would let in two different people.
    Several,
    /// The secret of one.
    Secret(&'a [u8]),
}

/// The session in the cookies of a request.
pub fn kept(head: &RequestHead, tls: bool) -> Kept<'_> {
    let lines = head.headers.get_all(header::COOKIE).map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).filter_map(|pair| {
        let (name, value) = pair.split_at(pair.iter().position(|byte| *byte == b'=')?);
        Some((name.trim_ascii(), value[1..].trim_ascii()))
    });
    let plain = || Way::of(head, tls) == Way::ThisMachine;
    let mut found = pairs
        .filter(|(name, _)| *name == OVER_TLS.as_bytes() || *name == ON_THIS_MACHINE.as_bytes() && plain());
    match (found.next(), found.next()) {
        (None, _) => Kept::Nothing,
        (Some((_, secret)), None) => Kept::Secret(secret),
        (Some(_), Some(_)) => Kept::Several,
    }
}

/// A browser sends its cookie with whatever a page asks it to send. So what changes something needs the
/// browser's word that the page is one of ours: `guard` has refused a foreign `Origin` already.
///
/// # Errors
/// When there is no such word.
pub fn check_write(headers: &HeaderMap) -> Result<(), Problem> {
    let own = headers
        .get(SEC_FETCH_SITE)
        .is_some_and(|site| site.as_bytes().trim_ascii().eq_ignore_ascii_case(b"same-origin"));
    match own || headers.contains_key(header::ORIGIN) {
        true => Ok(()),
        false => Err(Problem::new(
            ProblemCode::CrossSite,
            "a session changes things for pages of this API only: this has neither `Sec-Fetch-Site: same-origin` nor `Origin`; programs send `Authorization: Bearer TOKEN`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn with<T>(peer: &str, headers: &[(&str, &str)], read: impl Fn(&RequestHead) -> T) -> T {
        let mut request = TestRequest::get().peer_addr(peer.parse().expect("an address"));
        for (name, value) in headers {
            request = request.append_header((*name, *value));
        }
        read(request.to_srv_request().request().head())
    }

    #[test]
    fn the_way_is_told_by_what_no_page_chooses() {
        type Headers = &'static [(&'static str, &'static str)];
        let table: &[(&str, Headers, Way)] = &[
            ("127.0.0.1:1", &[("Host", "localhost:8888")], Way::ThisMachine),
            (
                "[::ffff:127.0.0.1]:1",
                &[("Host", "127.0.0.1:8888"), ("Origin", "http://127.0.0.1:8888")],
                Way::ThisMachine,
            ),
            // A proxy on this machine that speaks without TLS to everybody.
            ("127.0.0.1:1", &[("Host", "tasker.example")], Way::Open),
            ("10.0.0.7:1", &[("Host", "localhost:8888")], Way::Open),
            ("127.0.0.1:1", &[], Way::Open),
            ("127.0.0.1:1", &[("Host", "tasker.example"), ("Origin", "https://tasker.example")], Way::Tls),
        ];
        for (peer, headers, way) in table {
            assert_eq!(with(peer, headers, |head| Way::of(head, false)), *way, "{peer} {headers:?}");
        }
        assert_eq!(with("10.0.0.7:1", &[("Host", "tasker.example")], |head| Way::of(head, true)), Way::Tls);
    }

    #[test]
    fn cookies_are_read_in_one_way() {
        let here = |cookies: &[&str]| {
            let headers: Vec<_> = [("Host", "localhost")]
                .into_iter()
                .chain(cookies.iter().map(|line| ("Cookie", *line)))
                .collect();
            with("127.0.0.1:1", &headers, |head| match kept(head, false) {
                Kept::Nothing => "nothing".to_owned(),
                Kept::Several => "several".to_owned(),
                Kept::Secret(secret) => String::from_utf8_lossy(secret).into_owned(),
            })
        };
        assert_eq!(here(&["a=b; tasker=s3cr3t; c"]), "s3cr3t");
        assert_eq!(here(&["__Host-tasker=s3cr3t"]), "s3cr3t");
        assert_eq!(here(&["tasker="]), "");
        for several in
            [&["tasker=a; tasker=b"][..], &["tasker=a", "tasker=a"], &["tasker=a; __Host-tasker=b"]]
        {
            assert_eq!(here(several), "several", "{several:?}");
        }
        for nothing in [&[][..], &["Tasker=a"], &["xtasker=a"], &["tasker"], &["a=tasker=b"]] {
            assert_eq!(here(nothing), "nothing", "{nothing:?}");
        }
        let elsewhere = |line| {
            with("10.0.0.7:1", &[("Host", "localhost"), ("Cookie", line)], |head| {
                kept(head, false) == Kept::Nothing
            })
        };
        assert!(elsewhere("tasker=a") && !elsewhere("__Host-tasker=a"));
    }

    #[test]
    fn a_browser_keeps_it_for_this_host_alone() {
        let tls = "__Host-tasker=s; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure";
        assert_eq!(Way::Tls.keep("s", 60).as_deref(), Some(tls));
        assert_eq!(
            Way::ThisMachine.keep("s", 0).as_deref(),
            Some("tasker=s; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
        );
        assert_eq!(Way::Open.keep("s", 60), None);
    }

    #[test]
    fn a_write_needs_the_word_of_the_browser() {
        let allowed = |headers: &[(&str, &str)]| {
            with("127.0.0.1:1", headers, |head| check_write(&head.headers).is_ok())
        };
        assert!(allowed(&[("Sec-Fetch-Site", "same-origin")]) && allowed(&[("Origin", "http://localhost")]));
        assert!(
            !allowed(&[])
                && !allowed(&[("Sec-Fetch-Site", "none")])
                && !allowed(&[("Referer", "http://localhost/")])
        );
    }
}
