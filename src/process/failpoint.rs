//! Places between two steps where a test can end the process, as `kill -9` would.
//!
//! `TASKER_FAILPOINT=publisher.frozen:kill:3` ends it when it comes by `publisher.frozen` for the third time.
//! The variable is read once, in builds with debug assertions only: in a release build [`Failpoint::reach`]
//! is empty, compiles away, and nothing a server's environment says can end a process here.

/// A place between two steps. [`ALL`] has every one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failpoint {
    name: &'static str,
    after: &'static str,
}

macro_rules! failpoints {
    ($($constant:ident = $name:literal, $after:literal;)*) => {
        $(#[doc = $after] pub const $constant: Failpoint = Failpoint { name: $name, after: $after };)*

        /// Every failpoint of the program.
        pub const ALL: &[Failpoint] = &[$($constant),*];
    };
}

failpoints! {
    ACCEPTOR_RECORDED = "acceptor.recorded", "Tasks are committed; their submitters have no answer yet.";
    PUBLISHER_FROZEN = "publisher.frozen",
        "The expected endpoints of tasks are committed; nothing is published yet.";
    PUBLISHER_CONFIRMED = "publisher.confirmed",
        "The broker has confirmed tasks; the ledger does not say so yet.";
    COLLECTOR_WRITTEN = "collector.written", "Reports are committed; the broker has no acknowledgement yet.";
    DISPATCHER_GIVEN = "dispatcher.given",
        "Tasks of a work queue are committed as given to workers; nothing is published yet.";
    SUCCESSORS_QUEUED = "successors.queued",
        "Successors are committed; the tasks before them still ask for one.";
    SCHEDULER_SUBMITTED = "scheduler.submitted",
        "The task of a schedule is committed; its time is not noted as done yet.";
    ADVANCER_MOVED = "advancer.moved",
        "Requests have moved on, with jobs and tasks; nothing is published yet, nobody is told.";
    ROLLOUT_DECIDED = "rollout.decided", "The changes of a rollout are decided; nothing of them is written.";
    ROLLOUT_COMMITTED = "rollout.committed",
        "A rollout has moved on, with the next batch; nothing is published yet, nobody is told.";
    ROLLOUT_PUBLISHED = "rollout.published", "The broker has the batch of a rollout; nobody is told of the move.";
    ROLLOUT_WITHDRAWN = "rollout.withdrawn",
        "Tasks of a rollout are taken back from endpoints; no endpoint is told.";
    INTAKE_TAKEN = "intake.taken",
        "An endpoint has taken messages from the broker; its journal does not have them yet.";
    INTAKE_JOURNALED = "intake.journaled", "The journal has tasks; the broker has no acknowledgement yet.";
    ORDER_BEGUN = "order.begun",
        "The file of orders says that an order has begun; the journal does not say so yet.";
    PERFORMER_STARTED = "performer.started",
        "The journal says that an attempt begins; the handler does not run yet.";
    PERFORMER_JOURNALED = "performer.journaled",
        "The journal has the outcome of an attempt; no report is sent yet.";
    REPORTER_CONFIRMED = "reporter.confirmed",
        "The broker has confirmed reports; the journal does not say so yet.";
}

impl Failpoint {
    /// Its name in `TASKER_FAILPOINT`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// What has happened when a process comes by, and what has not.
    pub fn after(self) -> &'static str {
        self.after
    }

    /// Ends the process here and now if that was asked for.
    #[inline]
    pub fn reach(self) {
        #[cfg(debug_assertions)]
        armed::reach(self);
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::{ALL, Failpoint};

    struct Armed {
        point: Failpoint,
        left: AtomicU32,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var("TASKER_FAILPOINT").ok()?;
        let armed = parse(&text);
        if armed.is_none() {
            // A test that breaks nothing would prove nothing.
            eprintln!(
                "TASKER_FAILPOINT is `name:kill:times` with the name of a failpoint and times from 1, not `{text}`"
            );
            std::process::exit(64);
        }
        armed
    });

    fn parse(text: &str) -> Option<Armed> {
        let (name, times) = text.split_once(":kill:")?;
        let point = ALL.iter().copied().find(|point| point.name == name)?;
        let left = times.parse().ok().filter(|times| *times > 0)?;
        Some(Armed { point, left: AtomicU32::new(left) })
    }

    pub(super) fn reach(point: Failpoint) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.point == point) else { return };
        if armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Not `abort`: no core dump, no handler, nothing is flushed.
            let _ = kill_process(getpid(), Signal::KILL);
            std::process::abort();
        }
    }

    #[test]
    fn only_complete_points_are_taken() {
        let armed = parse("collector.written:kill:2").expect("complete");
        assert_eq!((armed.point, armed.left.into_inner()), (super::COLLECTOR_WRITTEN, 2));
        for text in [
            "",
            "collector.written",
            "collector.written:kill:0",
            "collector.written:sleep:2",
            "collector:kill:2",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|point| point.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
