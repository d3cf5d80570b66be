//! What was told of each watched thing lately, and how far each listener is. No I/O.
//!
//! One number counts all events of the process, so that one number says how far a listener is with everything
//! that it watches. A listener holds no events: it takes them out of the rings when its client has taken
//! those before. One that is too far behind for the ring gets a snapshot in their place.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::watched::Watched;
use crate::domain::TaskType;

/// How long an event can be caught up with, and how long a thing that nobody listens to any more is still
/// watched for those who return.
pub(super) const KEPT: Duration = Duration::from_secs(60);

/// How one thing stands as a whole. Its text is made for the first who needs it.
pub(super) struct Snapshot {
    text: LazyLock<Arc<str>, Box<dyn FnOnce() -> Arc<str> + Send>>,
    /// About the length of the text.
    size: usize,
}

impl Snapshot {
    pub fn new(size: usize, make: impl FnOnce() -> String + Send + 'static) -> Arc<Self> {
        Arc::new(Self { text: LazyLock::new(Box::new(move || make().into())), size })
    }

    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }
}

/// Whether a watched thing is there.
#[derive(Clone)]
pub(super) enum Standing {
    /// It has not been read yet.
    Unread,
    /// It is.
    There {
        /// The type of a task.
        task_type: Option<TaskType>,
        snapshot: Arc<Snapshot>,
    },
    /// There is no such thing, or not any more.
    Gone,
}

struct Told {
    number: u64,
    at: Instant,
    text: Arc<str>,
}

struct Topic {
    standing: Standing,
    ring: VecDeque<Told>,
    /// Bytes in the ring.
    held: usize,
    /// A listener that has got everything up to this number goes on with the ring; any other one needs the
    /// snapshot.
    floor: u64,
    wake: watch::Sender<()>,
    listeners: usize,
    /// Since when nobody listens.
    idle_since: Instant,
}

/// Everything that is watched.
#[derive(Default)]
pub(super) struct Hub {
    /// The number of the last event.
    number: u64,
    topics: HashMap<Watched, Topic>,
}

/// How far a listener is.
pub(super) struct Place {
    /// The number up to which it has got all events of the things that it knows.
    pub seen: u64,
    /// Whether it knows each thing that it watches. Of one that it does not know it needs the snapshot first.
    pub known: Vec<bool>,
}

/// What a listener gets next.
pub(super) struct Batch {
    pub texts: Vec<Text>,
    /// With all of them it has got everything up to this number.
    pub number: u64,
}

/// A text for listeners, made or still to be made.
pub(super) enum Text {
    Made(Arc<str>),
    Whole(Arc<Snapshot>),
}

impl Hub {
    /// Begins to listen.
    pub fn enter(&mut self, watched: Watched, now: Instant) -> watch::Receiver<()> {
        let topic = self.topics.entry(watched).or_insert_with(|| {
            let (standing, ring, wake) = (Standing::Unread, VecDeque::new(), watch::Sender::new(()));
            Topic { standing, ring, held: 0, floor: 0, wake, listeners: 0, idle_since: now }
        });
        topic.listeners += 1;
        topic.wake.subscribe()
    }

    /// Ends to listen.
    pub fn leave(&mut self, watched: &Watched, now: Instant) {
        if let Some(topic) = self.topics.get_mut(watched) {
            topic.listeners -= 1;
            topic.idle_since = now;
            // There is nothing to come back to, and who asks for ids that are none must not take all room.
            if topic.listeners == 0 && matches!(topic.standing, Standing::Gone) {
                self.topics.remove(watched);
            }
        }
    }

    /// How many things are watched.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether it is watched already.
    pub fn has(&self, watched: &Watched) -> bool {
        self.topics.contains_key(watched)
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// Forgets a thing that nobody has listened to for a while; says whether it did.
    pub fn forget_idle(&mut self, watched: &Watched, now: Instant) -> bool {
        let Some(topic) = self.topics.get(watched) else { return true };
        let idle = topic.listeners == 0 && now.duration_since(topic.idle_since) >= KEPT;
        if idle {
            self.topics.remove(watched);
        }
        idle
    }

    /// Everybody needs the new snapshot: it is the first, or what there was before says nothing of it.
    pub fn begin_anew(&mut self, watched: &Watched, task_type: Option<TaskType>, snapshot: Arc<Snapshot>) {
        self.number += 1;
        let Some(topic) = self.topics.get_mut(watched) else { return };
        (topic.standing, topic.floor, topic.held) = (Standing::There { task_type, snapshot }, self.number, 0);
        topic.ring.clear();
        topic.wake.send_replace(());
    }

    /// Tells a change, and how the thing stands with it.
    pub fn tell(&mut self, watched: &Watched, text: String, whole: Arc<Snapshot>, now: Instant) {
        self.number += 1;
        let Some(topic) = self.topics.get_mut(watched) else { return };
        topic.held += text.len();
        topic.ring.push_back(Told { number: self.number, at: now, text: text.into() });
        // More than the snapshot is worth nothing to those who would have to catch up with it.
        while let Some(first) = topic.ring.front()
            && (topic.held > whole.size || now.duration_since(first.at) > KEPT)
        {
            (topic.floor, topic.held) = (first.number, topic.held - first.text.len());
            topic.ring.pop_front();
        }
        if let Standing::There { snapshot, .. } = &mut topic.standing {
            *snapshot = whole;
        }
        topic.wake.send_replace(());
    }

    /// Tells that a thing is not there, or not any more.
    pub fn end(&mut self, watched: &Watched) {
        self.number += 1;
        let Some(topic) = self.topics.get_mut(watched) else { return };
        (topic.standing, topic.floor, topic.held) = (Standing::Gone, self.number, 0);
        topic.ring.clear();
        topic.wake.send_replace(());
    }

    /// How a thing stands.
    pub fn standing(&self, watched: &Watched) -> Standing {
        self.topics.get(watched).map_or(Standing::Gone, |topic| topic.standing.clone())
    }

    /// What there is for a listener at this place, which it then has got.
    pub fn catch_up(
        &self,
        watched: &[Watched],
        place: &mut Place,
        gone: impl Fn(&Watched) -> String,
    ) -> Option<Batch> {
        let mut texts = Vec::new();
        for (watched, known) in watched.iter().zip(&mut place.known) {
            let Some(topic) = self.topics.get(watched) else { continue };
            let behind = !*known || place.seen < topic.floor;
            match &topic.standing {
                Standing::Unread => {}
                Standing::There { snapshot, .. } if behind => {
                    *known = true;
                    texts.push(Text::Whole(snapshot.clone()));
                }
                Standing::There { .. } => {
                    let new = topic.ring.iter().skip_while(|told| told.number <= place.seen);
                    texts.extend(new.map(|told| Text::Made(told.text.clone())));
                }
                Standing::Gone if behind => {
                    *known = true;
                    texts.push(Text::Made(gone(watched).into()));
                }
                Standing::Gone => {}
            }
        }
        place.seen = self.number;
        (!texts.is_empty()).then_some(Batch { texts, number: self.number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Watched = Watched::Endpoints;
    const B: Watched = Watched::Queues;

    fn whole(text: &'static str) -> Arc<Snapshot> {
        Snapshot::new(8, move || text.to_owned())
    }

    fn place(seen: u64, known: &[bool]) -> Place {
        Place { seen, known: known.to_vec() }
    }

    fn next(hub: &Hub, watched: &[Watched], place: &mut Place) -> (Vec<String>, u64) {
        let batch = hub.catch_up(watched, place, |watched| format!("{watched} gone"));
        let text = |text: &Text| match text {
            Text::Made(text) => text.to_string(),
            Text::Whole(snapshot) => snapshot.text().to_string(),
        };
        batch.map_or((Vec::new(), 0), |batch| (batch.texts.iter().map(text).collect(), batch.number))
    }

    fn hub(now: Instant) -> Hub {
        let mut hub = Hub::default();
        for watched in [A, B, B] {
            hub.enter(watched, now);
        }
        hub
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_gets_a_snapshot_and_then_what_changes() {
        let now = Instant::now();
        let (mut hub, mut new) = (hub(now), place(0, &[false, false]));
        assert_eq!(next(&hub, &[A, B], &mut new).0, [""; 0], "nothing was read yet");
        hub.begin_anew(&A, None, whole("A0"));
        assert_eq!(next(&hub, &[A, B], &mut new), (vec!["A0".to_owned()], 1));
        hub.begin_anew(&B, None, whole("B0"));
        hub.tell(&A, "a1".to_owned(), whole("A1"), now);
        assert_eq!(next(&hub, &[A, B], &mut new), (vec!["a1".to_owned(), "B0".to_owned()], 3));
        assert_eq!(next(&hub, &[A, B], &mut new).0, [""; 0]);
        hub.end(&B);
        assert_eq!(next(&hub, &[A, B], &mut new), (vec!["queues gone".to_owned()], 4));
        assert_eq!(next(&hub, &[A, B], &mut new).0, [""; 0], "once");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_returns_misses_nothing() {
        let now = Instant::now();
        let mut hub = hub(now);
        hub.begin_anew(&A, None, whole("A0"));
        for text in ["a1", "a2", "a3"] {
            hub.tell(&A, text.to_owned(), whole("A"), now);
        }
        assert_eq!(next(&hub, &[A], &mut place(2, &[true])).0, ["a2", "a3"]);
        assert_eq!(next(&hub, &[A], &mut place(4, &[true])).0, [""; 0]);
        assert_eq!(next(&hub, &[A], &mut place(0, &[true])).0, ["A"], "it was away before this was watched");
        hub.begin_anew(&A, None, whole("A9"));
        assert_eq!(next(&hub, &[A], &mut place(4, &[true])).0, ["A9"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_ring_holds_no_more_than_the_snapshot_and_nothing_for_long() {
        let now = Instant::now();
        let mut hub = hub(now);
        hub.begin_anew(&A, None, whole("A0"));
        for text in ["a1", "a2", "a3", "a4", "a5"] {
            hub.tell(&A, text.to_owned(), whole("A5"), now);
        }
        assert_eq!(next(&hub, &[A], &mut place(2, &[true])).0, ["a2", "a3", "a4", "a5"]);
        assert_eq!(next(&hub, &[A], &mut place(1, &[true])).0, ["A5"], "`a1` is not there any more");
        hub.tell(&A, "a6".to_owned(), whole("A6"), now + KEPT + Duration::from_secs(1));
        assert_eq!(next(&hub, &[A], &mut place(5, &[true])).0, ["A6"]);
        assert_eq!(next(&hub, &[A], &mut place(6, &[true])).0, ["a6"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_listens_to_is_forgotten_after_a_while() {
        let now = Instant::now();
        let mut hub = hub(now);
        hub.leave(&A, now);
        hub.leave(&B, now);
        assert!(!hub.forget_idle(&A, now), "one may return");
        assert!(hub.forget_idle(&A, now + KEPT) && !hub.forget_idle(&B, now + KEPT));
        assert!(!hub.has(&A) && hub.has(&B) && hub.len() == 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_is_forgotten_with_the_last_listener() {
        let now = Instant::now();
        let mut hub = hub(now);
        hub.enter(A, now);
        hub.end(&A);
        hub.leave(&A, now);
        assert!(hub.has(&A), "one listens");
        hub.leave(&A, now);
        assert!(!hub.has(&A) && hub.forget_idle(&A, now));
    }
}
