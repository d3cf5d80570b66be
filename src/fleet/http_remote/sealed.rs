//! Messages of callers with a seal: a message around the message, and who judges it.
//!
//! The seal is of the bytes of the message as they are, and of the way that it goes: a signed task counts in
//! one pool, for one caller and under one name, so nobody can have its answer sent elsewhere. A worker that
//! verifies nothing opens such messages all the same.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use super::frame::{self, Frame, FrameError};
pub use super::revoked::GuardError;
use super::revoked::RevokedKeys;
use crate::broker::seal_form::SealForm;
use crate::clock::Clock;
use crate::config::Signatures;
use crate::domain::{KeyId, Seal};
use crate::signing::{Denial, HttpSituation, Signer, Trust, Verified};
use crate::telemetry::{LINE_EVERY, LogPace};

/// The kind of the message around.
const KIND: &str = "sealed";

#[derive(Serialize, Deserialize)]
struct Head {
    seal: SealForm,
}

/// The way of a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way<'a> {
    /// A task, to a worker of this pool.
    Work { pool: &'a str, caller: Uuid, run: Uuid },
    /// To all workers.
    Workers,
}

impl Way<'_> {
    /// As it is signed. The name of a pool has no spaces.
    fn text(self) -> Cow<'static, str> {
        match self {
            Self::Work { pool, caller, run } => format!("work {pool} {caller} {run}").into(),
            Self::Workers => "workers".into(),
        }
    }
}

/// A message with a seal that counts for so long; as it is without a signer. None when it would be too long.
pub(super) fn seal(signer: Option<&Signer>, way: Way<'_>, message: Bytes, life: Duration) -> Option<Bytes> {
    let Some(signer) = signer else { return Some(message) };
    let seal = signer.seal_http(&way.text(), &message, life, Clock::system().now());
    frame::encode(KIND, &Head { seal: SealForm::from(&seal) }, &message)
}

/// The message, and its seal if it has one, which nobody has verified.
///
/// # Errors
/// When it cannot be read; never panics, whatever the bytes.
pub fn unseal(bytes: &Bytes) -> Result<(Bytes, Option<Seal>), FrameError> {
    let frame = frame::decode(bytes)?;
    if frame.kind != KIND {
        return Ok((bytes.clone(), None));
    }
    let Head { seal } = frame.members()?;
    Ok((frame.body, Some(seal.into())))
}

/// Why a message is not followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// It cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Its seal does not count.
    #[error("refused as {}: {}", .0.fault, .0.reason)]
    Refused(Denial),
}

/// Opens a message, and judges it if somebody does.
pub(super) fn open(guard: Option<&Guard>, way: Way<'_>, bytes: &Bytes) -> Result<Frame, OpenError> {
    let (message, seal) = unseal(bytes)?;
    if let Some(guard) = guard {
        guard.judge(way, &message, seal.as_ref()).map_err(OpenError::Refused)?;
    }
    Ok(frame::decode(&message)?)
}

/// Judges messages by their seals.
#[derive(Debug)]
pub struct Guard {
    trust: Trust,
    required: bool,
    tolerance: Duration,
    verified: Verified,
    revoked: Option<RevokedKeys>,
    told: Mutex<Told>,
}

/// What the log has told.
#[derive(Debug, Default)]
struct Told {
    line: LogPace,
    /// Messages since its last line.
    untold: usize,
}

impl Guard {
    /// One that knows the keys of the trust file at this path, where signatures are verified at all, and follows
    /// the list of revoked keys in another file.
    ///
    /// # Errors
    /// When one of the files cannot be used.
    pub fn new(
        signatures: Signatures,
        trust: &Path,
        revocations: Option<&Path>,
        tolerance: Duration,
    ) -> Result<Option<Self>, GuardError> {
        let required = match signatures {
            Signatures::Off => return Ok(None),
            Signatures::Prefer => false,
            Signatures::Require => true,
        };
        let (trust, verified) = (Trust::read(trust)?, Verified::new());
        let revoked = revocations.map(|path| RevokedKeys::open(path, &trust)).transpose()?;
        Ok(Some(Self { trust, required, tolerance, verified, revoked, told: Mutex::default() }))
    }

    /// How long a message with this much time left can be accepted, if both clocks are off by the tolerance.
    pub(super) fn counts_for(&self, remaining: Duration) -> Duration {
        remaining.saturating_add(self.tolerance.saturating_mul(2))
    }

    /// The keys that are revoked. Tells the log when there is another list than before.
    pub(super) fn revoked(&self) -> Arc<BTreeSet<KeyId>> {
        self.revoked.as_ref().map(|revoked| revoked.keys(&self.trust)).unwrap_or_default()
    }

    fn judge(&self, way: Way<'_>, message: &[u8], seal: Option<&Seal>) -> Result<(), Denial> {
        let (revoked, now, tolerance) = (self.revoked(), Clock::system().now(), self.tolerance);
        let situation = HttpSituation { now, tolerance, revoked: &revoked, verified: &self.verified };
        let judged = self.trust.judge_http(&way.text(), message, seal, situation);
        match (judged, seal) {
            (Err(_), None) if !self.required => {
                self.tell("took a message without a signature, since signatures are preferred and not required here", "");
                Ok(())
            }
            (Err(denial), _) => {
                let reason = format!("{}: {}", denial.fault, denial.reason);
                self.tell("refused a message of a caller", &reason);
                Err(denial)
            }
            (Ok(()), _) => Ok(()),
        }
    }

    /// Tells the log, unless it was told a moment ago.
    pub(super) fn tell(&self, what: &str, why: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.untold += 1;
        if told.line.is_due(LINE_EVERY) {
            let messages = std::mem::take(&mut told.untold);
            warn!(messages, why, "{what}");
        }
    }
}
