//! Task queues that cost their connection when they are asked for.
//!
//! The broker's word about a queue ends a channel. But some defects of a queue - its process is gone, its
//! record is broken - end the whole connection (541 and others from 500 on), or are not answered at all.
//! Queues are asked for many at a time, and which of them it was is not said. So those that were under way
//! are asked for one by one on the next connection, after all others; the one that ends that connection too
//! is set aside. It is tried again with a delay that grows, since each try costs the connection of all others
//! for a moment.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;
use tracing::warn;

use crate::backoff::Backoff;
use crate::domain::{EndpointName, TaskType};

/// When a queue that has cost a connection is asked for again.
const RETRY: Backoff =
    Backoff { first: std::time::Duration::from_secs(2), max: std::time::Duration::from_secs(600) };

/// A task queue: whose, and for which type.
pub(super) type Subscription = (TaskType, EndpointName);

/// What one consumer knows of them, from one connection to the next.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Asked for now, and not answered.
    asked: BTreeSet<Subscription>,
    /// Under way when a connection ended.
    suspects: BTreeSet<Subscription>,
    blamed: BTreeMap<Subscription, Blamed>,
}

/// A queue that has cost a connection.
#[derive(Debug, Clone)]
pub(super) struct Blamed {
    pub(super) reason: String,
    pub(super) failures: u32,
    pub(super) retry_at: Instant,
}

impl Aside {
    /// Notes what is asked for.
    pub(super) fn ask<'a>(&mut self, subscriptions: impl IntoIterator<Item = &'a Subscription>) {
        self.asked.extend(subscriptions.into_iter().cloned());
    }

    /// Notes that the broker has answered, whatever it said, and the connection lives.
    pub(super) fn answered(&mut self, subscription: &Subscription) {
        self.asked.remove(subscription);
        self.suspects.remove(subscription);
        self.blamed.remove(subscription);
    }

    /// Notes that the connection ended: for this reason, if that may be about what was asked for.
    pub(super) fn ended(&mut self, reason: Option<String>) {
        let mut asked = std::mem::take(&mut self.asked);
        let Some(reason) = reason else { return };
        if asked.len() > 1 {
            self.suspects.append(&mut asked);
        } else if let Some(subscription) = asked.pop_first() {
            let failures =
                self.blamed.get(&subscription).map_or(0, |blamed| blamed.failures).saturating_add(1);
            let wait = RETRY.jittered(failures);
            let (task_type, endpoint) = &subscription;
            warn!(
                %task_type, %endpoint, failures,
                "asking for the queue of endpoint `{endpoint}` for `{task_type}` has ended the connection; it is asked for again in {wait:.0?}: {reason}"
            );
            self.suspects.remove(&subscription);
            self.blamed.insert(subscription, Blamed { reason, failures, retry_at: Instant::now() + wait });
        }
    }

    /// Whether a queue is to be asked for alone, and last.
    pub(super) fn is_suspect(&self, subscription: &Subscription) -> bool {
        self.suspects.contains(subscription) || self.blamed.contains_key(subscription)
    }

    /// What keeps a queue from being asked for now.
    pub(super) fn not_yet(&self, subscription: &Subscription) -> Option<&Blamed> {
        self.blamed.get(subscription).filter(|blamed| blamed.retry_at > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Subscription {
        (name.parse().expect("a type"), "a".parse().expect("an endpoint"))
    }

    #[tokio::test]
    async fn who_costs_a_connection_alone_is_set_aside() {
        let (mut aside, [bad, good, other]) = (Aside::default(), ["bad", "good", "other"].map(of));
        aside.ask([&bad, &good, &other]);
        aside.answered(&other);
        aside.ended(Some("541".into()));
        assert_eq!([&bad, &good, &other].map(|one| aside.is_suspect(one)), [true, true, false]);
        assert!(aside.not_yet(&bad).is_none(), "nobody knows yet which it was");
        aside.ask([&good]);
        aside.answered(&good);
        aside.ask([&bad]);
        aside.ended(Some("541".into()));
        let first = aside.not_yet(&bad).expect("it is to blame").clone();
        assert_eq!((first.failures, first.reason.as_str(), aside.is_suspect(&good)), (1, "541", false));
        aside.ask([&bad]);
        aside.ended(Some("541".into()));
        assert_eq!(aside.not_yet(&bad).map(|blamed| blamed.failures), Some(2));
        aside.ask([&bad]);
        aside.answered(&bad);
        assert!(!aside.is_suspect(&bad));
    }

    #[tokio::test]
    async fn an_end_for_another_reason_blames_nobody() {
        let (mut aside, [bad, good]) = (Aside::default(), ["bad", "good"].map(of));
        aside.ask([&bad, &good]);
        aside.ended(None);
        aside.ask([&bad]);
        aside.ended(None);
        aside.ended(Some("541".into()));
        assert!(!aside.is_suspect(&bad) && !aside.is_suspect(&good), "nothing was asked for any more");
    }
}
