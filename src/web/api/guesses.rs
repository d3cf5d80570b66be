//! How often an address has shown wrong secrets: tokens, or tickets of invitations.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::problem::Problem;
use super::quotas::seconds;
use crate::contract::ProblemCode;

/// The span in which guesses are counted.
const SPAN: Duration = Duration::from_secs(60);
/// Addresses that are counted in a span; those of a larger attack are not kept apart any more.
const ADDRESSES: usize = 10_000;

/// Wrong secrets of one kind, by address.
#[derive(Debug)]
pub struct Guesses {
    /// What the secrets are called.
    secrets: &'static str,
    /// As many as an address may show in [`SPAN`].
    most: u32,
    begun: Instant,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    begun: Duration,
    by_address: HashMap<IpAddr, u32>,
}

impl Guesses {
    /// None yet; an address may show so many in a minute.
    pub fn new(secrets: &'static str, most: u32) -> Self {
        Self { secrets, most, begun: Instant::now(), seen: Mutex::default() }
    }

    /// Whether an address may show another secret that may be wrong.
    ///
    /// # Errors
    /// When it has shown too many.
    pub fn may_guess(&self, peer: Option<IpAddr>) -> Result<(), Problem> {
        let now = self.begun.elapsed();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let over = now.saturating_sub(seen.begun) >= SPAN;
        let count = peer.and_then(|peer| seen.by_address.get(&network(peer))).copied().unwrap_or(0);
        if over || count < self.most {
            return Ok(());
        }
        let Self { most, secrets, .. } = self;
        let detail = format!("{most} wrong {secrets} came from this address within a minute; wait");
        Err(Problem::new(ProblemCode::TooManyWrongTokens, detail)
            .retry_after(seconds(SPAN.saturating_sub(now.saturating_sub(seen.begun)))))
    }

    /// Counts a wrong secret.
    pub fn was_wrong(&self, peer: Option<IpAddr>) {
        let Some(peer) = peer.map(network) else { return };
        let now = self.begun.elapsed();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(seen.begun) >= SPAN {
            *seen = Seen { begun: now, by_address: HashMap::new() };
        }
        if seen.by_address.len() < ADDRESSES || seen.by_address.contains_key(&peer) {
            *seen.by_address.entry(peer).or_default() += 1;
        }
    }
}

/// What one customer of a provider has: of IPv6 a network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_counted_with_its_network() {
        let guesses = Guesses::new("tokens", 2);
        let [one, same, other] =
            ["2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"].map(|text| text.parse().ok());
        guesses.was_wrong(one);
        assert!(guesses.may_guess(same).is_ok());
        guesses.was_wrong(same);
        assert!(guesses.may_guess(one).is_err() && guesses.may_guess(same).is_err());
        assert!(guesses.may_guess(other).is_ok() && guesses.may_guess(None).is_ok());
        let (mapped, plain) = ("::ffff:192.0.2.1".parse().ok(), "192.0.2.1".parse().ok());
        guesses.was_wrong(mapped);
        guesses.was_wrong(plain);
        assert!(guesses.may_guess(plain).is_err());
    }

    #[test]
    fn a_flood_of_addresses_takes_a_bounded_room() {
        let guesses = Guesses::new("tokens", 1);
        for number in 0..2 * ADDRESSES as u32 {
            guesses.was_wrong(Some(std::net::Ipv4Addr::from_bits(number).into()));
        }
        assert_eq!(guesses.seen.lock().expect("no panic").by_address.len(), ADDRESSES);
    }
}
