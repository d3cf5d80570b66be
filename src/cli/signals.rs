//! When a person, a terminal or a supervisor wants the process to end.
//!
//! A server watches handlers that would go on unwatched if it was just gone, so no signal that can be caught
//! ends it at once - but for the second demand of somebody who cannot wait, and then the handlers are ended
//! too.

use std::fs;
use std::io;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use futures::future::select_all;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::exit::Code;
use crate::endpoint::{end_all_executables, reap_orphans};

/// What a signal means to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// To stop; and when it was said before, to stop at once.
    Demand,
    /// To stop. A terminal that closes says so more than once, and supervisors say it right after a demand.
    Hint,
    /// Nothing: it would end the process by default, but nobody says "stop" with it.
    Noise,
}

/// The signals that end a process unless it says otherwise; but for KILL, for those that tell of a defect in
/// it, and for PIPE, which Rust ignores.
const SIGNALS: [(&str, Signal, Meaning); 14] = [
    ("TERM", Signal::TERM, Meaning::Demand),
    ("INT", Signal::INT, Meaning::Demand),
    ("QUIT", Signal::QUIT, Meaning::Demand),
    ("HUP", Signal::HUP, Meaning::Hint),
    ("PWR", Signal::POWER, Meaning::Hint),
    ("XCPU", Signal::XCPU, Meaning::Hint),
    // A file has become too long: the write that did it fails, which is an error like others.
    ("XFSZ", Signal::XFSZ, Meaning::Noise),
    ("USR1", Signal::USR1, Meaning::Noise),
    ("USR2", Signal::USR2, Meaning::Noise),
    ("ALRM", Signal::ALARM, Meaning::Noise),
    ("VTALRM", Signal::VTALARM, Meaning::Noise),
    ("PROF", Signal::PROF, Meaning::Noise),
    ("IO", Signal::IO, Meaning::Noise),
    ("STKFLT", Signal::STKFLT, Meaning::Noise),
];

/// The numbers of real-time signals that programs may use.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// What is to be done after a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    Stop,
    StopAtOnce,
    Nothing,
}

/// What was heard up to now.
#[derive(Debug, Default)]
struct Heard {
    stopping: bool,
    demanded: bool,
}

impl Heard {
    fn hear(&mut self, meaning: Meaning) -> Reaction {
        match meaning {
            Meaning::Noise => Reaction::Nothing,
            Meaning::Demand if self.demanded => Reaction::StopAtOnce,
            Meaning::Demand | Meaning::Hint => {
                self.demanded |= meaning == Meaning::Demand;
                if std::mem::replace(&mut self.stopping, true) { Reaction::Nothing } else { Reaction::Stop }
            }
        }
    }
}

/// The signals of this process, heard from now on. Install them before anything is started.
#[derive(Debug)]
pub struct Signals {
    asked: CancellationToken,
    /// The signal that asked.
    by: Arc<OnceLock<String>>,
    _parts: [AbortOnDropHandle<()>; 2],
}

impl Signals {
    /// Hears all signals from now on. Orphans that end are waited for, too.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn install() -> io::Result<Self> {
        let ignored = ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default());
        let mut heard = Vec::new();
        for (name, kind, meaning) in SIGNALS {
            // Who starts a program with `nohup` wants it to outlive the terminal.
            let kept = meaning == Meaning::Demand || !ignored.contains(&kind.as_raw());
            if kept {
                heard.push((name.to_owned(), signal(SignalKind::from_raw(kind.as_raw()))?, meaning));
            }
        }
        for number in REAL_TIME {
            // Some of them belong to the C library, which depends on the library.
            if let Ok(heard_of) = signal(SignalKind::from_raw(number)) {
                heard.push((format!("number {number}"), heard_of, Meaning::Noise));
            }
        }
        let asked = CancellationToken::new();
        let by = Arc::new(OnceLock::new());
        let (told, first) = (asked.clone(), by.clone());
        let listen = async move {
            let mut until_now = Heard::default();
            loop {
                let waits = heard.iter_mut().map(|(name, signal, meaning)| {
                    Box::pin(async move {
                        signal.recv().await;
                        (name.clone(), *meaning)
                    })
                });
                let ((name, meaning), ..) = select_all(waits).await;
                match until_now.hear(meaning) {
                    Reaction::Stop => {
                        tracing::info!(signal = name, "stopping");
                        _ = first.set(name);
                        told.cancel();
                    }
                    Reaction::StopAtOnce => {
                        end_all_executables();
                        tracing::warn!(
                            signal = name,
                            "stopped at once; handlers that ran were ended, which is a failed attempt of each"
                        );
                        std::process::exit(130);
                    }
                    Reaction::Nothing => tracing::info!(signal = name, "ignored a signal"),
                }
            }
        };
        let reap = async {
            if let Err(error) = reap_orphans().await {
                tracing::warn!(%error, "orphaned processes are not reaped");
            }
        };
        Ok(Self {
            asked,
            by,
            _parts: [
                AbortOnDropHandle::new(tokio::spawn(listen)),
                AbortOnDropHandle::new(tokio::spawn(reap)),
            ],
        })
    }

    /// Completes when a signal asks for the end, or when a part of the process has died; answers whether it
    /// was asked for.
    pub async fn told_to_stop(&self, died: &CancellationToken) -> bool {
        tokio::select! {
            biased;
            () = self.asked.cancelled() => true,
            () = died.cancelled() => false,
        }
    }

    /// What a command tells the shell that a signal has ended: 143 after TERM, and 130 after others.
    pub fn code(&self) -> Code {
        match self.by.get().map(String::as_str) {
            Some("TERM") => Code::Terminated,
            _ => Code::Interrupted,
        }
    }

    /// What a part of the start answers, unless a signal asks for the end before it is through.
    pub async fn unless_told<T>(&self, part: impl Future<Output = T>) -> Option<T> {
        self.asked.run_until_cancelled(pin!(part)).await
    }
}

/// The numbers of the signals that this process was told to ignore by the one that started it: `SigIgn` of
/// `/proc/self/status`.
fn ignored(status: &str) -> Vec<i32> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let mask = mask.unwrap_or(0);
    (1..=64).filter(|number| mask >> (number - 1) & 1 == 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_second_demand_is_in_a_hurry() {
        use Meaning::{Demand, Hint, Noise};
        use Reaction::{Nothing, Stop, StopAtOnce};
        let table: [(&[Meaning], &[Reaction]); 5] = [
            (&[Demand, Demand], &[Stop, StopAtOnce]),
            // A terminal is closed: its shell says so, then the system.
            (&[Hint, Hint, Hint], &[Stop, Nothing, Nothing]),
            // A supervisor that says so with two signals, in either order.
            (&[Demand, Hint, Hint], &[Stop, Nothing, Nothing]),
            (&[Hint, Demand, Demand], &[Stop, Nothing, StopAtOnce]),
            (&[Noise, Noise, Demand, Noise], &[Nothing, Nothing, Stop, Nothing]),
        ];
        for (heard, expected) in table {
            let mut until_now = Heard::default();
            let reactions: Vec<_> = heard.iter().map(|meaning| until_now.hear(*meaning)).collect();
            assert_eq!(reactions, expected, "{heard:?}");
        }
    }

    #[test]
    fn what_is_ignored_is_read_from_the_mask() {
        assert_eq!(
            ignored("Name:\ttasker\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"),
            [1, 13]
        );
        assert!(ignored("").is_empty() && ignored("SigIgn:\tnonsense\n").is_empty());
    }
}
