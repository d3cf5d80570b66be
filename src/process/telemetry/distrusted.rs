//! What was not believed in the fleet, added up by endpoint until the audit log has it. Names of endpoints
//! are no labels of metrics: there may be any number of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::{EndpointName, SealFault};

/// Sums that are kept at most. What comes beyond that has one sum of each kind.
const SUMS: usize = 50;

/// What was not believed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distrust {
    /// Messages that an endpoint has refused, as its presence tells.
    Message(SealFault),
    /// Reports and presence of an endpoint that another broker user has sent, and that were refused.
    Sender,
}

/// Sums; those of no endpoint are of several.
type Sums = BTreeMap<(Distrust, Option<EndpointName>), u64>;

/// What was not believed since it was taken last.
#[derive(Debug, Default)]
pub struct Distrusted(Mutex<Sums>);

impl Distrusted {
    /// Adds something.
    pub fn add(&self, what: Distrust, endpoint: &EndpointName, count: u64) {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = (what, Some(endpoint.clone()));
        let key = if sums.len() < SUMS || sums.contains_key(&own) { own } else { (own.0, None) };
        let sum = sums.entry(key).or_default();
        *sum = sum.saturating_add(count);
    }

    /// Takes what was added up.
    pub fn take(&self) -> Sums {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_endpoints_has_few_sums() {
        let distrusted = Distrusted::default();
        for number in 0..1000 {
            let endpoint = format!("web{number}").parse().expect("a name");
            for what in [Distrust::Message(SealFault::Forged), Distrust::Sender] {
                distrusted.add(what, &endpoint, 2);
            }
        }
        let sums = distrusted.take();
        let of = |wanted: Distrust| sums.iter().filter(move |((what, _), _)| *what == wanted);
        for what in [Distrust::Message(SealFault::Forged), Distrust::Sender] {
            assert_eq!(of(what.clone()).map(|(_, count)| count).sum::<u64>(), 2000);
            assert!(of(what).count() <= SUMS);
        }
        assert!(sums.len() <= SUMS + 2 && distrusted.take().is_empty());
    }
}
