//! Connections that wait for their next request. The youngest is used first, so that the others can age and
//! go.
//!
//! Only tasks that succeeded in reading a whole response put one here; an error, a time-out or a cancel drops
//! exactly the connection it concerns. Nothing closes all idle connections but the shutdown.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;
use super::key::Key;

pub(super) struct Limits {
    pub(super) total: usize,
    pub(super) per_key: usize,
    pub(super) age: Option<Duration>,
}

pub(super) struct Pool {
    limits: Limits,
    idle: Mutex<Idle>,
    own: Weak<Self>,
}

#[derive(Default)]
struct Idle {
    by_key: HashMap<Arc<Key>, VecDeque<Resting>>,
    /// The oldest first, over all keys.
    by_age: BTreeMap<u64, Arc<Key>>,
    turn: u64,
    sweeping: bool,
    closed: bool,
}

struct Resting {
    turn: u64,
    since: Instant,
    connection: Connection,
}

impl Pool {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new_cyclic(|own| Self { limits, idle: Mutex::default(), own: own.clone() })
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The youngest connection for a key.
    pub(super) fn take(&self, key: &Key) -> Option<Connection> {
        let mut dead = Vec::new();
        let mut idle = self.idle();
        let found = loop {
            let Some(resting) = idle.by_key.get_mut(key).and_then(VecDeque::pop_back) else { break None };
            idle.by_age.remove(&resting.turn);
            if resting.connection.is_open() {
                break Some(resting.connection);
            }
            dead.push(resting);
        };
        idle.forget_if_empty(key);
        drop(idle);
        found
    }

    /// Keeps a connection, or closes it, or an older one, when there are too many.
    pub(super) fn put(&self, connection: Connection) {
        if !connection.is_open() {
            return;
        }
        // Closed when the lock is released: closing wakes others.
        let mut surplus = Vec::new();
        let mut idle = self.idle();
        if idle.closed || self.limits.total == 0 || self.limits.per_key == 0 {
            drop(idle);
            return;
        }
        let turn = idle.turn;
        idle.turn += 1;
        let key = connection.key.clone();
        let same = idle.by_key.entry(key.clone()).or_default();
        if same.len() >= self.limits.per_key {
            surplus.extend(same.pop_front());
        }
        same.push_back(Resting { turn, since: Instant::now(), connection });
        idle.by_age.insert(turn, key);
        for gone in &surplus {
            idle.by_age.remove(&gone.turn);
        }
        while idle.by_age.len() > self.limits.total {
            surplus.extend(idle.oldest());
        }
        let sweep =
            self.limits.age.is_some() && !std::mem::replace(&mut idle.sweeping, self.limits.age.is_some());
        drop(idle);
        drop(surplus);
        if sweep && let Some(age) = self.limits.age {
            tokio::spawn(sweep_when_old(self.own.clone(), age));
        }
    }

    /// Closes the oldest of all. False when there is none.
    pub(super) fn evict(&self) -> bool {
        let oldest = self.idle().oldest();
        oldest.is_some()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.idle().by_key.values().flatten().filter(|resting| resting.connection.is_open()).count()
    }

    /// Closes all, and whatever comes from now on.
    pub(super) fn close(&self) {
        let mut idle = self.idle();
        idle.closed = true;
        idle.by_age.clear();
        let all = std::mem::take(&mut idle.by_key);
        drop(idle);
        drop(all);
    }
}

impl Idle {
    fn oldest(&mut self) -> Option<Resting> {
        while let Some((turn, key)) = self.by_age.pop_first() {
            let same = self.by_key.get_mut(&key);
            let found = same.and_then(|same| {
                let place = same.iter().position(|resting| resting.turn == turn)?;
                same.remove(place)
            });
            self.forget_if_empty(&key);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn forget_if_empty(&mut self, key: &Key) {
        if self.by_key.get(key).is_some_and(VecDeque::is_empty) {
            self.by_key.remove(key);
        }
    }
}

/// Closes connections when they have been idle for `age`; ends when there is none.
async fn sweep_when_old(pool: Weak<Pool>, age: Duration) {
    loop {
        let next = {
            let Some(pool) = pool.upgrade() else { return };
            let mut old = Vec::new();
            let mut idle = pool.idle();
            let now = Instant::now();
            let next = loop {
                let Some((turn, key)) = idle.by_age.first_key_value() else { break None };
                let since = idle
                    .by_key
                    .get(key)
                    .and_then(|same| same.iter().find(|resting| resting.turn == *turn))
                    .map(|resting| resting.since);
                match since.map(|since| since + age) {
                    Some(due) if due > now => break Some(due),
                    _ => old.extend(idle.oldest()),
                }
                if old.len() > 1024 {
                    break Some(now);
                }
            };
            idle.sweeping = next.is_some();
            drop(idle);
            drop(old);
            next
        };
        match next {
            Some(due) => tokio::time::sleep_until(due).await,
            None => return,
        }
    }
}
