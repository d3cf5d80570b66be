//! Seals what an API process sends.

use std::time::Duration;

use super::key::SigningKey;
use crate::domain::{Command, EnvironmentName, Recipients, Seal, SealHead, Timestamp, statement};

/// How long a copy counts at most. Short, since a thief of the broker can keep copies: the ledger asks again
/// with new ones.
const LIFE: Duration = Duration::from_secs(15 * 60);

/// Signs with the key of an API process.
#[derive(Debug)]
pub struct Signer {
    environment: EnvironmentName,
    key: SigningKey,
}

impl Signer {
    /// Signs for this environment.
    pub const fn new(environment: EnvironmentName, key: SigningKey) -> Self {
        Self { environment, key }
    }

    /// The seal of a message. `answers` is when the message was sent that this one answers, by the clock of
    /// its receiver.
    pub fn seal(
        &self,
        command: &Command,
        to: Recipients,
        answers: Option<Timestamp>,
        now: Timestamp,
    ) -> Seal {
        let life = match command {
            Command::Task(task) => task.expires_in.min(LIFE),
            Command::Cancel { .. } | Command::Withdraw { .. } | Command::Welcome { .. } => LIFE,
        };
        let [issued_at, not_after] =
            [now, now.after(life)].map(|time| Timestamp::from_millis(time.as_millis()));
        let head = SealHead { by: self.key.public().id(), issued_at, not_after, to, answers };
        let signature = self.key.sign(&statement::of_copy(&self.environment, &head, command));
        Seal { head, signature }
    }
}
