//! How many requests wait at the same time: for the end of a task, and for tasks of a worker.
//!
//! A request that waits holds a connection and looks at the ledger once a second. One that finds no place is
//! refused at once and told when to come again, so those of one token cannot keep out the others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::Limits;
use super::problem::Problem;
use crate::contract::ProblemCode;
use crate::domain::{EndpointName, Token};

/// How soon to come again.
const AGAIN_SECS: u32 = 1;

/// The requests of a process that wait.
#[derive(Debug)]
pub struct Waits {
    limits: Limits,
    held: Held,
}

/// How many places each has.
type Held = Arc<Mutex<HashMap<Of, usize>>>;

/// Who shares a number of places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Of {
    /// Reads of all.
    Reads,
    /// Reads with a token.
    ReadsWith(Uuid),
    /// Workers with a token, or without any where none is needed.
    WorkersWith(Option<Uuid>),
    /// A worker.
    Worker(EndpointName),
    /// Streams of events of all.
    Streams,
    /// Streams with a token.
    StreamsWith(Uuid),
}

impl Waits {
    /// With the limits of the interface.
    pub fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), held: Arc::default() }
    }

    /// A place for a read that waits for the end of a task. Where no token is needed, all who read are the
    /// same.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(&self, token: Option<&Token>) -> Result<Place, Problem> {
        let own = token.map(|token| match token.quota.waits {
            // Its sessions share what it may have.
            Some(most) => (Of::ReadsWith(token.given()), most as usize),
            None => (Of::ReadsWith(token.id), self.limits.waits_per_token),
        });
        self.take(own.into_iter().chain([(Of::Reads, self.limits.waits)]))
    }

    /// A place for a worker that waits for tasks.
    ///
    /// # Errors
    /// When there is none.
    pub fn worker(&self, token: Option<Uuid>, worker: &EndpointName) -> Result<Place, Problem> {
        let own = (Of::Worker(worker.clone()), self.limits.waits_per_worker);
        self.take([own, (Of::WorkersWith(token), self.limits.workers_per_token)])
    }

    /// A place for a stream of events. Where no token is needed, all who watch are the same.
    ///
    /// # Errors
    /// When there is none.
    pub fn stream(&self, token: Option<Uuid>) -> Result<Place, Problem> {
        let own = token.map(|token| (Of::StreamsWith(token), self.limits.streams_per_token));
        self.take(own.into_iter().chain([(Of::Streams, self.limits.streams)]))
    }

    /// All of these, or none.
    fn take(&self, wanted: impl IntoIterator<Item = (Of, usize)>) -> Result<Place, Problem> {
        let mut place = Place { held: self.held.clone(), taken: Vec::new() };
        for (of, most) in wanted {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let count = held.get(&of).copied().unwrap_or(0);
            if count >= most {
                // What was taken before goes back with `place`, which takes the lock itself.
                drop(held);
                return Err(full(&of, most));
            }
            held.insert(of.clone(), count + 1);
            place.taken.push(of);
        }
        Ok(place)
    }
}

fn full(of: &Of, most: usize) -> Problem {
    let (code, detail) = match of {
        Of::Reads => (
            ProblemCode::Overloaded,
            format!(
                "{most} requests wait for the end of a task, which is all that this process takes; ask again, or without `wait`"
            ),
        ),
        Of::ReadsWith(_) => (
            ProblemCode::TooManyWaits,
            format!(
                "{most} requests with this token wait for the end of a task, which is all it may have; ask again, or without `wait`"
            ),
        ),
        Of::WorkersWith(_) => (
            ProblemCode::TooManyWaits,
            format!("{most} workers with this token wait for tasks, which is all it may have; ask again"),
        ),
        Of::Streams => (
            ProblemCode::Overloaded,
            format!(
                "{most} streams of events are open, which is all that this process takes; connect again later"
            ),
        ),
        Of::StreamsWith(_) => (
            ProblemCode::TooManyWaits,
            format!("{most} streams of events with this token are open, which is all it may have; close one"),
        ),
        Of::Worker(worker) => (
            ProblemCode::TooManyWaits,
            format!(
                "{most} requests of the worker `{worker}` wait for tasks, which is all it may have; ask again"
            ),
        ),
    };
    Problem::new(code, detail).retry_after(AGAIN_SECS)
}

/// A place, for as long as it is held.
#[derive(Debug)]
pub struct Place {
    held: Held,
    taken: Vec<Of>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for of in self.taken.drain(..) {
            if let Entry::Occupied(mut count) = held.entry(of) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::ResponseError;

    use crate::domain::{Quota, Scope, SecretHash, Timestamp};

    fn waits() -> Waits {
        Waits::new(&Limits {
            waits: 3,
            waits_per_token: 2,
            workers_per_token: 2,
            waits_per_worker: 1,
            ..Limits::default()
        })
    }

    fn token(id: u128, waits: Option<u32>) -> Token {
        Token {
            id: Uuid::from_u128(id),
            name: "ci".parse().expect("a name"),
            hash: SecretHash::of(b"secret"),
            scopes: [Scope::Read].into(),
            task_types: Vec::new(),
            created_at: Timestamp::from_micros(0),
            expires_at: None,
            worker: None,
            parent: None,
            quota: Quota { waits, ..Quota::default() },
        }
    }

    fn status<T>(place: &Result<T, Problem>) -> u16 {
        place.as_ref().map_or_else(|problem| problem.status_code().as_u16(), |_| 200)
    }

    #[test]
    fn a_token_cannot_take_the_places_of_others() {
        let (waits, one, other) = (waits(), token(1, None), token(2, None));
        let (one, other) = (Some(&one), Some(&other));
        let first = [waits.read(one), waits.read(one)];
        assert_eq!(first.each_ref().map(status), [200, 200]);
        assert_eq!(status(&waits.read(one)), 429, "a token has two");
        let third = waits.read(other);
        assert_eq!(status(&third), 200);
        assert_eq!(status(&waits.read(other)), 503, "a process has three");
        assert_eq!(status(&waits.read(None)), 503);
        drop(third);
        assert_eq!(status(&waits.read(None)), 200, "what was refused has taken no place");
        drop(first);
        assert!(waits.held.lock().expect("no panic").is_empty());
    }

    #[test]
    fn a_token_and_its_sessions_share_its_quota() {
        let waits = waits();
        let tight = |id, parent| Token { parent, ..token(id, Some(1)) };
        let (own, session) = (tight(1, None), tight(2, Some(Uuid::from_u128(1))));
        let first = waits.read(Some(&own));
        assert_eq!((status(&first), status(&waits.read(Some(&session)))), (200, 429));
        drop(first);
        assert_eq!(status(&waits.read(Some(&session))), 200);
    }

    #[test]
    fn a_worker_has_places_of_its_own() {
        let (waits, token) = (waits(), Some(Uuid::from_u128(1)));
        let [a, b, c] = ["a", "b", "c"].map(|name| name.parse::<EndpointName>().expect("a name"));
        let first = waits.worker(token, &a);
        assert_eq!(
            (status(&first), status(&waits.worker(token, &a)), status(&waits.worker(None, &a))),
            (200, 429, 429)
        );
        let second = waits.worker(token, &b);
        assert_eq!(
            (status(&second), status(&waits.worker(token, &c)), status(&waits.worker(None, &c))),
            (200, 429, 200)
        );
        drop((first, second));
        assert!(waits.held.lock().expect("no panic").is_empty());
    }
}
