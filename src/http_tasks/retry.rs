//! When an attempt is followed by another, and after which wait. Pure: chance and clock are handed in.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Datelike, NaiveDateTime, Utc};
use hyper::header::{DATE, RETRY_AFTER};
use hyper::{HeaderMap, Method, StatusCode};

/// Retries when nobody says how many.
pub const RETRIES: u32 = 3;
/// The longest wait when nobody says how long.
pub const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The wait before the first retry; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Which requests may be sent again after bytes of them have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetryMethods {
    /// All but POST and PATCH. Those are sent again only when no byte had been written, on 429 and 503, or
    /// when they carry an `Idempotency-Key`: a server that breaks off may have done what it was asked for.
    #[default]
    Auto,
    /// All of them.
    Every,
}

/// What is taken off a wait, so that thousands of tasks do not come back in lockstep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Jitter {
    /// Up to a quarter. Never added: the documented wait is the longest.
    #[default]
    Quarter,
    /// Nothing.
    None,
}

/// How failed attempts are repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first; `None` is [`RETRIES`], `Some(0)` none.
    pub retries: Option<u32>,
    /// The longest wait between two attempts; zero is [`LONGEST_WAIT`].
    pub backoff_max: Duration,
    /// Which requests may be sent again.
    pub methods: RetryMethods,
    /// What is taken off the waits.
    pub jitter: Jitter,
    /// The longest wait that a server may ask for with `Retry-After`; `None` is whatever the task's time
    /// allows.
    pub retry_after_max: Option<Duration>,
    /// Whether the last response is a success even when its status asked for another try.
    pub deliver_last: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: None,
            backoff_max: LONGEST_WAIT,
            methods: RetryMethods::Auto,
            jitter: Jitter::Quarter,
            retry_after_max: None,
            deliver_last: false,
        }
    }
}

impl RetryPolicy {
    /// As the service that this engine takes after really does it: no retries unless said, every method, no
    /// jitter.
    pub fn trs_compat() -> Self {
        Self { retries: Some(0), methods: RetryMethods::Every, jitter: Jitter::None, ..Self::default() }
    }

    /// Attempts at most.
    pub fn attempts(&self) -> u32 {
        self.retries.unwrap_or(RETRIES).saturating_add(1)
    }

    /// The wait before retry `k`, from 0. `chance` is between 0 and 1.
    pub fn wait(&self, k: u32, chance: f64) -> Duration {
        let cap = if self.backoff_max.is_zero() { LONGEST_WAIT } else { self.backoff_max };
        let full = 1_u32
            .checked_shl(k)
            .and_then(|factor| FIRST_WAIT.checked_mul(factor))
            .map_or(cap, |wait| wait.min(cap));
        match self.jitter {
            Jitter::None => full,
            Jitter::Quarter => full.mul_f64(1.0 - 0.25 * chance.clamp(0.0, 1.0)),
        }
    }

    /// Whether a request that failed after bytes of it had left may be sent again.
    pub fn may_repeat(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.says_so(headers) || !matches!(*method, Method::POST | Method::PATCH) && is_known(method)
    }

    /// Whether a request may be sent again to a server that has begun to answer it: it has done what it was
    /// asked for, and only its answer was lost. What changes nothing may be asked again.
    pub fn may_ask_again(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.says_so(headers) || is_known(method) && method.is_safe()
    }

    /// Whether once is as good as twice whatever the method.
    fn says_so(&self, headers: &HeaderMap) -> bool {
        self.methods == RetryMethods::Every || headers.contains_key("idempotency-key")
    }
}

/// Methods that this crate knows to mean the same twice; others are treated like POST.
fn is_known(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// Whether a status asks for another try.
pub fn is_transient(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.as_u16() >= 500 && status != StatusCode::NOT_IMPLEMENTED
}

/// Whether the server says that it did nothing, so that even a POST may come again.
pub fn did_nothing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE
}

/// The wait that a server asks for. Whole seconds or a date, on 429 and 503; anything else is as if it were
/// not there. A date counts from the answer's own `Date`, if it has one: that is the clock by which the
/// server has chosen it.
pub fn retry_after(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    if !did_nothing(status) {
        return None;
    }
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let now = DateTime::<Utc>::from(now);
    let from = headers.get(DATE).and_then(|date| http_date(date.to_str().ok()?, now)).unwrap_or(now);
    Some((http_date(text, now)? - from).to_std().unwrap_or(Duration::ZERO))
}

/// A date in any of the three forms of RFC 9110, 5.6.7. The name of the day is not held against the date: it
/// adds nothing.
fn http_date(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let (day, rest) = text.split_once(' ')?;
    let (parsed, short_year) = match day.strip_suffix(',') {
        Some(_) if rest.contains('-') => (NaiveDateTime::parse_from_str(rest, "%d-%b-%y %H:%M:%S GMT"), true),
        Some(_) => (NaiveDateTime::parse_from_str(rest, "%d %b %Y %H:%M:%S GMT"), false),
        None => (NaiveDateTime::parse_from_str(rest.trim_start(), "%b %e %H:%M:%S %Y"), false),
    };
    let date = parsed.ok()?;
    if !short_year {
        return Some(date.and_utc());
    }
    // Of the years that end so, the last that is no more than fifty years ahead.
    let latest = now.year() + 50;
    date.with_year(latest - (latest - date.year()).rem_euclid(100)).map(|date| date.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(policy: &RetryPolicy, retries: u32) -> Vec<u64> {
        (0..retries).map(|k| policy.wait(k, 0.5).as_millis() as u64).collect()
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let policy = RetryPolicy { jitter: Jitter::None, ..RetryPolicy::default() };
        assert_eq!(waits(&policy, 6), [1000, 2000, 4000, 5000, 5000, 5000]);
        assert_eq!(
            waits(&RetryPolicy { backoff_max: Duration::from_millis(100), ..policy.clone() }, 3),
            [100, 100, 100]
        );
        assert_eq!(
            waits(&RetryPolicy { backoff_max: Duration::ZERO, ..policy.clone() }, 4),
            [1000, 2000, 4000, 5000]
        );
        let patient = RetryPolicy { backoff_max: Duration::MAX, ..policy };
        assert_eq!(patient.wait(31, 0.0), Duration::from_secs(1 << 31));
        assert_eq!(patient.wait(32, 0.0), Duration::MAX, "an overflow is the longest wait");
    }

    #[test]
    fn jitter_takes_off_a_quarter_at_most() {
        let policy = RetryPolicy::default();
        for k in 0..6 {
            let full = RetryPolicy { jitter: Jitter::None, ..policy.clone() }.wait(k, 0.0);
            for chance in [0.0, 0.3, 1.0] {
                let wait = policy.wait(k, chance);
                assert!(wait <= full && wait >= full.mul_f64(0.75), "{wait:?} of {full:?}");
            }
        }
    }

    #[test]
    fn attempts_are_retries_and_one() {
        let attempts = |retries| RetryPolicy { retries, ..RetryPolicy::default() }.attempts();
        assert_eq!([None, Some(0), Some(1), Some(3), Some(u32::MAX)].map(attempts), [4, 1, 2, 4, u32::MAX]);
    }

    #[test]
    fn transient_statuses() {
        let transient = |status: u16| is_transient(StatusCode::from_u16(status).expect("a status"));
        let all: Vec<u16> = [200, 301, 404, 429, 500, 501, 503, 505, 599, 600]
            .into_iter()
            .filter(|status| transient(*status))
            .collect();
        assert_eq!(all, [429, 500, 503, 505, 599, 600]);
    }

    #[test]
    fn retry_after_is_whole_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let asked = |status: u16, value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().expect("a value"))]);
            retry_after(StatusCode::from_u16(status).expect("a status"), &headers, now)
                .map(|wait| wait.as_secs())
        };
        for status in [429, 503] {
            assert_eq!(asked(status, "0"), Some(0));
            assert_eq!(asked(status, "2"), Some(2));
            assert_eq!(asked(status, "Sun, 06 Nov 1994 08:49:40 GMT"), Some(3));
            assert_eq!(asked(status, "Sun, 06 Nov 1994 08:49:30 GMT"), Some(0), "a date in the past");
            assert_eq!(asked(status, "99999999999999999999999"), Some(u64::MAX));
            assert_eq!(asked(status, "Sunday, 06-Nov-94 08:49:40 GMT"), Some(3), "as in RFC 850");
            assert_eq!(asked(status, "Sun Nov  6 08:49:40 1994"), Some(3), "as of asctime");
            assert_eq!(asked(status, "Sun Nov 16 08:49:37 1994"), Some(864_000));
            assert_eq!(asked(status, "Mon, 06 Nov 1994 08:49:40 GMT"), Some(3), "the wrong name of the day");
            assert_eq!(asked(status, "Sun, 06 Nov 1994 08:49:60 GMT"), Some(23), "a leap second");
            for ignored in [
                "-1",
                "1.5",
                "",
                "+1",
                "soon",
                "Sun, 06 Nov 1994 08:49:40",
                "Sun, 31 Feb 1994 08:49:40 GMT",
                "Sunday, 06-Nov-94",
            ] {
                assert_eq!(asked(status, ignored), None, "{ignored}");
            }
        }
        assert_eq!(asked(500, "2"), None);
    }

    #[test]
    fn a_date_counts_from_the_date_of_the_answer() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (date, wait) in [
            // The server's clock is a day behind, an hour ahead, or says nothing that can be understood.
            ("Sat, 05 Nov 1994 08:49:37 GMT", 86_403),
            ("Sunday, 06-Nov-94 08:49:30 GMT", 10),
            ("Sun Nov  6 09:49:37 1994", 0),
            ("soon", 3),
        ] {
            let pairs = [(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:40 GMT"), (DATE, date)];
            let headers =
                pairs.into_iter().map(|(name, value)| (name, value.parse().expect("a value"))).collect();
            assert_eq!(
                retry_after(StatusCode::SERVICE_UNAVAILABLE, &headers, now),
                Some(Duration::from_secs(wait)),
                "{date}"
            );
        }
    }

    #[test]
    fn a_year_of_two_digits_is_at_most_fifty_years_ahead() {
        let year = |now: &str, text: &str| {
            let now = now.parse::<DateTime<Utc>>().expect("a time");
            http_date(&format!("Sunday, 06-Nov-{text} 08:49:37 GMT"), now).map(|date| date.year())
        };
        for (now, text, expected) in [
            ("2026-11-28T00:00:00Z", "26", 2026),
            ("2026-11-28T00:00:00Z", "76", 2076),
            ("2026-11-28T00:00:00Z", "77", 1977),
            ("2026-11-28T00:00:00Z", "00", 2000),
            ("2099-11-28T00:00:00Z", "01", 2101),
        ] {
            assert_eq!(year(now, text), Some(expected), "{now} {text}");
        }
    }

    #[test]
    fn a_post_is_repeated_only_when_it_says_so() {
        let policy = RetryPolicy::default();
        let none = HeaderMap::new();
        let key = HeaderMap::from_iter([(
            "idempotency-key".parse().expect("a name"),
            "1".parse().expect("a value"),
        )]);
        assert!(policy.may_repeat(&Method::GET, &none) && policy.may_repeat(&Method::PUT, &none));
        assert!(!policy.may_repeat(&Method::POST, &none) && !policy.may_repeat(&Method::PATCH, &none));
        assert!(policy.may_repeat(&Method::POST, &key));
        assert!(RetryPolicy::trs_compat().may_repeat(&Method::POST, &none));
    }

    #[test]
    fn what_was_answered_is_asked_again_only_when_that_changes_nothing() {
        let policy = RetryPolicy::default();
        let none = HeaderMap::new();
        let key = HeaderMap::from_iter([(
            "idempotency-key".parse().expect("a name"),
            "1".parse().expect("a value"),
        )]);
        for (method, again) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::OPTIONS, true),
            (Method::PUT, false),
            (Method::DELETE, false),
            (Method::POST, false),
            (Method::PATCH, false),
            (Method::from_bytes(b"LOCK").expect("a method"), false),
        ] {
            assert_eq!(policy.may_ask_again(&method, &none), again, "{method}");
            assert!(
                policy.may_ask_again(&method, &key)
                    && RetryPolicy::trs_compat().may_ask_again(&method, &none),
                "{method}"
            );
        }
    }
}
