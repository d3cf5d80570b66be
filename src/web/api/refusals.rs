//! Requests that were refused because of their sender: each is counted, and some are logged.
//!
//! A wrong secret is a mistake or a guess, and an operator wants to see both. Guesses must not fill the log,
//! so a process writes a bounded number of lines per time span. The metric counts every refusal.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::problem::Problem;
use crate::contract::ProblemCode;
use crate::telemetry::Metrics;

/// Lines in [`SPAN`].
const LINES: u32 = 10;
const SPAN: Duration = Duration::from_secs(10);

/// What a process remembers of the refusals it has logged.
#[derive(Debug, Default)]
pub struct Refusals {
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    begun: Instant,
    lines: u32,
    /// Refusals without a line since the last one.
    unlogged: u64,
}

/// Whether a refusal gets a line.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// It does, and so many before it did not.
    Write { unlogged: u64 },
    /// It does, and is the last for a while.
    Last { unlogged: u64 },
    /// It does not.
    Omit,
}

impl Refusals {
    /// Counts a problem that is about who asks, and logs it if there is room. Answers whether it belongs in
    /// the audit log. `peer` is who is connected; behind a proxy that is the proxy.
    pub fn note(&self, metrics: &Metrics, problem: &Problem, peer: Option<IpAddr>) -> bool {
        let code = problem.code();
        if !matches!(
            code,
            ProblemCode::TokenNeeded
                | ProblemCode::InvalidToken
                | ProblemCode::InsufficientScope
                | ProblemCode::Misdirected
                | ProblemCode::CrossSite
                | ProblemCode::QuotaExceeded
                | ProblemCode::TooManyWrongTokens
                | ProblemCode::InvitationOver
                | ProblemCode::OtherEndpoint
        ) {
            return false;
        }
        metrics.refused.with_label_values(&[code.as_str()]).inc();
        // These have no line of their own. A request without a token tries nothing, and every browser sends
        // some. `quotas` logs the tokens that are over their quota. The wrong secrets of an address were
        // logged before they were too many.
        if matches!(
            code,
            ProblemCode::TokenNeeded | ProblemCode::QuotaExceeded | ProblemCode::TooManyWrongTokens
        ) {
            return code != ProblemCode::TokenNeeded;
        }
        let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_canonical().to_string());
        match self.line(Instant::now()) {
            Line::Write { unlogged } => {
                tracing::warn!(peer, code = code.as_str(), unlogged, "refused: {}", problem.detail())
            }
            Line::Last { unlogged } => tracing::warn!(
                peer,
                code = code.as_str(),
                unlogged,
                "refused: {}; more refusals within {} s are counted in tasker_http_refused_total only",
                problem.detail(),
                SPAN.as_secs()
            ),
            Line::Omit => {}
        }
        true
    }

    fn line(&self, now: Instant) -> Line {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let unlogged = window.as_ref().map_or(0, |window| window.unlogged);
        match window.as_mut() {
            Some(open) if now.saturating_duration_since(open.begun) < SPAN => {
                if open.lines >= LINES {
                    open.unlogged += 1;
                    return Line::Omit;
                }
                open.lines += 1;
                if open.lines == LINES { Line::Last { unlogged } } else { Line::Write { unlogged } }
            }
            _ => {
                *window = Some(Window { begun: now, lines: 1, unlogged: 0 });
                Line::Write { unlogged }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_has_ten_lines_and_its_number() {
        let (refusals, begin) = (Refusals::default(), Instant::now());
        for _ in 1..LINES {
            assert_eq!(refusals.line(begin), Line::Write { unlogged: 0 });
        }
        assert_eq!(refusals.line(begin), Line::Last { unlogged: 0 });
        for _ in 0..1000 {
            assert_eq!(refusals.line(begin + SPAN / 2), Line::Omit);
        }
        assert_eq!(refusals.line(begin + SPAN), Line::Write { unlogged: 1000 });
        assert_eq!(refusals.line(begin + SPAN), Line::Write { unlogged: 0 });
    }
}
