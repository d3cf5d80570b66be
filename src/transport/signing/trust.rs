//! Whose seals count on a server: the trust file, and the judgement on each message.
//!
//! The file is local and belongs to root or the user of the endpoint. Nothing of it comes from the broker or
//! the API, so whoever has stolen those cannot change it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde::Deserialize;

use super::key::PublicKey;
use super::signer::is_of_root;
use super::verified::Verified;
use crate::config::size;
use crate::custody;
use crate::domain::{
    Certificate, Command, EndpointName, EnvironmentName, Json, KeyId, Order, OrderSignature, Ordered,
    Purpose, Revocations, Seal, SealFault, SealHead, TaskMessage, TaskType, Timestamp, WorkPart, likeness,
    statement,
};

/// How much earlier than the welcome of its receiver a copy may have been signed. Both times are of the
/// ledger's clock; API processes are a little apart in them, and a copy may wait for the broker.
const SLACK: Duration = Duration::from_secs(5);

/// Bytes of a trust file at most.
const LONGEST: u64 = 1 << 20;

/// What the root key is called.
pub const ROOT: &str = "root";

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
    /// The persons whose signatures count, by the names of their keys. None: the seal of an API process is
    /// enough. Tasks of a type with persons bring an order ([`Ordered`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<String>,
    /// How many different persons must have signed; one unless said.
    #[serde(default)]
    pub threshold: Option<usize>,
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
    /// The key that certifies keys of API processes.
    #[serde(default)]
    pub root: Option<PublicKey>,
    /// The keys of API processes that need no certificate, by name.
    #[serde(default)]
    pub servers: BTreeMap<String, PublicKey>,
    /// The keys of persons, by name.
    #[serde(default)]
    pub keys: BTreeMap<String, PublicKey>,
    /// Types with a rule of their own.
    #[serde(default)]
    pub types: BTreeMap<TaskType, TypeTrust>,
    /// The rule for all other types.
    #[serde(default)]
    pub default: OtherTypes,
}

impl TypeTrust {
    /// What is wrong with it.
    fn check(&self, keys: &BTreeMap<String, PublicKey>) -> Result<(), String> {
        let Self { signers, threshold, .. } = self;
        if let Some(unknown) = signers.iter().find(|name| !keys.contains_key(*name)) {
            let known = keys.keys().map(String::as_str);
            return Err(likeness::unknown("signer", unknown, "in `keys`", known).text);
        }
        let distinct = signers.iter().collect::<BTreeSet<_>>().len();
        match threshold {
            _ if distinct < signers.len() => Err("`signers` names somebody twice".to_owned()),
            Some(_) if signers.is_empty() => Err("`threshold` needs `signers`".to_owned()),
            Some(number) if *number == 0 || *number > distinct => {
                Err(format!("threshold is {number}; expected 1 to {distinct}, the number of signers"))
            }
            _ => Ok(()),
        }
    }
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

/// When a message is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It has just come.
    Arrives,
    /// It came in time, and has waited since: neither its own end counts any more, nor that of a certificate.
    Waits,
}

/// By which clock a message is judged.
#[derive(Debug, Clone, Copy)]
struct Hour {
    moment: Moment,
    now: Timestamp,
    tolerance: Duration,
}

/// In what situation a message is judged.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Who has received it.
    pub endpoint: &'a EndpointName,
    /// When.
    pub moment: Moment,
    /// The time of its clock.
    pub now: Timestamp,
    /// How far that clock may be off.
    pub tolerance: Duration,
    /// The keys that the root key has revoked.
    pub revoked: &'a BTreeSet<KeyId>,
    /// The signatures that were found good before. They spare work, and change no judgement.
    pub verified: &'a Verified,
}

/// In what situation a message about HTTP tasks is judged.
#[derive(Debug, Clone, Copy)]
pub struct HttpSituation<'a> {
    /// The time of the clock of its receiver.
    pub now: Timestamp,
    /// How far that clock may be off.
    pub tolerance: Duration,
    /// The keys that the root key has revoked.
    pub revoked: &'a BTreeSet<KeyId>,
    /// What was verified before.
    pub verified: &'a Verified,
}

impl Situation<'_> {
    const fn hour(self) -> Hour {
        Hour { moment: self.moment, now: self.now, tolerance: self.tolerance }
    }
}

/// What a refusal comes from, which says what can end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// This copy: another copy of the same task may count.
    Copy,
    /// The trust file, which does not allow the task: the same copy counts once the file does.
    TrustFile,
    /// The receivers of the order: another endpoint may perform it.
    Receivers,
    /// The end of the order: every copy of the task brings an order that has ended.
    End,
    /// What the task brings: every copy brings the same, so none counts here.
    Task,
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What to count.
    pub fault: SealFault,
    /// What it comes from.
    pub cause: Cause,
    /// The same for people.
    pub reason: String,
}

impl Denial {
    /// Characters of a reason: it may quote what somebody has made up, and goes into presence, the log and
    /// the quarantine.
    const LENGTH: usize = 200;

    /// Of a copy, for this reason, which is cut, and shows no control characters.
    pub fn new(fault: SealFault, reason: impl Into<String>) -> Self {
        let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let reason = reason.into().chars().take(Self::LENGTH).map(visible).collect();
        Self { fault, cause: Cause::Copy, reason }
    }

    /// The same refusal, which comes from something else than the copy.
    #[must_use]
    pub fn of(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }
}

impl Trust {
    /// A file that trusts nobody yet.
    pub const fn of(environment: EnvironmentName) -> Self {
        Self {
            environment,
            root: None,
            servers: BTreeMap::new(),
            keys: BTreeMap::new(),
            types: BTreeMap::new(),
            default: OtherTypes::Server,
        }
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
        let all: Vec<(&String, &PublicKey)> = trust.servers.iter().chain(&trust.keys).collect();
        if let Some((name, _)) = all.iter().find(|(name, _)| !is_name(name)) {
            return Err(format!("`{}` is not a name of a key; expected {NAME}", name.escape_debug()));
        }
        if let Some((name, _)) = all.iter().find(|(name, key)| *name == ROOT || trust.root == Some(**key)) {
            return Err(format!(
                "`{name}` is the root key, or named like it: that one is `root`, and only that"
            ));
        }
        for (at, (name, key)) in all.iter().enumerate() {
            if let Some((other, _)) = all[..at].iter().find(|(_, other)| other == key) {
                return Err(format!(
                    "`{other}` and `{name}` have the same key: each name has a key of its own"
                ));
            }
        }
        for (task_type, rule) in &trust.types {
            rule.check(&trust.keys).map_err(|reason| format!("types.{task_type}: {reason}"))?;
        }
        Ok(trust)
    }

    /// The text that reads as this.
    pub fn to_yaml(&self) -> String {
        let Self { environment, root, servers, keys, types, default } = self;
        let mut text = format!(
            "# Whose messages the endpoints of this server accept (docs/security.md). `tasker key trust` rewrites this file.\nenvironment: \"{environment}\"\n"
        );
        // Writing to a String cannot fail.
        if let Some(root) = root {
            let _ = writeln!(text, "root: \"{root}\"");
        }
        for (title, keys) in [("servers", servers), ("keys", keys)] {
            if !keys.is_empty() {
                let _ = writeln!(text, "{title}:");
                keys.iter().for_each(|(name, key)| _ = writeln!(text, "  \"{name}\": \"{key}\""));
            }
        }
        if !types.is_empty() {
            text.push_str("types:\n");
            for (task_type, TypeTrust { signers, threshold, max_payload }) in types {
                let quoted: Vec<_> = signers.iter().map(|name| format!("\"{name}\"")).collect();
                let parts = [
                    (!quoted.is_empty()).then(|| format!("signers: [{}]", quoted.join(", "))),
                    threshold.map(|number| format!("threshold: {number}")),
                    max_payload.map(|bytes| format!("max_payload: {}", size::format(bytes))),
                ];
                let parts: Vec<_> = parts.into_iter().flatten().collect();
                let _ = writeln!(text, "  \"{task_type}\": {{{}}}", parts.join(", "));
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
        let deny = |fault, reason: String| Err(Denial::new(fault, reason));
        let seal = seal.ok_or_else(unsigned)?;
        let head = &seal.head;
        judge_key(head.by, situation.revoked)?;
        let statement = || statement::of_copy(&self.environment, head, command);
        let (hour, verified) = (situation.hour(), situation.verified);
        let certificate = self.judge_signature(seal, statement, Purpose::Tasks, hour, verified)?;
        // The clock of the endpoint is judged by its welcome, and a session has one welcome that counts.
        if !matches!(command, Command::Welcome { .. }) && situation.moment == Moment::Arrives {
            judge_time(head, situation.hour())?;
        }
        if !head.to.include(command.subject(), situation.endpoint) {
            return deny(SealFault::Misdirected, format!("it is not for {}", situation.endpoint));
        }
        match command {
            Command::Task(task) => {
                let task_type = &task.work.task_type;
                match certificate {
                    Some(certificate)
                        if !certificate.types.is_empty() && !certificate.types.contains(task_type) =>
                    {
                        deny(
                            SealFault::NotAllowed,
                            format!("the certificate of key {} is not for tasks of `{task_type}`", head.by),
                        )
                    }
                    _ => self.judge_task(task, situation),
                }
            }
            Command::Cancel { .. } | Command::Withdraw { .. } | Command::Welcome { .. } => Ok(()),
        }
    }

    /// Judges a message about HTTP tasks that has just come this way, and its seal.
    ///
    /// # Errors
    /// The first reason to refuse it.
    pub fn judge_http(
        &self,
        way: &str,
        message: &[u8],
        seal: Option<&Seal>,
        HttpSituation { now, tolerance, revoked, verified }: HttpSituation<'_>,
    ) -> Result<(), Denial> {
        let seal = seal.ok_or_else(unsigned)?;
        judge_key(seal.head.by, revoked)?;
        let hour = Hour { moment: Moment::Arrives, now, tolerance };
        let statement = || statement::of_http(&self.environment, &seal.head, way, message);
        let certificate = self.judge_signature(seal, statement, Purpose::Http, hour, verified)?;
        if certificate.is_some_and(|certificate| !certificate.types.is_empty()) {
            let by = seal.head.by;
            let reason =
                format!("the certificate of key {by} is for some task types, which HTTP tasks have not");
            return Err(Denial::new(SealFault::NotAllowed, reason));
        }
        judge_time(&seal.head, hour)
    }

    /// Whether a key that counts for this purpose has signed a statement. Returns the certificate that makes it
    /// count.
    fn judge_signature<'s>(
        &self,
        seal: &'s Seal,
        statement: impl FnOnce() -> Vec<u8>,
        wanted: Purpose,
        hour: Hour,
        verified: &Verified,
    ) -> Result<Option<&'s Certificate>, Denial> {
        let (key, certificate) = self.key_of(seal, hour, verified)?;
        let (by, environment) = (seal.head.by, &self.environment);
        let signed = statement::signed(environment, by, statement(), seal.batch.as_ref());
        if !verified.verifies(&key, &signed, &seal.signature) {
            let reason =
                format!("the signature of key {by} is not valid for it in the environment `{environment}`");
            return Err(Denial::new(SealFault::Forged, reason));
        }
        match certificate.map(|certificate| certificate.purpose).filter(|purpose| *purpose != wanted) {
            None => Ok(certificate),
            Some(purpose) => {
                let reason =
                    format!("the certificate of key {by} is for `{purpose}`, and not for `{wanted}`");
                Err(Denial::new(SealFault::NotAllowed, reason))
            }
        }
    }

    /// The key of a seal, and the certificate that makes it count.
    fn key_of<'s>(
        &self,
        seal: &'s Seal,
        Hour { now, tolerance, moment }: Hour,
        verified: &Verified,
    ) -> Result<(PublicKey, Option<&'s Certificate>), Denial> {
        let by = seal.head.by;
        let deny = |reason: String| Err(Denial::new(SealFault::UnknownKey, reason));
        if let Some(key) = self.servers.values().find(|key| key.id() == by) {
            return Ok((*key, None));
        }
        let (Some(root), Some(certificate)) = (&self.root, &seal.certificate) else {
            return deny(format!("it is signed with the key {by}, which is not in the trust file"));
        };
        let Certificate { public, not_before, not_after, signature, .. } = certificate;
        let (key, root_id) = (PublicKey::new(public), root.id());
        let certified = statement::of_certificate(&self.environment, root_id, certificate);
        match key {
            // What the root key signs is for people to look at: it is no key of an API process.
            Ok(key) if key == *root => deny(format!("the key {by} is the root key, which signs no messages")),
            Ok(key) if key.id() == by && verified.verifies(root, &certified, signature) => {
                if moment == Moment::Waits {
                    return Ok((key, Some(certificate)));
                }
                if now > not_after.after(tolerance) {
                    let late = now.since(*not_after).as_secs();
                    return deny(format!("the certificate of key {by} expired {late} s ago"));
                }
                if not_before.before(tolerance) > now {
                    return deny(format!("the certificate of key {by} does not count yet"));
                }
                Ok((key, Some(certificate)))
            }
            _ => deny(format!("the certificate of key {by} is not one of the root key {root_id}")),
        }
    }

    /// Judges a message without a seal, where seals are not required yet: what persons must have signed is
    /// required in any case.
    ///
    /// # Errors
    /// The first reason to refuse it.
    pub fn judge_unsealed(&self, command: &Command, situation: Situation<'_>) -> Result<(), Denial> {
        match command {
            Command::Task(task) => self.judge_task(task, situation),
            Command::Cancel { .. } | Command::Withdraw { .. } | Command::Welcome { .. } => Ok(()),
        }
    }

    /// The order that a task of this type must bring; none where it brings a payload as it is.
    ///
    /// # Errors
    /// When it must bring one and does not.
    pub fn order_of(&self, work: &WorkPart) -> Result<Option<Ordered>, Denial> {
        Ok(self.order_in(&work.task_type, &work.payload)?.map(|(ordered, _)| ordered))
    }

    /// The order in the payload of a task of this type, and the rule by which it counts; none for a type
    /// whose tasks need no order.
    pub(super) fn order_in(
        &self,
        task_type: &TaskType,
        payload: &Json,
    ) -> Result<Option<(Ordered, &TypeTrust)>, Denial> {
        let Some(rule) = self.rule_of_orders(task_type) else { return Ok(None) };
        Ordered::read(payload).map(|ordered| Some((ordered, rule))).map_err(|reason| {
            let signatures = match rule.threshold.unwrap_or(1) {
                1 => "the signature of a person".to_owned(),
                threshold => format!("the signatures of {threshold} persons"),
            };
            let reason = match Ordered::is_in(payload) {
                true => format!("its order cannot be read: {reason}"),
                false => {
                    format!(
                        "sign with: tasker submit {task_type} --key FILE --environment {}",
                        self.environment
                    )
                }
            };
            Denial::new(SealFault::Unapproved, format!("\"{task_type}\" needs {signatures}; {reason}"))
                .of(Cause::Task)
        })
    }

    /// Whether a list of revoked keys is one of the root key.
    pub fn vouches_for(&self, revocations: &Revocations) -> bool {
        self.root.is_some_and(|root| is_of_root(&root, &self.environment, revocations))
    }

    /// Whether tasks of this type must bring orders.
    pub fn needs_orders(&self, task_type: &TaskType) -> bool {
        self.rule_of_orders(task_type).is_some()
    }

    fn rule_of_orders(&self, task_type: &TaskType) -> Option<&TypeTrust> {
        self.types.get(task_type).filter(|rule| !rule.signers.is_empty())
    }

    /// Whether tasks of any type must bring orders.
    pub fn has_orders(&self) -> bool {
        self.types.values().any(|rule| !rule.signers.is_empty())
    }

    fn judge_task(&self, task: &TaskMessage, situation: Situation<'_>) -> Result<(), Denial> {
        let task_type = &task.work.task_type;
        let Some(rule) = self.types.get(task_type) else {
            return match self.default {
                OtherTypes::Server => Ok(()),
                OtherTypes::Refuse => Err(Denial::new(
                    SealFault::NotAllowed,
                    format!("the trust file does not name the type `{task_type}`"),
                )
                .of(Cause::TrustFile)),
            };
        };
        let bytes = task.work.payload.get().len() as u64;
        match rule.max_payload {
            Some(most) if bytes > most => Err(Denial::new(
                SealFault::TooLarge,
                format!("the payload has {bytes} bytes, the trust file allows {most} for `{task_type}`"),
            )
            .of(Cause::Task)),
            _ => match self.order_of(&task.work)? {
                None => Ok(()),
                Some(ordered) => self.judge_order(&ordered, task_type, rule, situation),
            },
        }
    }

    /// Whether an order is for this installation and for tasks of this type.
    pub(super) fn judge_place(&self, order: &Order, task_type: &TaskType) -> Result<(), Denial> {
        if order.task_type == *task_type && order.environment == self.environment {
            return Ok(());
        }
        let reason = format!("the order is for `{}` in `{}`", order.task_type, order.environment);
        Err(Denial::new(SealFault::Unapproved, reason).of(Cause::Task))
    }

    /// Whether a person has signed an order, with a key that is not revoked.
    pub(super) fn has_signed(
        &self,
        name: &str,
        Ordered { order, payload }: &Ordered,
        revoked: &BTreeSet<KeyId>,
        verified: &Verified,
    ) -> bool {
        let key = self.keys.get(name).filter(|key| !revoked.contains(&key.id()));
        key.is_some_and(|key| {
            let mut of_key = order.signatures.iter().filter(|one| one.by == key.id());
            let signed = |one: &OrderSignature| statement::of_order(order, one.by, payload);
            of_key.any(|one| verified.verifies(key, &signed(one), &one.signature))
        })
    }

    fn judge_order(
        &self,
        ordered: &Ordered,
        task_type: &TaskType,
        rule: &TypeTrust,
        situation: Situation<'_>,
    ) -> Result<(), Denial> {
        let (order, endpoint, threshold) = (&ordered.order, situation.endpoint, rule.threshold.unwrap_or(1));
        let deny = |cause, fault, reason: String| Err(Denial::new(fault, reason).of(cause));
        self.judge_place(order, task_type)?;
        // Different persons, however often each has signed.
        let Situation { revoked, verified, .. } = situation;
        let signed = |name: &&String| self.has_signed(name, ordered, revoked, verified);
        let holders = rule.signers.iter().filter(signed).count();
        if holders < threshold {
            return deny(
                Cause::Task,
                SealFault::Unapproved,
                format!("{holders} of {threshold} persons that `{task_type}` needs have signed the order"),
            );
        }
        judge_end(order, situation.now, situation.tolerance)?;
        match order.to.include(order.id, endpoint) {
            true => Ok(()),
            false => {
                deny(Cause::Receivers, SealFault::Misdirected, format!("the order is not for {endpoint}"))
            }
        }
    }
}

/// Whether an order has not ended.
///
/// # Errors
/// When it has.
pub fn judge_end(order: &Order, now: Timestamp, tolerance: Duration) -> Result<(), Denial> {
    if now <= order.not_after.after(tolerance) {
        return Ok(());
    }
    let ended = format!("the order ended at {}", order.not_after);
    Err(Denial::new(SealFault::Expired, ended).of(Cause::End))
}

/// Whether a key is not revoked.
///
/// # Errors
/// When it is.
pub fn judge_key(by: KeyId, revoked: &BTreeSet<KeyId>) -> Result<(), Denial> {
    match revoked.contains(&by) {
        false => Ok(()),
        true => Err(Denial::new(SealFault::Revoked, format!("the key {by} is revoked"))),
    }
}

fn unsigned() -> Denial {
    Denial::new(SealFault::Unsigned, "it is not signed")
}

fn judge_time(head: &SealHead, Hour { now, tolerance, .. }: Hour) -> Result<(), Denial> {
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
    Ok(())
}

/// Judges a good message by the last welcome before it, whose time is that of the ledger's clock. What was
/// sealed before the welcome is owed, and comes again.
///
/// # Errors
/// When it was sealed before.
pub fn judge_age(command: &Command, head: &SealHead, welcomed_at: Timestamp) -> Result<(), Denial> {
    // A welcome is judged by its session.
    if matches!(command, Command::Welcome { .. }) || head.issued_at.after(SLACK) >= welcomed_at {
        return Ok(());
    }
    Err(Denial::new(
        SealFault::Stale,
        "it was signed before this endpoint subscribed, and comes again if it is still owed",
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use uuid::Uuid;

    use super::*;
    use crate::domain::{BatchPath, Recipients, TaskId, WireVersion, json};
    use crate::signing::{Signer, SigningKey, Unsealed, certify, revoke, sign_order};

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

    const NONE: &BTreeSet<KeyId> = &BTreeSet::new();

    /// What an endpoint receives at this second, by a clock that may be a minute off.
    fn arriving<'a>(endpoint: &'a EndpointName, now: i64, verified: &'a Verified) -> Situation<'a> {
        let (moment, now, tolerance) = (Moment::Arrives, at(now), Duration::from_secs(60));
        Situation { endpoint, moment, now, tolerance, revoked: NONE, verified }
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
        let small = TypeTrust { max_payload: Some(8), ..TypeTrust::default() };
        let persons = TypeTrust { signers: vec!["alice".to_owned()], threshold: Some(1), max_payload: None };
        Trust {
            root: Some(*self::key().public()),
            servers: [("api".to_owned(), *key.public())].into(),
            keys: [("alice".to_owned(), *self::key().public())].into(),
            types: [("small", small), ("update", persons)]
                .map(|(name, rule)| (name.parse().expect("a type"), rule))
                .into(),
            ..Trust::of(environment("prod"))
        }
    }

    fn fault(judged: Result<(), Denial>) -> Option<SealFault> {
        judged.err().map(|denial| denial.fault)
    }

    #[test]
    fn what_was_changed_or_is_for_others_is_refused() {
        let verified = Verified::new();
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
        let situation = arriving(&ep1, 1000, &verified);
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

    /// Each of them is judged by itself, as if it had been signed alone.
    #[test]
    fn copies_that_share_a_signature_are_judged_one_by_one() {
        let ours = key();
        let (trust, place) = (trust(&ours), environment("prod"));
        let signer = Signer::new(place.clone(), ours);
        let (ep1, verified) = (name("ep1"), Verified::new());
        let situation = arriving(&ep1, 1000, &verified);
        let commands: Vec<Command> = (0..600u128)
            .map(|number| {
                let work = WorkPart { id: TaskId(Uuid::from_u128(number)), ..task("worker").work };
                Command::Task(TaskMessage { work, ..task("worker") })
            })
            .collect();
        let to = |command: &Command| Recipients::of(command.subject(), &[name("ep1")]);
        let sealed = |count: usize| {
            let copy = |command| Unsealed { command, to: to(command), answers: None };
            signer.seal_together(commands[..count].iter().map(copy).collect(), at(1000))
        };
        let of = |seal: &Seal| seal.batch.as_ref().map(BatchPath::of);
        for (count, sizes) in [
            (0, vec![]),
            (1, vec![None]),
            (3, vec![Some(3)]),
            (256, vec![Some(256)]),
            (257, vec![Some(256), None]),
            (600, vec![Some(256), Some(256), Some(88)]),
        ] {
            let seals = sealed(count);
            let mut found: Vec<_> = seals.iter().map(|seal| (of(seal), seal.signature)).collect();
            found.dedup();
            assert_eq!(found.into_iter().map(|(of, _)| of).collect::<Vec<_>>(), sizes);
            for (seal, command) in seals.iter().zip(&commands) {
                assert_eq!(trust.judge(command, Some(seal), situation), Ok(()));
            }
        }
        let alone = signer.seal(&commands[0], to(&commands[0]), None, at(1000));
        assert_eq!(sealed(1), std::slice::from_ref(&alone), "the same bytes as ever");

        let seals = sealed(5);
        let batch = |at, of, seal: &Seal| {
            let hashes = seal.batch.as_ref().expect("a path").hashes().to_vec();
            Seal { batch: BatchPath::new(at, of, hashes).ok(), ..seal.clone() }
        };
        let path_of = |own: &Seal, other: &Seal| Seal { batch: other.batch.clone(), ..own.clone() };
        for (what, seal) in [
            ("the seal of another", seals[1].clone()),
            ("the path of another", path_of(&seals[0], &seals[1])),
            ("no path", Seal { batch: None, ..seals[0].clone() }),
            ("a path that needs none", path_of(&alone, &seals[0])),
            ("another place", batch(1, 5, &seals[0])),
            ("another size", batch(0, 6, &seals[0])),
            ("the path of another batch", path_of(&seals[0], &sealed(6)[0])),
            (
                "the signature of another batch",
                Seal { signature: sealed(6)[0].signature, ..seals[0].clone() },
            ),
            (
                "another head",
                Seal { head: SealHead { to: Recipients::All, ..seals[0].head.clone() }, ..seals[0].clone() },
            ),
        ] {
            assert_eq!(
                fault(trust.judge(&commands[0], Some(&seal), situation)),
                Some(SealFault::Forged),
                "{what}"
            );
        }
        // A signature that is known to be good makes nothing else good.
        let good = &seals[0];
        let elsewhere = Trust { environment: environment("dev"), ..trust.clone() };
        let ep2 = name("ep2");
        let by = BTreeSet::from([good.head.by]);
        for (trust, situation, wanted) in [
            (&trust, situation, None),
            (&elsewhere, situation, Some(SealFault::Forged)),
            (&Trust { servers: BTreeMap::new(), ..trust.clone() }, situation, Some(SealFault::UnknownKey)),
            (&trust, Situation { revoked: &by, ..situation }, Some(SealFault::Revoked)),
            (&trust, Situation { now: at(1961), ..situation }, Some(SealFault::Expired)),
            (&trust, Situation { now: at(939), ..situation }, Some(SealFault::Early)),
            (&trust, Situation { endpoint: &ep2, ..situation }, Some(SealFault::Misdirected)),
            (&trust, Situation { now: at(9999), moment: Moment::Waits, ..situation }, None),
        ] {
            assert_eq!(fault(trust.judge(&commands[0], Some(good), situation)), wanted, "{wanted:?}");
        }
    }

    #[test]
    fn a_key_counts_with_a_certificate_of_the_root() {
        let verified = Verified::new();
        let (root, other, server) = (key(), key(), key());
        let (place, public) = (environment("prod"), *server.public());
        let trust = Trust { root: Some(*root.public()), ..Trust::of(place.clone()) };
        let signer = Signer::new(place.clone(), server);
        let ep1 = name("ep1");
        let blank = Certificate {
            public: *public.as_bytes(),
            purpose: Purpose::Tasks,
            types: vec![],
            not_before: at(1000),
            not_after: at(2000),
            signature: [0; 64],
        };
        let only = |task_type: &str| Certificate {
            types: vec![task_type.parse().expect("a type")],
            ..blank.clone()
        };
        let http = Certificate { purpose: Purpose::Http, ..blank.clone() };
        let of_root = |certificate| Some(certify(&root, &place, certificate));
        let command = Command::Task(task("worker"));
        for (certificate, now, wanted) in [
            (None, 1500, Some(SealFault::UnknownKey)),
            (of_root(blank.clone()), 1500, None),
            (of_root(blank.clone()), 939, Some(SealFault::UnknownKey)),
            (of_root(blank.clone()), 940, None),
            (of_root(blank.clone()), 2060, None),
            (of_root(blank.clone()), 2061, Some(SealFault::UnknownKey)),
            (of_root(only("worker")), 1500, None),
            (of_root(only("backup")), 1500, Some(SealFault::NotAllowed)),
            (of_root(http.clone()), 1500, Some(SealFault::NotAllowed)),
            // Says that it is for tasks, while the root key has signed another purpose.
            (
                of_root(http.clone()).map(|made| Certificate { purpose: Purpose::Tasks, ..made }),
                1500,
                Some(SealFault::UnknownKey),
            ),
            (Some(certify(&other, &place, blank.clone())), 1500, Some(SealFault::UnknownKey)),
            (Some(certify(&root, &environment("dev"), blank.clone())), 1500, Some(SealFault::UnknownKey)),
            // Changed after it was certified.
            (
                of_root(blank.clone()).map(|made| Certificate { not_after: at(9000), ..made }),
                1500,
                Some(SealFault::UnknownKey),
            ),
            (
                of_root(only("backup")).map(|made| Certificate { types: vec![], ..made }),
                1500,
                Some(SealFault::UnknownKey),
            ),
            // For another key.
            (
                of_root(Certificate { public: *other.public().as_bytes(), ..blank.clone() }),
                1500,
                Some(SealFault::UnknownKey),
            ),
        ] {
            let seal = signer.seal(&command, Recipients::All, None, at(now));
            let seal = Seal { certificate: certificate.clone(), ..seal };
            let situation = arriving(&ep1, now, &verified);
            assert_eq!(
                fault(trust.judge(&command, Some(&seal), situation)),
                wanted,
                "{certificate:?} at {now}"
            );
            // What came in time may wait for longer, and nothing else is overlooked.
            let waits = Situation { moment: Moment::Waits, now: at(99_999), ..situation };
            let genuine = certificate == of_root(blank.clone()) || certificate == of_root(only("worker"));
            let judged = fault(trust.judge(&command, Some(&seal), waits));
            assert_eq!(judged, wanted.filter(|_| !genuine), "{certificate:?} that waits");
            // No other message counts with a certificate that is not for such messages.
            let cancel = Command::Cancel { task_id: TaskId(Uuid::from_u128(1)) };
            let sealed = Seal {
                certificate: certificate.clone(),
                ..signer.seal(&cancel, Recipients::All, None, at(now))
            };
            let of_types = wanted == Some(SealFault::NotAllowed) && certificate != of_root(http.clone());
            let judged = fault(trust.judge(&cancel, Some(&sealed), situation));
            assert_eq!(judged, wanted.filter(|_| !of_types), "{certificate:?}: a cancel");
            let without = Trust { root: None, ..trust.clone() };
            for situation in [situation, waits] {
                let judged = fault(without.judge(&command, Some(&seal), situation));
                assert_eq!(judged, Some(SealFault::UnknownKey));
            }
        }
    }

    #[test]
    fn a_revoked_key_counts_no_more_and_the_root_key_signs_no_messages() {
        let verified = Verified::new();
        let (root, server, alice) = (key(), key(), key());
        let (place, ep1, id) = (environment("prod"), name("ep1"), Uuid::from_u128(9));
        let update: TaskType = "update".parse().expect("a type");
        let rule = TypeTrust { signers: vec!["alice".to_owned()], ..TypeTrust::default() };
        let trust = Trust {
            root: Some(*root.public()),
            keys: [("alice".to_owned(), *alice.public())].into(),
            types: [(update.clone(), rule)].into(),
            ..Trust::of(place.clone())
        };
        let list = |keys: &[&SigningKey]| Revocations {
            serial: 1,
            keys: keys.iter().map(|key| key.public().id()).collect(),
            signature: [0; 64],
        };
        let both = revoke(&root, &place, list(&[&server, &alice]));
        assert!(trust.vouches_for(&both));
        for other in [
            list(&[&server]),
            Revocations { serial: 2, ..both.clone() },
            Revocations { keys: BTreeSet::new(), ..both.clone() },
            revoke(&server, &place, list(&[])),
            revoke(&root, &environment("dev"), list(&[])),
        ] {
            assert!(!trust.vouches_for(&other), "{other:?}");
        }
        let certificate = |public: &PublicKey| {
            let blank = Certificate {
                public: *public.as_bytes(),
                purpose: Purpose::Tasks,
                types: vec![],
                not_before: at(1000),
                not_after: at(2000),
                signature: [0; 64],
            };
            certify(&root, &place, blank)
        };
        let order = Order {
            id,
            environment: place.clone(),
            task_type: update.clone(),
            not_after: at(2000),
            to: Recipients::All,
            signatures: vec![],
        };
        let payload = json(&"now");
        let signatures = vec![sign_order(&alice, &order, &payload)];
        let ordered = json(&Ordered { order: Order { signatures, ..order }, payload });
        let ordered = WorkPart { payload: ordered, ..task("update").work };
        let ordered = Command::Task(TaskMessage { work: ordered, ..task("update") });
        let plain = Command::Task(task("worker"));
        let nobody = BTreeSet::new();
        let only = |key: &SigningKey| BTreeSet::from([key.public().id()]);
        let (server_alone, alice_alone) = (only(&server), only(&alice));
        let certificates = [certificate(server.public()), certificate(root.public())];
        let [of_server, of_root] =
            [(server, 0), (root, 1)].map(|(key, at)| (Signer::new(place.clone(), key), &certificates[at]));
        for ((signer, certificate), command, revoked, wanted) in [
            (&of_server, &plain, &nobody, None),
            (&of_server, &ordered, &nobody, None),
            (&of_server, &plain, &server_alone, Some(SealFault::Revoked)),
            (&of_server, &plain, &alice_alone, None),
            (&of_server, &ordered, &alice_alone, Some(SealFault::Unapproved)),
            (&of_root, &plain, &nobody, Some(SealFault::UnknownKey)),
        ] {
            let seal = signer.seal(command, Recipients::All, None, at(1500));
            let seal = Seal { certificate: Some((*certificate).clone()), ..seal };
            for moment in [Moment::Arrives, Moment::Waits] {
                let situation = Situation { moment, revoked, ..arriving(&ep1, 1500, &verified) };
                assert_eq!(fault(trust.judge(command, Some(&seal), situation)), wanted, "{revoked:?}");
            }
        }
    }

    #[test]
    fn persons_are_counted_and_nobody_twice() {
        let verified = Verified::new();
        let keys = ["alice", "bob", "carol", "mallory"].map(|name| (name, key()));
        let [alice, bob, carol, mallory] = &keys;
        let update: TaskType = "update".parse().expect("a type");
        let rule = TypeTrust {
            signers: vec!["alice".to_owned(), "bob".to_owned()],
            threshold: Some(2),
            max_payload: None,
        };
        // Carol is known, and not for this type.
        let known = [alice, bob, carol].map(|(name, key)| ((*name).to_owned(), *key.public()));
        let trust = Trust {
            keys: known.into(),
            types: [(update.clone(), rule)].into(),
            ..Trust::of(environment("prod"))
        };
        let (ep1, id) = (name("ep1"), Uuid::from_u128(9));
        let order = || Order {
            id,
            environment: environment("prod"),
            task_type: update.clone(),
            not_after: at(2000),
            to: Recipients::of(id, [&ep1]),
            signatures: vec![],
        };
        let payload = || json(&"now");
        let signed = |mut order: Order, by: &[&(&str, SigningKey)]| {
            order.signatures = by.iter().map(|(_, key)| sign_order(key, &order, &payload())).collect();
            Ordered { order, payload: payload() }
        };
        let both = || signed(order(), &[alice, bob]);
        let judge = |ordered: &Ordered, now, endpoint: &EndpointName| {
            let work = WorkPart { payload: json(ordered), ..task("update").work };
            let command = Command::Task(TaskMessage { work, ..task("update") });
            let situation = arriving(endpoint, now, &verified);
            fault(trust.judge_unsealed(&command, situation))
        };
        let unapproved = Some(SealFault::Unapproved);
        let changed = |change: fn(&mut Ordered)| {
            let mut ordered = both();
            change(&mut ordered);
            ordered
        };
        for (what, ordered, now, wanted) in [
            ("two persons", both(), 1500, None),
            ("in the other order", signed(order(), &[bob, alice]), 1500, None),
            ("with a third", signed(order(), &[mallory, bob, carol, alice]), 1500, None),
            ("one person", signed(order(), &[alice]), 1500, unapproved),
            ("one person twice", signed(order(), &[alice, alice]), 1500, unapproved),
            ("one of another type", signed(order(), &[alice, carol]), 1500, unapproved),
            ("a stranger", signed(order(), &[alice, mallory]), 1500, unapproved),
            ("nobody", signed(order(), &[]), 1500, unapproved),
            ("at its end", both(), 2060, None),
            ("after its end", both(), 2061, Some(SealFault::Expired)),
            ("another payload", changed(|ordered| ordered.payload = json(&"never")), 1500, unapproved),
            ("a later end", changed(|ordered| ordered.order.not_after = at(9000)), 1500, unapproved),
            ("for all", changed(|ordered| ordered.order.to = Recipients::All), 1500, unapproved),
            (
                "under another name",
                changed(|ordered| ordered.order.id = Uuid::from_u128(8)),
                1500,
                unapproved,
            ),
            (
                "the signature of another",
                changed(|ordered| ordered.order.signatures[1].by = ordered.order.signatures[0].by),
                1500,
                unapproved,
            ),
            (
                "another environment",
                signed(Order { environment: environment("dev"), ..order() }, &[alice, bob]),
                1500,
                unapproved,
            ),
            (
                "another type",
                signed(Order { task_type: "backup".parse().expect("a type"), ..order() }, &[alice, bob]),
                1500,
                unapproved,
            ),
        ] {
            assert_eq!(judge(&ordered, now, &ep1), wanted, "{what}");
        }
        assert_eq!(judge(&both(), 1500, &name("ep2")), Some(SealFault::Misdirected));
        let bare = Command::Task(task("update"));
        let situation = Situation { tolerance: Duration::ZERO, ..arriving(&ep1, 1500, &verified) };
        assert_eq!(fault(trust.judge_unsealed(&bare, situation)), unapproved);
    }

    #[test]
    fn a_message_about_http_tasks_counts_on_its_way_for_a_while() {
        let verified = Verified::new();
        let (root, caller, place) = (key(), key(), environment("prod"));
        let trust = Trust {
            root: Some(*root.public()),
            servers: [("caller".to_owned(), *caller.public())].into(),
            ..Trust::of(place.clone())
        };
        let certified = |purpose: Purpose, types: &[&str]| {
            let key = key();
            let certificate = Certificate {
                public: *key.public().as_bytes(),
                purpose,
                types: types.iter().map(|name| name.parse().expect("a type")).collect(),
                not_before: at(0),
                not_after: at(9000),
                signature: [0; 64],
            };
            let signer = Signer::new(place.clone(), key);
            signer.with_certificate(certify(&root, &place, certificate), purpose).expect("of this key")
        };
        let ours = Signer::new(place.clone(), caller);
        let (http, tasks) = (certified(Purpose::Http, &[]), certified(Purpose::Tasks, &[]));
        let typed = certified(Purpose::Http, &["worker"]);
        let (stranger, life) = (Signer::new(place.clone(), key()), Duration::from_secs(100));
        let gone = certified(Purpose::Http, &[]);
        let revoked = BTreeSet::from([gone.key()]);
        let (now, tolerance) = (at(1000), Duration::from_secs(60));
        let situation = HttpSituation { now, tolerance, revoked: &revoked, verified: &verified };
        // Sealed at 1000 for the way `work`.
        for (signer, way, message, now, wanted) in [
            (Some(&ours), "work", &b"1"[..], 1000, None),
            (Some(&http), "work", b"1", 1000, None),
            (Some(&ours), "work", b"1", 940, None),
            (Some(&ours), "work", b"1", 939, Some(SealFault::Early)),
            (Some(&ours), "work", b"1", 1160, None),
            (Some(&ours), "work", b"1", 1161, Some(SealFault::Expired)),
            (Some(&ours), "workers", b"1", 1000, Some(SealFault::Forged)),
            (Some(&ours), "work", b"2", 1000, Some(SealFault::Forged)),
            (Some(&tasks), "work", b"1", 1000, Some(SealFault::NotAllowed)),
            (Some(&typed), "work", b"1", 1000, Some(SealFault::NotAllowed)),
            (Some(&stranger), "work", b"1", 1000, Some(SealFault::UnknownKey)),
            (Some(&gone), "work", b"1", 1000, Some(SealFault::Revoked)),
            (None, "work", b"1", 1000, Some(SealFault::Unsigned)),
        ] {
            let seal = signer.map(|signer| signer.seal_http("work", b"1", life, at(1000)));
            let judged =
                trust.judge_http(way, message, seal.as_ref(), HttpSituation { now: at(now), ..situation });
            assert_eq!(fault(judged), wanted, "{way} {message:?} {now}");
        }
    }

    #[test]
    fn copies_count_for_a_while() {
        let verified = Verified::new();
        let ours = key();
        let trust = trust(&ours);
        let signer = Signer::new(environment("prod"), ours);
        let ep1 = name("ep1");
        let short = TaskMessage { expires_in: Duration::from_secs(30), ..task("worker") };
        let welcome = Command::Welcome {
            session: Uuid::from_u128(1),
            presence_interval: Duration::from_secs(1),
            reads: WireVersion::Two,
            task_type: None,
            revocations: None,
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
            let situation = arriving(&ep1, now, &verified);
            let age = || welcomed_at.map_or(Ok(()), |welcome| judge_age(&command, &seal.head, at(welcome)));
            let judged = trust.judge(&command, Some(&seal), situation).and_then(|()| age());
            assert_eq!(fault(judged), wanted, "{command:?} {welcomed_at:?} {now}");
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
            ("environment: a\ntypes: {a: {signers: [bob]}}".to_owned(), "unknown signer"),
            ("environment: a\ntypes: {a: {threshold: 1}}".to_owned(), "needs `signers`"),
            (
                format!(
                    "environment: a\nkeys: {{al: \"{key}\"}}\ntypes: {{a: {{signers: [al], threshold: 2}}}}"
                ),
                "threshold is 2; expected 1 to 1",
            ),
            (
                format!("environment: a\nkeys: {{al: \"{key}\"}}\ntypes: {{a: {{signers: [al, al]}}}}"),
                "twice",
            ),
            (format!("environment: a\nservers: {{b: \"{key}\"}}\nkeys: {{al: \"{key}\"}}"), "the same key"),
            (format!("environment: a\nroot: \"{key}\"\nservers: {{b: \"{key}\"}}"), "`b` is the root key"),
            (format!("environment: a\nservers: {{root: \"{key}\"}}"), "`root` is the root key"),
            (format!("environment: a\nservers: {{\"a b\": \"{key}\"}}"), "not a name of a key"),
            ("environment: a\nroot: AAAA".to_owned(), "not a public key"),
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
