//! Who starts next. Each host has a lane; the lane with the fewest running tasks is served first, and inside
//! a lane those that come back from a wait, then by priority, then as they came.
//!
//! A lane never has all slots: a host that does not answer cannot keep the others from starting. And it may
//! have a pace: so long between two starts at least, first tries and further ones alike.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::task::Priority;

/// One of so many slots is kept from a lane that would have them all.
const RESERVE: usize = 16;

/// Of tickets `T`; one that waited gets its slot `S` through a channel.
pub(super) struct Schedule<T, S> {
    lanes: HashMap<usize, HostLane<T, S>>,
    by_name: HashMap<Box<str>, usize>,
    /// Lanes that could start something, by running tasks and then by how long ago they were served.
    ready: BTreeSet<(usize, u64, usize)>,
    /// Lanes that could as soon as their pace lets them, by when that is.
    later: BTreeSet<(Instant, usize)>,
    /// The time between two starts of a lane.
    pace: Option<Duration>,
    /// When somebody comes back for those in `later`.
    alarm: Option<Instant>,
    next_lane: usize,
    turn: u64,
    slots: usize,
    per_lane: usize,
    pub(super) running: usize,
    pub(super) queued: usize,
}

struct HostLane<T, S> {
    name: Box<str>,
    returning: VecDeque<oneshot::Sender<S>>,
    new: [VecDeque<T>; 3],
    running: usize,
    /// Its entry in `ready`.
    listed: Option<(usize, u64)>,
    /// When its pace lets it start something again; its place in `later` if it has something to start.
    not_before: Option<Instant>,
    turn: u64,
}

/// What may start.
pub(super) enum Grant<T, S> {
    New(T),
    Return(oneshot::Sender<S>),
}

impl<T, S> Schedule<T, S> {
    pub(super) fn new(slots: usize, per_host: Option<usize>, pace: Option<Duration>) -> Self {
        let share = slots - slots / RESERVE;
        Self {
            lanes: HashMap::new(),
            by_name: HashMap::new(),
            ready: BTreeSet::new(),
            later: BTreeSet::new(),
            pace,
            alarm: None,
            next_lane: 0,
            turn: 0,
            slots,
            per_lane: per_host.map_or(share, |per_host| per_host.min(share)).max(1),
            running: 0,
            queued: 0,
        }
    }

    /// Adds a ticket to the lane of its host.
    pub(super) fn add(&mut self, host: &str, priority: Priority, ticket: T) {
        let lane = match self.by_name.get(host) {
            Some(lane) => *lane,
            None => {
                let lane = self.next_lane;
                self.next_lane += 1;
                self.by_name.insert(host.into(), lane);
                let made = HostLane {
                    name: host.into(),
                    returning: VecDeque::new(),
                    new: Default::default(),
                    running: 0,
                    listed: None,
                    not_before: None,
                    turn: 0,
                };
                self.lanes.insert(lane, made);
                lane
            }
        };
        if let Some(found) = self.lanes.get_mut(&lane) {
            found.new[priority as usize].push_back(ticket);
            self.queued += 1;
        }
        self.list(lane);
    }

    /// Somebody who waited wants a slot again.
    pub(super) fn add_returning(&mut self, lane: usize, waiter: oneshot::Sender<S>) {
        if let Some(found) = self.lanes.get_mut(&lane) {
            found.returning.push_back(waiter);
        }
        self.list(lane);
    }

    /// The next to start, if there is a slot; `start_new` tells whether anything that has not begun may.
    pub(super) fn next(&mut self, start_new: bool) -> Option<(usize, Grant<T, S>)> {
        if self.running >= self.slots {
            return None;
        }
        self.catch_up();
        let mut passed = None;
        for (_, _, id) in &self.ready {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            while let Some(waiter) = lane.returning.pop_front() {
                if !waiter.is_closed() {
                    passed = Some((*id, Grant::Return(waiter)));
                    break;
                }
            }
            if passed.is_none()
                && start_new
                && let Some(ticket) = lane.new.iter_mut().find_map(VecDeque::pop_front)
            {
                self.queued -= 1;
                passed = Some((*id, Grant::New(ticket)));
            }
            if passed.is_some() {
                break;
            }
        }
        let (id, grant) = passed?;
        self.turn += 1;
        self.running += 1;
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.running += 1;
            lane.turn = self.turn;
            lane.not_before = self.pace.map(|pace| Instant::now() + pace);
        }
        self.list(id);
        Some((id, grant))
    }

    /// Makes those ready whose pace lets them start something by now.
    fn catch_up(&mut self) {
        while let Some((at, id)) = self.later.first().copied().filter(|(at, _)| *at <= Instant::now()) {
            self.later.remove(&(at, id));
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.not_before = None;
            }
            self.list(id);
        }
    }

    /// When somebody has to come back because a lane may start something then; told once for each such time.
    pub(super) fn set_alarm(&mut self) -> Option<Instant> {
        // Without a slot it would be in vain, and whoever gives one back looks again.
        let (at, _) = self.later.first().copied().filter(|_| self.running < self.slots)?;
        let earlier = self.alarm.is_none_or(|alarm| at < alarm);
        earlier.then(|| *self.alarm.insert(at))
    }

    /// Somebody has come back who was to at this time.
    pub(super) fn alarm_rang(&mut self, at: Instant) {
        self.alarm = self.alarm.filter(|alarm| *alarm != at);
    }

    /// A slot of a lane is free again.
    pub(super) fn release(&mut self, id: usize) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.running -= 1;
            self.running -= 1;
        }
        self.list(id);
    }

    /// Takes those out that have not started and are meant. Dropping the tickets completes them.
    pub(super) fn remove(&mut self, meant: impl Fn(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        let ids: Vec<usize> = self.lanes.keys().copied().collect();
        for id in ids {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            for queue in &mut lane.new {
                if queue.iter().any(&meant) {
                    let (out, kept): (Vec<_>, VecDeque<_>) = std::mem::take(queue).into_iter().fold(
                        (Vec::new(), VecDeque::new()),
                        |(mut out, mut kept), ticket| {
                            if meant(&ticket) {
                                out.push(ticket)
                            } else {
                                kept.push_back(ticket)
                            }
                            (out, kept)
                        },
                    );
                    *queue = kept;
                    self.queued -= out.len();
                    removed.extend(out);
                }
            }
            self.list(id);
        }
        removed
    }

    /// Puts a lane where it belongs in `ready` or `later`, if it has something to start.
    fn list(&mut self, id: usize) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if let Some((running, turn)) = lane.listed.take() {
            self.ready.remove(&(running, turn, id));
        }
        if let Some(at) = lane.not_before {
            self.later.remove(&(at, id));
        }
        let has_work = !lane.returning.is_empty() || lane.new.iter().any(|queue| !queue.is_empty());
        if !has_work || lane.running >= self.per_lane {
            return;
        }
        if let Some(at) = lane.not_before {
            self.later.insert((at, id));
        } else {
            lane.listed = Some((lane.running, lane.turn));
            self.ready.insert((lane.running, lane.turn, id));
        }
    }

    /// Forgets the lane of a host that nobody uses. Not at once when it is empty: a task in a wait comes back
    /// to it.
    pub(super) fn prune(&mut self, in_use: usize) {
        // Waiting tasks hold no slot but know their lane: only when there is none of them can an empty lane
        // go.
        if in_use == 0 && self.lanes.len() > 1024 {
            let Self { lanes, by_name, ready, .. } = self;
            lanes.retain(|_, lane| {
                let used = lane.running > 0
                    || lane.listed.is_some()
                    || lane.new.iter().any(|queue| !queue.is_empty());
                if !used {
                    by_name.remove(&lane.name);
                }
                used
            });
            ready.retain(|(_, _, id)| lanes.contains_key(id));
        }
    }
}
