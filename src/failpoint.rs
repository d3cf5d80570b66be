//! Places between two steps where a test can end the process, as `kill -9` would.
//!
//! `TASKER_FAILPOINT=publisher.frozen:kill:3` ends it when it comes by `publisher.frozen` for the third time. The variable
//! is read once, in builds with debug assertions only: in a release build [`reach`] is empty, compiles away, and nothing a
//! server's environment says can end a process here.

/// Ends the process here and now if that was asked for.
#[inline]
pub fn reach(name: &str) {
    #[cfg(debug_assertions)]
    armed::reach(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    struct Point {
        name: String,
        left: AtomicU32,
    }

    static POINT: LazyLock<Option<Point>> = LazyLock::new(|| {
        let text = std::env::var("TASKER_FAILPOINT").ok()?;
        let point = parse(&text);
        if point.is_none() {
            // A test that breaks nothing would prove nothing.
            eprintln!("TASKER_FAILPOINT is `name:kill:times` with times from 1, not `{text}`");
            std::process::exit(64);
        }
        point
    });

    fn parse(text: &str) -> Option<Point> {
        let (name, times) = text.split_once(":kill:")?;
        let left = times.parse().ok().filter(|times| *times > 0)?;
        Some(Point { name: name.to_owned(), left: AtomicU32::new(left) })
    }

    pub(super) fn reach(name: &str) {
        let Some(point) = POINT.as_ref().filter(|point| point.name == name) else { return };
        if point.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Not `abort`: no core dump, no handler, nothing is flushed.
            let _ = kill_process(getpid(), Signal::KILL);
            std::process::abort();
        }
    }

    #[test]
    fn only_complete_points_are_taken() {
        assert!(parse("collector.written:kill:2").is_some_and(|point| point.name == "collector.written" && point.left.into_inner() == 2));
        for text in ["", "collector.written", "collector.written:kill:0", "collector.written:sleep:2", "a:kill:x"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
