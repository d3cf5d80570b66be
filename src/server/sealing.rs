//! Seals messages of an API process on their way to the broker, if it has a key.
//!
//! Owns the choice of copies: a seal names at most [`Recipients::MOST`] receivers, so a message for more goes
//! out in several copies, each with a seal of its own. Copies that go out together share signatures, if their
//! receivers read that; none waits for others. Without a key, messages go out as they are.

use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::{Address, BrokerError, Message, SharedBroker, wire};
use crate::clock::Clock;
use crate::domain::{Command, EndpointName, Recipients, Revocations, Timestamp, WireVersion};
use crate::signing::{Signer, Unsealed};

/// From so many copies on, they are sealed on a thread of their own: a signature takes some 25 microseconds, and
/// so do the hashes of a copy for many receivers. Other tasks of the thread would wait for all of them.
const MANY: usize = 32;
/// Bytes of payloads that are sealed before they are published: each copy has its own, and one task may have
/// 800 of them.
const TOGETHER: usize = 8 << 20;

/// A message that is to be sealed.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What it says.
    pub command: Command,
    /// The version to write it in.
    pub version: WireVersion,
    /// Everything else; the body is still empty.
    pub message: Message,
    /// When the message was sent that this one answers, by the clock of its receiver.
    pub answers: Option<Timestamp>,
}

/// Seals and publishes.
#[derive(Debug, Clone)]
pub struct Sealer {
    signer: Option<Arc<Signer>>,
    broker: SharedBroker,
    clock: Clock,
}

impl Sealer {
    /// One that publishes with this broker; without a signer, nothing is sealed.
    pub const fn new(signer: Option<Arc<Signer>>, broker: SharedBroker, clock: Clock) -> Self {
        Self { signer, broker, clock }
    }

    /// The list of keys that count no more, which goes with each welcome.
    pub fn revocations(&self) -> Option<&Arc<Revocations>> {
        self.signer.as_ref()?.revocations()
    }

    /// Publishes drafts. Returns one result for each, in order: of those that went out in several copies the
    /// first error.
    pub async fn publish(&self, drafts: Vec<Draft>) -> Vec<Result<(), BrokerError>> {
        let Some(signer) = self.signer.clone() else {
            let encode = |Draft { command, version, message, .. }| {
                let body = wire::encode_command(&command, version);
                Message { body, ..message }
            };
            return self.broker.publish(drafts.into_iter().map(encode).collect()).await;
        };
        let count = drafts.len();
        let (mut copies, mut owners) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (owner, draft) in drafts.into_iter().enumerate() {
            let before = copies.len();
            split(draft, &mut copies);
            owners.resize(owners.len() + copies.len() - before, owner);
        }
        let now = self.clock.now();
        let mut results = vec![Ok(()); count];
        let (mut copies, mut owners) = (copies.into_iter().peekable(), owners.into_iter());
        while copies.peek().is_some() {
            let (slice, signer) = (slice(&mut copies), signer.clone());
            let many = slice.len() >= MANY;
            let seal = move || sealed(&signer, slice, now);
            // What was not sent because the process ends is asked for again.
            let Some(messages) = aside_if(many, seal).await else {
                return vec![Err(BrokerError::Closed); count];
            };
            for (result, owner) in self.broker.publish(messages).await.into_iter().zip(owners.by_ref()) {
                let of_owner: &mut Result<(), BrokerError> = &mut results[owner];
                if of_owner.is_ok() {
                    *of_owner = result;
                }
            }
        }
        results
    }

    /// The bytes of commands, each in its version, for one receiver that gets them another way than through the
    /// broker; `reads` is the newest version that it reads.
    pub async fn encode(
        &self,
        commands: Vec<(Command, WireVersion)>,
        to: &EndpointName,
        reads: WireVersion,
    ) -> Vec<Bytes> {
        let Some(signer) = self.signer.clone() else {
            let encode = |(command, version): &_| wire::encode_command(command, *version);
            return commands.iter().map(encode).collect();
        };
        let (to, now) = (to.clone(), self.clock.now());
        let many = commands.len() >= MANY;
        let encode = move || {
            let one = |(command, version): (Command, WireVersion)| {
                let to = Recipients::of(command.subject(), [&to]);
                Blank { command: command.in_version(version), version, reads, to, answers: None }
            };
            written(&signer, &commands.into_iter().map(one).collect::<Vec<_>>(), now)
        };
        // Nothing while the process ends: the worker asks another one.
        aside_if(many, encode).await.unwrap_or_default()
    }
}

/// Does work at once or, if it is much, on a thread for such work. Nothing when the process ends before.
///
/// # Panics
/// When the work does.
async fn aside_if<T: Send + 'static>(much: bool, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if !much {
        return Some(work());
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(_) => None,
    }
}

/// The next copies that are sealed together: at least one, and no more than the bytes that may wait for the
/// broker at a time.
fn slice(copies: &mut Peekable<impl Iterator<Item = Draft>>) -> Vec<Draft> {
    let mut bytes = 0;
    let mut slice = Vec::new();
    while let Some(copy) = copies.next_if(|_| bytes < TOGETHER) {
        if let Command::Task(task) = &copy.command {
            bytes += task.work.payload.get().len();
        }
        slice.push(copy);
    }
    slice
}

/// A draft as copies with few enough receivers.
fn split(draft: Draft, copies: &mut Vec<Draft>) {
    let (Address::Named(task_type, names) | Address::Control(task_type, names)) = &draft.message.to else {
        return copies.push(draft);
    };
    if names.len() <= Recipients::MOST {
        return copies.push(draft);
    }
    let control = matches!(draft.message.to, Address::Control(..));
    for some in names.chunks(Recipients::MOST) {
        let (task_type, some) = (task_type.clone(), some.to_vec());
        let to = if control { Address::Control(task_type, some) } else { Address::Named(task_type, some) };
        copies.push(Draft { message: Message { to, ..draft.message.clone() }, ..draft.clone() });
    }
}

/// A copy without its seal.
#[derive(Debug)]
struct Blank {
    /// What travels in the version: the seal is of that and of nothing else.
    command: Command,
    version: WireVersion,
    /// What all receivers read.
    reads: WireVersion,
    to: Recipients,
    answers: Option<Timestamp>,
}

impl Blank {
    /// Whether its receivers read a signature that it shares with others.
    fn shares(&self) -> bool {
        self.reads >= WireVersion::Five
    }

    fn unsealed(&self) -> Unsealed<'_> {
        Unsealed { command: &self.command, to: self.to.clone(), answers: self.answers }
    }
}

fn sealed(signer: &Signer, copies: Vec<Draft>, now: Timestamp) -> Vec<Message> {
    let blank = |Draft { command, version, message, answers }: Draft| {
        let to = match &message.to {
            Address::Named(_, names) | Address::Control(_, names) => Recipients::of(command.subject(), names),
            _ => Recipients::All,
        };
        let command = command.in_version(version);
        (Blank { command, version, reads: version, to, answers }, message)
    };
    let (blanks, messages): (Vec<_>, Vec<_>) = copies.into_iter().map(blank).unzip();
    let bodies = written(signer, &blanks, now).into_iter();
    messages.into_iter().zip(bodies).map(|(message, body)| Message { body, ..message }).collect()
}

/// The bytes of copies with their seals, in order.
fn written(signer: &Signer, copies: &[Blank], now: Timestamp) -> Vec<Bytes> {
    let together = copies.iter().filter(|copy| copy.shares()).map(Blank::unsealed).collect();
    let mut shared = signer.seal_together(together, now).into_iter();
    let one = |copy: &Blank| {
        let seal = if copy.shares() { shared.next() } else { None };
        let seal = seal.unwrap_or_else(|| signer.seal(&copy.command, copy.to.clone(), copy.answers, now));
        wire::encode_sealed(&copy.command, copy.version, &seal)
    };
    copies.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{TaskId, TaskMessage, WorkPart};

    fn names(count: usize) -> Vec<EndpointName> {
        (0..count).map(|number| format!("ep{number}").parse().expect("a name")).collect()
    }

    #[test]
    fn long_lists_go_out_in_several_copies() {
        let task_type = || "worker".parse().expect("a type");
        for (to, sizes) in [
            (Address::All(task_type()), vec![]),
            (Address::Named(task_type(), names(1)), vec![1]),
            (Address::Named(task_type(), names(64)), vec![64]),
            (Address::Named(task_type(), names(65)), vec![64, 1]),
            (Address::Control(task_type(), names(200)), vec![64, 64, 64, 8]),
        ] {
            let draft = Draft {
                command: Command::Cancel { task_id: TaskId::new() },
                version: WireVersion::One,
                message: Message::new(to.clone(), Bytes::new()),
                answers: None,
            };
            let mut copies = Vec::new();
            split(draft, &mut copies);
            let lists: Vec<&[EndpointName]> = copies
                .iter()
                .filter_map(|copy| match (&copy.message.to, &to) {
                    (Address::Named(_, names), Address::Named(..))
                    | (Address::Control(_, names), Address::Control(..)) => Some(names.as_slice()),
                    _ => None,
                })
                .collect();
            assert_eq!(lists.iter().map(|list| list.len()).collect::<Vec<_>>(), sizes);
            assert_eq!(lists.concat(), names(sizes.iter().sum()));
        }
    }

    #[test]
    fn copies_share_a_signature_where_that_is_read() {
        let (key, _) = crate::signing::SigningKey::create().expect("a key");
        let signer = Signer::new("prod".parse().expect("a name"), key);
        let copies = |versions: &[WireVersion]| -> Vec<Blank> {
            let copy = |version: &WireVersion| Blank {
                command: Command::Cancel { task_id: TaskId::new() },
                version: *version,
                reads: *version,
                to: Recipients::All,
                answers: None,
            };
            versions.iter().map(copy).collect()
        };
        use WireVersion::{Five, Four, One};
        for (versions, batches) in [
            (&[][..], &[][..]),
            (&[Five], &[None]),
            (&[Four, Four, One], &[None, None, None]),
            (&[Five, Four, Five, One, Five], &[Some((0, 3)), None, Some((1, 3)), None, Some((2, 3))]),
            (&[Four, Five, One], &[None, None, None]),
        ] {
            let copies = copies(versions);
            let bodies = written(&signer, &copies, Timestamp::from_micros(1_000_000));
            assert_eq!(bodies.len(), copies.len());
            let read = |(body, copy): (&Bytes, &Blank)| {
                let (command, _, seal) = wire::decode_sealed(body).expect("a command");
                assert_eq!(command.subject(), copy.command.subject(), "in order");
                seal.expect("a seal").batch.map(|path| (path.at(), path.of()))
            };
            assert_eq!(bodies.iter().zip(&copies).map(read).collect::<Vec<_>>(), batches, "{versions:?}");
        }
    }

    #[test]
    fn few_bytes_are_sealed_at_a_time() {
        let copy = |bytes: usize| {
            let payload = crate::domain::json(&"x".repeat(bytes));
            let work = WorkPart {
                id: TaskId::new(),
                task_type: "worker".parse().expect("a type"),
                identifier: "one".parse().expect("an identifier"),
                audience: None,
                not_after: None,
                payload,
            };
            let task = TaskMessage { work, expires_in: Duration::ZERO, received: false, attempts: vec![] };
            Draft {
                command: Command::Task(task),
                version: WireVersion::Two,
                message: Message::new(Address::All("worker".parse().expect("a type")), Bytes::new()),
                answers: None,
            }
        };
        let mut copies =
            vec![copy(1); 3].into_iter().chain(vec![copy(TOGETHER); 2]).chain([copy(1)]).peekable();
        let sizes: Vec<usize> =
            std::iter::from_fn(|| Some(slice(&mut copies).len()).filter(|size| *size > 0)).collect();
        assert_eq!(sizes, [4, 1, 1]);
    }
}
