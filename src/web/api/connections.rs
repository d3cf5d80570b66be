//! How many connections are open, and which of them may stay open without a request.
//!
//! There are fewer files than clients that like to keep a connection. So where more than half of the
//! connections that this process may have are open, or many from one address, each is closed after its
//! answer: none lies idle, and all get their turn. One that sends no request is closed by
//! [`super::Limits::head_timeout`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files for everything that is not a connection of a client: database, broker, logs.
const SPARE: usize = 256;

/// The connections of a process.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    /// More than so many are not kept.
    keep: usize,
    keep_per_address: usize,
}

impl Connections {
    /// Of a process that may have so many, and keep so many of each address.
    pub fn new(most: usize, keep_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            by_address: Mutex::default(),
            keep: most / 2,
            keep_per_address,
        })
    }

    /// Counts one that was accepted from there.
    pub fn opened(self: &Arc<Self>, peer: Option<SocketAddr>) -> Connection {
        self.open.fetch_add(1, Relaxed);
        Connection { all: self.clone(), address: OnceLock::new(), peer, asked: AtomicBool::new(false) }
    }
}

/// A connection, for as long as it is open.
#[derive(Debug)]
pub struct Connection {
    all: Arc<Connections>,
    /// Told by its first request: what is accepted with TLS has no address before.
    address: OnceLock<IpAddr>,
    peer: Option<SocketAddr>,
    /// Whether a request has come.
    asked: AtomicBool,
}

impl Connection {
    /// Whether it may stay open once it is answered.
    pub fn may_stay(&self, address: Option<IpAddr>) -> bool {
        self.asked.store(true, Relaxed);
        if self.all.open.load(Relaxed) > self.all.keep {
            return false;
        }
        let Some(address) = address else { return true };
        let mut by_address = self.all.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let open = by_address.entry(address).or_default();
        if self.address.set(address).is_ok() {
            *open += 1;
        }
        *open <= self.all.keep_per_address
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.open.fetch_sub(1, Relaxed);
        // Scanners and probes do it all day, so that it is nothing for the usual log; the server library
        // would log each as an error.
        if let (Some(peer), false) = (self.peer, self.asked.load(Relaxed)) {
            tracing::debug!(%peer, "a connection ended without a request: nothing was sent, or not HTTP (TLS to a port without, perhaps)");
        }
        let Some(address) = self.address.get() else { return };
        let mut by_address = self.all.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut open) = by_address.entry(*address) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

/// Connections that each of so many threads may have: as many as wanted, fewer where the system lets this
/// process open fewer files. Raises its limit first, as far as that goes.
pub fn per_thread(wanted: usize, threads: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    let files = limit.current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let most = within(files, wanted, threads);
    if most < wanted {
        tracing::warn!(
            files,
            connections = most * threads,
            "the limit on open files allows few connections: raise it (LimitNOFILE, ulimit -n)"
        );
    }
    most
}

/// What is spared is half of the files where there are few.
fn within(files: usize, wanted: usize, threads: usize) -> usize {
    ((files - SPARE.min(files / 2)) / threads.max(1)).clamp(1, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_stay_while_there_are_few() {
        let all = Connections::new(8, 2);
        let (one, other) = ("127.0.0.1".parse().ok(), "127.0.0.2".parse().ok());
        let mut open: Vec<_> = (0..3).map(|_| all.opened(None)).collect();
        assert_eq!(
            open.iter().map(|connection| connection.may_stay(one)).collect::<Vec<_>>(),
            [true, true, false]
        );
        assert!(!open[0].may_stay(one), "three are too many for each of them, and each is counted once");
        let fourth = all.opened(None);
        assert!(fourth.may_stay(other) && fourth.may_stay(other), "another address has a number of its own");
        let fifth = all.opened(None);
        assert!(!fifth.may_stay(other) && !fourth.may_stay(other), "more than half are open");
        drop((fourth, fifth));
        open.truncate(2);
        assert!(open[0].may_stay(one));
        drop(open);
        assert!(all.by_address.lock().expect("no panic").is_empty() && all.open.load(Relaxed) == 0);
    }

    #[test]
    fn files_bound_connections() {
        assert_eq!(within(1 << 20, 8192, 2), 8192);
        assert_eq!(within(1024, 8192, 2), 384);
        assert_eq!(within(256, 8192, 2), 64);
        assert_eq!(within(usize::MAX, 8192, 64), 8192);
        assert_eq!((within(2, 8192, 64), within(0, 8192, 1)), (1, 1));
    }
}
