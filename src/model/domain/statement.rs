//! What is signed: each message as bytes that can be made of its fields in one way alone.
//!
//! A statement is a sequence of fields, each with its length before it. The first one names the kind of the
//! statement, the second one the environment: a signature of one kind or environment counts in no other. Two
//! statements with equal bytes have equal fields.
//!
//! Messages that go out together may be signed together. Then each has the statement that it has alone, these
//! are the leaves of a tree ([`BatchPath`]), and what is signed is the statement of the tree.

use sha2::{Digest, Sha256};

use super::{
    AttemptError, Audience, BatchPath, Certificate, Command, EnvironmentName, Json, KeyId, Order, Purpose,
    Recipients, Revocations, SealHead, TaskMessage, Timestamp, TreeHash, WorkPart,
};

/// A statement that is being made.
struct Statement(Vec<u8>);

impl Statement {
    fn new(kind: &str, environment: &EnvironmentName) -> Self {
        Self(Vec::with_capacity(256)).field(kind).field(environment.as_str())
    }

    /// # Panics
    /// When a field has 4 GiB: no message is that long.
    fn field(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let length = u32::try_from(bytes.len()).expect("a field of a message is shorter than 4 GiB");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// A field that may be absent, which is something else than an empty one.
    fn optional(self, bytes: Option<impl AsRef<[u8]>>) -> Self {
        match bytes {
            None => self.field([]),
            Some(bytes) => self.field([&[1], bytes.as_ref()].concat()),
        }
    }

    fn time(self, time: Timestamp) -> Self {
        self.field(millis(time))
    }
}

/// A time as it travels: other digits do not arrive, so they are not signed.
fn millis(time: Timestamp) -> [u8; 8] {
    time.as_millis().to_be_bytes()
}

/// What a task is: the same in every copy of it.
pub fn of_work(environment: &EnvironmentName, by: KeyId, work: &WorkPart) -> Vec<u8> {
    let WorkPart { id, task_type, identifier, audience, not_after, payload } = work;
    let audience = audience.map(|audience| match audience {
        Audience::All => b"*".to_vec(),
        Audience::Listed(hash) => hash.to_vec(),
    });
    Statement::new("tasker/work/1", environment)
        .field(by.as_bytes())
        .field(id.0.as_bytes())
        .field(task_type.as_str())
        .field(identifier.as_str())
        .optional(audience)
        .optional(not_after.map(millis))
        .field(Sha256::digest(payload.get()))
        .0
}

/// That a key may sign for a purpose, as the root key says. The first version knows one purpose and does not name
/// it.
pub fn of_certificate(environment: &EnvironmentName, root: KeyId, certificate: &Certificate) -> Vec<u8> {
    let Certificate { public, purpose, types, not_before, not_after, signature: _ } = certificate;
    let statement = match purpose {
        Purpose::Tasks => Statement::new("tasker/certificate/1", environment),
        Purpose::Http => Statement::new("tasker/certificate/2", environment).field(purpose.as_str()),
    };
    let statement = statement.field(root.as_bytes()).field(public).time(*not_before).time(*not_after);
    types.iter().fold(statement, |statement, task_type| statement.field(task_type.as_str())).0
}

/// That keys count no more, as the root key says.
pub fn of_revocations(environment: &EnvironmentName, root: KeyId, revocations: &Revocations) -> Vec<u8> {
    let Revocations { serial, keys, signature: _ } = revocations;
    let statement = Statement::new("tasker/revocations/1", environment)
        .field(root.as_bytes())
        .field(serial.to_be_bytes());
    keys.iter().fold(statement, |statement, key| statement.field(key.as_bytes())).0
}

/// An order with its payload, as one person signs it.
pub fn of_order(order: &Order, by: KeyId, payload: &Json) -> Vec<u8> {
    let Order { id, environment, task_type, not_after, to, signatures: _ } = order;
    Statement::new("tasker/order/1", environment)
        .field(by.as_bytes())
        .field(id.as_bytes())
        .field(task_type.as_str())
        .time(*not_after)
        .optional(tags(to))
        .field(Sha256::digest(payload.get()))
        .0
}

/// The tags of receivers; none of all.
fn tags(to: &Recipients) -> Option<Vec<u8>> {
    match to {
        Recipients::All => None,
        Recipients::Listed(tags) => Some(tags.concat()),
    }
}

/// What every seal says.
fn of_head(kind: &str, environment: &EnvironmentName, head: &SealHead) -> Statement {
    let SealHead { by, issued_at, not_after, to, answers } = head;
    Statement::new(kind, environment)
        .field(by.as_bytes())
        .time(*issued_at)
        .time(*not_after)
        .optional(tags(to))
        .optional(answers.map(millis))
}

/// A message about HTTP tasks that goes this way, as its caller signs it.
pub fn of_http(environment: &EnvironmentName, head: &SealHead, way: &str, message: &[u8]) -> Vec<u8> {
    of_head("tasker/http/1", environment, head).field(way).field(Sha256::digest(message)).0
}

/// All statements of a batch: how many they are, and the root of their tree.
pub fn of_batch(environment: &EnvironmentName, by: KeyId, size: usize, root: &TreeHash) -> Vec<u8> {
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    Statement::new("tasker/batch/1", environment).field(by.as_bytes()).field(size.to_be_bytes()).field(root).0
}

/// What was signed with this key, if a message with this statement has this path: the batch to which the path
/// leads, or the statement itself.
pub fn signed(
    environment: &EnvironmentName,
    by: KeyId,
    statement: Vec<u8>,
    path: Option<&BatchPath>,
) -> Vec<u8> {
    match path {
        None => statement,
        Some(path) => of_batch(environment, by, path.of(), &path.root(&statement)),
    }
}

/// One copy of a message.
pub fn of_copy(environment: &EnvironmentName, head: &SealHead, command: &Command) -> Vec<u8> {
    let kind = match command {
        Command::Task(_) => "tasker/delivery/1",
        Command::Cancel { .. } => "tasker/cancel/1",
        Command::Withdraw { .. } => "tasker/withdraw/1",
        Command::Welcome { task_type: None, .. } => "tasker/welcome/1",
        Command::Welcome { .. } => "tasker/welcome/2",
    };
    let statement = of_head(kind, environment, head);
    match command {
        Command::Task(TaskMessage { work, expires_in, received, attempts }) => statement
            .field(Sha256::digest(of_work(environment, head.by, work)))
            .field(expires_in.as_millis().to_be_bytes())
            .field([u8::from(*received)])
            .field(of_attempts(attempts)),
        Command::Cancel { task_id } | Command::Withdraw { task_id } => statement.field(task_id.0.as_bytes()),
        Command::Welcome { session, presence_interval, reads, task_type, revocations } => {
            let statement = statement
                .field(session.as_bytes())
                .field(presence_interval.as_millis().to_be_bytes())
                .field([reads.number()]);
            match task_type {
                None => statement,
                // The list has a signature of its own, and nobody is to take it out or exchange it.
                Some(task_type) => statement
                    .field(task_type.as_str())
                    .optional(revocations.as_ref().map(|revocations| revocations.signature)),
            }
        }
    }
    .0
}

/// Attempts elsewhere, in one field of 32 bytes: each of them may have a long text.
fn of_attempts(attempts: &[AttemptError]) -> [u8; 32] {
    let all = attempts.iter().fold(Statement(Vec::new()), |all, attempt| {
        let AttemptError { attempt, errnr, errmsg } = attempt;
        all.field(attempt.to_be_bytes()).field(errnr.to_be_bytes()).field(errmsg)
    });
    Sha256::digest(all.0).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{EndpointName, TaskId, WireVersion};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn environment(name: &str) -> EnvironmentName {
        name.parse().expect("a name")
    }

    fn payload(text: &str) -> super::super::Json {
        serde_json::from_str(text).expect("JSON")
    }

    fn work() -> WorkPart {
        WorkPart {
            id: TaskId(Uuid::from_u128(1)),
            task_type: "worker".parse().expect("a type"),
            identifier: "one".parse().expect("an identifier"),
            audience: Some(Audience::All),
            not_after: Some(Timestamp::from_micros(5_000)),
            payload: payload("1"),
        }
    }

    fn task() -> TaskMessage {
        TaskMessage { work: work(), expires_in: Duration::from_millis(7), received: false, attempts: vec![] }
    }

    fn head() -> SealHead {
        SealHead {
            by: KeyId::of(b"a"),
            issued_at: Timestamp::from_micros(1_000),
            not_after: Timestamp::from_micros(2_000),
            to: Recipients::All,
            answers: None,
        }
    }

    /// Everything that differs in one place has a statement of its own.
    #[test]
    fn no_field_can_be_exchanged() {
        let name = |text: &str| text.parse::<EndpointName>().expect("a name");
        let works = [
            work(),
            WorkPart { id: TaskId(Uuid::from_u128(2)), ..work() },
            WorkPart { task_type: "backup".parse().expect("a type"), ..work() },
            WorkPart { identifier: "on".parse().expect("an identifier"), ..work() },
            WorkPart { audience: None, ..work() },
            WorkPart { audience: Some(Audience::of(&[name("a")])), ..work() },
            WorkPart { not_after: None, ..work() },
            WorkPart { not_after: Some(Timestamp::from_micros(6_000)), ..work() },
            WorkPart { payload: payload("1.0"), ..work() },
            WorkPart { payload: payload("[1]"), ..work() },
        ];
        let attempt = |errmsg: &str| AttemptError { attempt: 1, errnr: 2, errmsg: errmsg.to_owned() };
        let tasks = works.into_iter().map(|work| TaskMessage { work, ..task() }).chain([
            TaskMessage { expires_in: Duration::from_millis(8), ..task() },
            TaskMessage { received: true, ..task() },
            TaskMessage { attempts: vec![attempt("")], ..task() },
            TaskMessage { attempts: vec![attempt("x")], ..task() },
        ]);
        let (id, session) = (TaskId(Uuid::from_u128(1)), Uuid::from_u128(1));
        let welcome = |session, secs, reads| Command::Welcome {
            session,
            presence_interval: Duration::from_secs(secs),
            reads,
            task_type: None,
            revocations: None,
        };
        let of_type = |task_type: &str, signed: Option<u8>| Command::Welcome {
            session,
            presence_interval: Duration::from_secs(1),
            reads: WireVersion::One,
            task_type: Some(task_type.parse().expect("a type")),
            revocations: signed
                .map(|byte| Revocations { serial: 1, keys: [].into(), signature: [byte; 64] }.into()),
        };
        let commands: Vec<Command> = tasks
            .map(Command::Task)
            .chain([
                Command::Cancel { task_id: id },
                Command::Cancel { task_id: TaskId(Uuid::from_u128(2)) },
                Command::Withdraw { task_id: id },
                welcome(session, 1, WireVersion::One),
                welcome(Uuid::from_u128(2), 1, WireVersion::One),
                welcome(session, 2, WireVersion::One),
                welcome(session, 1, WireVersion::Two),
                of_type("worker", None),
                of_type("backup", None),
                of_type("worker", Some(1)),
                of_type("worker", Some(2)),
            ])
            .collect();
        let later = Timestamp::from_micros(3_000);
        let heads = [
            head(),
            SealHead { by: KeyId::of(b"b"), ..head() },
            SealHead { issued_at: later, ..head() },
            SealHead { not_after: later, ..head() },
            SealHead { to: Recipients::of(session, []), ..head() },
            SealHead { to: Recipients::of(session, &[name("a")]), ..head() },
            SealHead { to: Recipients::of(session, &[name("a"), name("b")]), ..head() },
            SealHead { answers: Some(later), ..head() },
        ];
        let mut statements = std::collections::BTreeSet::new();
        let mut count = 0;
        for place in ["prod", "dev", "prod.dev"] {
            for head in &heads {
                for command in &commands {
                    count += 1;
                    statements.insert(of_copy(&environment(place), head, command));
                }
            }
        }
        assert_eq!((statements.len(), count), (count, 3 * 8 * 25));
    }

    #[test]
    fn a_message_about_http_tasks_counts_in_one_place() {
        let heads = [head(), SealHead { by: KeyId::of(b"b"), ..head() }];
        let mut statements = std::collections::BTreeSet::new();
        for (place, way, message) in [
            ("prod", "work a", &b"1"[..]),
            ("dev", "work a", b"1"),
            ("prod", "work b", b"1"),
            ("prod", "work a", b"2"),
            ("prod", "work a1", b""),
        ] {
            statements.extend(heads.iter().map(|head| of_http(&environment(place), head, way, message)));
        }
        assert_eq!(statements.len(), 10);
    }

    #[test]
    fn a_batch_has_a_statement_of_its_own() {
        let mut statements = std::collections::BTreeSet::new();
        for (place, by) in [("prod", b"a"), ("dev", b"a"), ("prod", b"b")] {
            for (size, root) in [(2, [0; 32]), (3, [0; 32]), (2, [1; 32])] {
                statements.insert(of_batch(&environment(place), KeyId::of(by), size, &root));
            }
        }
        assert_eq!(statements.len(), 9);
    }

    #[test]
    fn a_certificate_counts_for_one_purpose() {
        let first = Certificate {
            public: [1; 32],
            purpose: Purpose::Tasks,
            types: vec![],
            not_before: Timestamp::from_micros(1_000),
            not_after: Timestamp::from_micros(2_000),
            signature: [0; 64],
        };
        let later = Timestamp::from_micros(3_000);
        let certificates = Purpose::ALL.into_iter().flat_map(|purpose| {
            [
                Certificate { purpose, ..first.clone() },
                Certificate { purpose, public: [2; 32], ..first.clone() },
                Certificate { purpose, types: vec!["worker".parse().expect("a type")], ..first.clone() },
                Certificate { purpose, not_before: later, ..first.clone() },
                Certificate { purpose, not_after: later, ..first.clone() },
            ]
        });
        let mut statements = std::collections::BTreeSet::new();
        for certificate in certificates {
            for (place, root) in [("prod", b"a"), ("dev", b"a"), ("prod", b"b")] {
                statements.insert(of_certificate(&environment(place), KeyId::of(root), &certificate));
            }
        }
        assert_eq!(statements.len(), 30);
        // Of tasks alone it is written, and signed, as before there were purposes.
        let text = serde_json::to_string(&first).expect("JSON");
        assert!(!text.contains("\"for\""), "{text}");
        assert_eq!(serde_json::from_str::<Certificate>(&text).expect("reads what it writes"), first);
        let http = Certificate { purpose: Purpose::Http, ..first };
        let text = serde_json::to_string(&http).expect("JSON");
        assert!(text.contains(r#""for":"http""#), "{text}");
        assert_eq!(serde_json::from_str::<Certificate>(&text).expect("reads what it writes"), http);
    }

    #[test]
    fn a_list_of_keys_has_a_statement_of_its_own() {
        let list = |serial, keys: &[&[u8]]| Revocations {
            serial,
            keys: keys.iter().map(|key| KeyId::of(key)).collect(),
            signature: [0; 64],
        };
        let mut statements = std::collections::BTreeSet::new();
        for (place, root) in [("prod", b"a"), ("dev", b"a"), ("prod", b"b")] {
            for list in
                [list(1, &[]), list(2, &[]), list(1, &[b"x"]), list(1, &[b"y"]), list(1, &[b"x", b"y"])]
            {
                statements.insert(of_revocations(&environment(place), KeyId::of(root), &list));
            }
        }
        assert_eq!(statements.len(), 15);
    }

    #[test]
    fn digits_that_do_not_travel_are_not_signed() {
        let place = environment("prod");
        let precise = WorkPart { not_after: Some(Timestamp::from_micros(5_999)), ..work() };
        assert_eq!(of_work(&place, head().by, &precise), of_work(&place, head().by, &work()));
        let precise = TaskMessage { expires_in: Duration::from_micros(7_900), ..task() };
        let of = |task| of_copy(&place, &head(), &Command::Task(task));
        assert_eq!(of(precise), of(task()));
    }

    proptest! {
        /// The fields of a statement can be read back, so no two sequences of fields have the same bytes.
        #[test]
        fn fields_are_told_apart(fields in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..8)) {
            let bytes = fields.iter().fold(Statement(Vec::new()), |all, field| all.field(field)).0;
            let (mut rest, mut read) = (&bytes[..], Vec::new());
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                let (field, after) = after.split_at(u32::from_be_bytes(*length) as usize);
                read.push(field.to_vec());
                rest = after;
            }
            prop_assert_eq!(read, fields);
        }
    }
}
