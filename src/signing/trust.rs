//! Whose seals count on a server: the trust file, and the judgement on each message.
//!
//! The file is local and belongs to root or the user of the endpoint. Nothing of it comes from the broker or
//! the API, so whoever has stolen those cannot change it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde::Deserialize;

use super::key::PublicKey;
use crate::config::size;
use crate::custody;
use crate::domain::{
    Command, EndpointName, EnvironmentName, Seal, SealFault, SealHead, TaskMessage, TaskType, Timestamp,
    statement,
};

/// How much earlier than the welcome of its receiver a copy may have been signed. Both times are of the
/// ledger's clock; API processes are a little apart in them, and a copy may wait for the broker.
const SLACK: Duration = Duration::from_secs(5);

/// Bytes of a trust file at most.
const LONGEST: u64 = 1 << 20;

/// What a name of a key is, for error texts.
pub const NAME: &str = "1 to 64 characters out of A-Z a-z 0-9 . _ -, the first not a dot";

/// Whether a text can name a key: in a trust file, and as the name of a file.
pub fn is_name(text: &str) -> bool {
    let formed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(formed) && !text.starts_with('.')
}

/// Why a trust file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It cannot be read.
    #[error("the trust file {path} cannot be read: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others can change it.
    #[error("the trust file {path} can be changed by others: {reason}")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It has something else.
    #[error("the trust file {path} is not valid: {reason}")]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What becomes of tasks of types that the file does not name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherTypes {
    /// They are taken when the key of an API process has signed them.
    #[default]
    Server,
    /// They are refused.
    Refuse,
}

/// How tasks of one type are judged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeTrust {
    /// Bytes of a payload at most.
    #[serde(default, deserialize_with = "a_size")]
    pub max_payload: Option<u64>,
}

/// Whose seals count.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// The installation. Seals of others do not count.
    pub environment: EnvironmentName,
    /// The keys of API processes, by name.
    #[serde(default)]
    pub servers: BTreeMap<String, PublicKey>,
    /// Types with a rule of their own.
    #[serde(default)]
    pub types: BTreeMap<TaskType, TypeTrust>,
    /// The rule for all other types.
    #[serde(default)]
    pub default: OtherTypes,
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

fn a_size<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(from)?;
    let wrong = || serde::de::Error::custom(format!("max_payload is `{text}`; expected {}", size::FORM));
    size::parse(&text).ok_or_else(wrong).map(Some)
}

/// In what situation a message is judged.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Who has received it.
    pub endpoint: &'a EndpointName,
    /// The time of its clock.
    pub now: Timestamp,
    /// How far that clock may be off.
    pub tolerance: Duration,
    /// When it was welcomed, by the clock of the ledger. What was sealed before is owed, and comes again.
    pub welcomed_at: Option<Timestamp>,
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What to count.
    pub fault: SealFault,
    /// The same for people.
    pub reason: String,
}

impl Denial {
    /// For this reason.
    pub fn new(fault: SealFault, reason: impl Into<String>) -> Self {
        Self { fault, reason: reason.into() }
    }
}

impl Trust {
    /// A file that trusts nobody yet.
    pub const fn of(environment: EnvironmentName) -> Self {
        Self { environment, servers: BTreeMap::new(), types: BTreeMap::new(), default: OtherTypes::Server }
    }

    /// The file at this absolute path.
    ///
    /// # Errors
    /// When it cannot be read, others can change it, or it is not a trust file.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let failed = |source| TrustError::File { path: path.to_owned(), source };
        let absolute = std::path::absolute(path).map_err(failed)?;
        if let Some(reason) = custody::objection(&absolute).map_err(failed)? {
            return Err(TrustError::Exposed { path: path.to_owned(), reason });
        }
        let wrong = |reason| TrustError::Form { path: path.to_owned(), reason };
        if fs::metadata(&absolute).map_err(failed)?.len() > LONGEST {
            return Err(wrong(format!("it has more than {LONGEST} bytes")));
        }
        Self::parse(&fs::read_to_string(&absolute).map_err(failed)?).map_err(wrong)
    }

    /// The text of a trust file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trust: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if let Some(name) = trust.servers.keys().find(|name| !is_name(name)) {
            return Err(format!("`{}` is not a name of a key; expected {NAME}", name.escape_debug()));
        }
        let servers: Vec<_> = trust.servers.iter().collect();
        for (at, (name, key)) in servers.iter().enumerate() {
            if let Some((other, _)) = servers[..at].iter().find(|(_, other)| other == key) {
                return Err(format!(
                    "`{other}` and `{name}` have the same key: each name has a key of its own"
                ));
            }
        }
        Ok(trust)
    }

    /// The text that reads as this.
    pub fn to_yaml(&self) -> String {
        let Self { environment, servers, types, default } = self;
        let mut text = format!(
            "# Whose messages the endpoints of this server accept (docs/security.md). `tasker key trust` rewrites this file.\nenvironment: \"{environment}\"\n"
        );
        // Writing to a String cannot fail.
        if !servers.is_empty() {
            text.push_str("servers:\n");
            servers.iter().for_each(|(name, key)| _ = writeln!(text, "  \"{name}\": \"{key}\""));
        }
        if !types.is_empty() {
            text.push_str("types:\n");
            for (task_type, TypeTrust { max_payload }) in types {
                let size = max_payload.map(|bytes| format!("max_payload: {}", size::format(bytes)));
                let _ = writeln!(text, "  \"{task_type}\": {{{}}}", size.unwrap_or_default());
            }
        }
        let word = match default {
            OtherTypes::Server => "server",
            OtherTypes::Refuse => "refuse",
        };
        let _ = writeln!(text, "default: {word}");
        text
    }

    /// Judges a message and its seal.
    ///
    /// # Errors
    /// The first reason to refuse it. Only after the signature was found good, anything that it covers is
    /// looked at.
    pub fn judge(
        &self,
        command: &Command,
        seal: Option<&Seal>,
        situation: Situation<'_>,
    ) -> Result<(), Denial> {
        let deny = |fault, reason: String| Err(Denial { fault, reason });
        let Some(seal) = seal else {
            return deny(SealFault::Unsigned, "it is not signed".to_owned());
        };
        let Seal { head, signature } = seal;
        let Some(key) = self.servers.values().find(|key| key.id() == head.by) else {
            return deny(
                SealFault::UnknownKey,
                format!("it is signed with the key {}, which is not in the trust file", head.by),
            );
        };
        if !key.verifies(&statement::of_copy(&self.environment, head, command), signature) {
            return deny(
                SealFault::Forged,
                format!(
                    "the signature of key {} is not valid for it in the environment `{}`",
                    head.by, self.environment
                ),
            );
        }
        // The clock of the endpoint is judged by its welcome, and a session has one welcome that counts.
        if !matches!(command, Command::Welcome { .. }) {
            judge_time(head, situation)?;
        }
        if !head.to.include(command.subject(), situation.endpoint) {
            return deny(SealFault::Misdirected, format!("it is not for {}", situation.endpoint));
        }
        match command {
            Command::Task(task) => self.judge_task(task),
            Command::Cancel { .. } | Command::Withdraw { .. } | Command::Welcome { .. } => Ok(()),
        }
    }

    fn judge_task(&self, task: &TaskMessage) -> Result<(), Denial> {
        let task_type = &task.work.task_type;
        let Some(TypeTrust { max_payload }) = self.types.get(task_type) else {
            return match self.default {
                OtherTypes::Server => Ok(()),
                OtherTypes::Refuse => Err(Denial::new(
                    SealFault::NotAllowed,
                    format!("the trust file does not name the type `{task_type}`"),
                )),
            };
        };
        let bytes = task.work.payload.get().len() as u64;
        match max_payload {
            Some(most) if bytes > *most => Err(Denial::new(
                SealFault::TooLarge,
                format!("the payload has {bytes} bytes, the trust file allows {most} for `{task_type}`"),
            )),
            _ => Ok(()),
        }
    }
}

fn judge_time(head: &SealHead, situation: Situation<'_>) -> Result<(), Denial> {
    let Situation { now, tolerance, welcomed_at, .. } = situation;
    if head.issued_at > now.after(tolerance) {
        let ahead = head.issued_at.since(now).as_secs();
        return Err(Denial::new(
            SealFault::Early,
            format!("it was signed {ahead} s from now: the clock of this server is behind"),
        ));
    }
    if now > head.not_after.after(tolerance) {
        let late = now.since(head.not_after).as_secs();
        return Err(Denial::new(SealFault::Expired, format!("it expired {late} s ago")));
    }
    match welcomed_at {
        Some(at) if head.issued_at.after(SLACK) < at => Err(Denial::new(
            SealFault::Stale,
            "it was signed before this endpoint subscribed, and comes again if it is still owed",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use uuid::Uuid;

    use super::*;
    use crate::domain::{Recipients, TaskId, WireVersion, WorkPart, json};
    use crate::signing::{Signer, SigningKey};

    fn key() -> SigningKey {
        SigningKey::create().expect("a key").0
    }

    fn environment(name: &str) -> EnvironmentName {
        name.parse().expect("a name")
    }

    fn name(text: &str) -> EndpointName {
        text.parse().expect("a name")
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_micros(secs * 1_000_000)
    }

    fn task(task_type: &str) -> TaskMessage {
        let work = WorkPart {
            id: TaskId(Uuid::from_u128(1)),
            task_type: task_type.parse().expect("a type"),
            identifier: "one".parse().expect("an identifier"),
            audience: None,
            not_after: None,
            payload: json(&"payload"),
        };
        TaskMessage { work, expires_in: Duration::from_secs(86_400), received: false, attempts: vec![] }
    }

    fn trust(key: &SigningKey) -> Trust {
        let small = TypeTrust { max_payload: Some(8) };
        Trust {
            servers: [("api".to_owned(), *key.public())].into(),
            types: [("small".parse().expect("a type"), small)].into(),
            ..Trust::of(environment("prod"))
        }
    }

    fn fault(judged: Result<(), Denial>) -> Option<SealFault> {
        judged.err().map(|denial| denial.fault)
    }

    #[test]
    fn what_was_changed_or_is_for_others_is_refused() {
        let (ours, other) = (key(), key());
        let trust = trust(&ours);
        let refusing = Trust { default: OtherTypes::Refuse, ..trust.clone() };
        let (public, place) = (*ours.public(), environment("prod"));
        let signer = Signer::new(place.clone(), ours);
        let command = Command::Task(task("worker"));
        let id = Uuid::from_u128(1);
        let to = || Recipients::of(id, &[name("ep1")]);
        let seal = |command: &Command| signer.seal(command, to(), None, at(1000));
        let ep1 = name("ep1");
        let situation = Situation {
            endpoint: &ep1,
            now: at(1000),
            tolerance: Duration::from_secs(60),
            welcomed_at: None,
        };
        let good = seal(&command);
        assert_eq!(trust.judge(&command, Some(&good), situation), Ok(()));
        assert_eq!(fault(trust.judge(&command, None, situation)), Some(SealFault::Unsigned));

        let changed = |head: SealHead| Seal { head, ..good.clone() };
        let mut flipped = good.clone();
        flipped.signature[40] ^= 1;
        let by_other = Signer::new(place, other).seal(&command, to(), None, at(1000));
        let pretended =
            Seal { head: SealHead { by: public.id(), ..by_other.head.clone() }, ..by_other.clone() };
        for (seal, wanted) in [
            (flipped, SealFault::Forged),
            (changed(SealHead { not_after: at(9999), ..good.head.clone() }), SealFault::Forged),
            (changed(SealHead { to: Recipients::All, ..good.head.clone() }), SealFault::Forged),
            (by_other, SealFault::UnknownKey),
            (pretended, SealFault::Forged),
        ] {
            assert_eq!(fault(trust.judge(&command, Some(&seal), situation)), Some(wanted), "{seal:?}");
        }
        for other in [
            Command::Task(task("backup")),
            Command::Task(TaskMessage { received: true, ..task("worker") }),
            Command::Cancel { task_id: TaskId(id) },
        ] {
            assert_eq!(fault(trust.judge(&other, Some(&good), situation)), Some(SealFault::Forged));
        }
        let dev = Trust { environment: environment("dev"), ..trust.clone() };
        assert_eq!(fault(dev.judge(&command, Some(&good), situation)), Some(SealFault::Forged));
        let ep2 = name("ep2");
        let misdirected = Situation { endpoint: &ep2, ..situation };
        assert_eq!(fault(trust.judge(&command, Some(&good), misdirected)), Some(SealFault::Misdirected));

        // The policy of the server.
        assert_eq!(fault(refusing.judge(&command, Some(&good), situation)), Some(SealFault::NotAllowed));
        let small = Command::Task(task("small"));
        assert_eq!(fault(trust.judge(&small, Some(&seal(&small)), situation)), Some(SealFault::TooLarge));
        let empty =
            TaskMessage { work: WorkPart { payload: json(&1), ..task("small").work }, ..task("small") };
        let empty = Command::Task(empty);
        assert_eq!(refusing.judge(&empty, Some(&seal(&empty)), situation), Ok(()));
    }

    #[test]
    fn copies_count_for_a_while() {
        let ours = key();
        let trust = trust(&ours);
        let signer = Signer::new(environment("prod"), ours);
        let ep1 = name("ep1");
        let short = TaskMessage { expires_in: Duration::from_secs(30), ..task("worker") };
        let welcome = Command::Welcome {
            session: Uuid::from_u128(1),
            presence_interval: Duration::from_secs(1),
            reads: WireVersion::Two,
        };
        // Sealed at 1000; welcomed at; judged at.
        for (command, welcomed_at, now, wanted) in [
            (Command::Task(task("worker")), None, 1000, None),
            (Command::Task(task("worker")), None, 940, None),
            (Command::Task(task("worker")), None, 939, Some(SealFault::Early)),
            (Command::Task(task("worker")), None, 1960, None),
            (Command::Task(task("worker")), None, 1961, Some(SealFault::Expired)),
            (Command::Task(short.clone()), None, 1090, None),
            (Command::Task(short), None, 1091, Some(SealFault::Expired)),
            (Command::Task(task("worker")), Some(1005), 1100, None),
            (Command::Task(task("worker")), Some(1006), 1100, Some(SealFault::Stale)),
            (
                Command::Cancel { task_id: TaskId(Uuid::from_u128(1)) },
                Some(1006),
                1100,
                Some(SealFault::Stale),
            ),
            (Command::Cancel { task_id: TaskId(Uuid::from_u128(1)) }, None, 1961, Some(SealFault::Expired)),
            (welcome.clone(), Some(2000), 1100, None),
            (welcome, None, 1961, None),
        ] {
            let seal = signer.seal(&command, Recipients::All, None, at(1000));
            let situation = Situation {
                endpoint: &ep1,
                now: at(now),
                tolerance: Duration::from_secs(60),
                welcomed_at: welcomed_at.map(at),
            };
            assert_eq!(
                fault(trust.judge(&command, Some(&seal), situation)),
                wanted,
                "{command:?} {welcomed_at:?} {now}"
            );
        }
    }

    #[test]
    fn a_file_comes_back_and_is_refused_where_others_can_change_it() {
        let trust = trust(&key());
        let text = trust.to_yaml();
        assert_eq!(Trust::parse(&text), Ok(trust.clone()), "{text}");
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("trust.yaml");
        fs::write(&path, &text).expect("written");
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
        mode(0o644);
        assert_eq!(Trust::read(&path).expect("a trust file"), trust);
        for open in [0o664, 0o646] {
            mode(open);
            assert!(matches!(Trust::read(&path), Err(TrustError::Exposed { .. })), "{open:o}");
        }
        let key = trust.servers["api"];
        for (wrong, reason) in [
            (String::new(), ""),
            ("environment: a b".to_owned(), "the name of an environment"),
            ("environment: a\nserver: {}".to_owned(), "unknown field"),
            ("environment: a\nservers: {\"a b\": 1}".to_owned(), "not a public key"),
            (format!("environment: a\nservers: {{\"a b\": \"{key}\"}}"), "not a name of a key"),
            ("environment: a\ndefault: everybody".to_owned(), "everybody"),
            ("environment: a\nservers: {a: AAAA}".to_owned(), "not a public key"),
            ("environment: a\ntypes: {a: {max_payload: 3 apples}}".to_owned(), "3 apples"),
            (format!("environment: a\nservers: {{a: \"{key}\", b: \"{key}\"}}"), "the same key"),
        ] {
            let found = Trust::parse(&wrong).expect_err(&wrong);
            assert!(found.contains(reason), "{wrong}: {found}");
        }
    }
}
