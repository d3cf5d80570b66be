//! How tasks wait of a type that one worker performs.

use std::time::Duration;

use super::kinds::{Choice, Span, Text, Texts, TypeName, Whole, YEAR, named};
use super::layers;
use super::reader::Table;
use super::yaml::DEFAULT_ORIGIN;
use crate::domain::{MAX_PRIORITY, TaskType};

/// The usual priority; the lower, the sooner.
const PRIORITY: i32 = 100;

/// How tasks wait of a type that one worker performs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePolicy {
    /// The lower, the sooner. -1,000,000 to 1,000,000, default 100.
    pub priority: i32,
    /// How long after each submission a task is given up. A type without it gives a task
    /// [`TypePolicy::expires_after`], and one that replaces another what was left to that one.
    ///
    /// [`TypePolicy::expires_after`]: super::TypePolicy::expires_after
    pub ttl: Option<Duration>,
    /// A value in the payload of which there is one waiting task at most: a new one takes the place of the
    /// old.
    pub unique_key: Option<Pointer>,
    /// Types with the same scope share their unique keys. Default: the type's name.
    pub unique_scope: String,
    /// A value in the payload by which [`Self::max_per_key`] counts.
    pub limit_key: Option<Pointer>,
    /// Tasks of this type that run at the same time.
    pub max_running: Option<u32>,
    /// Tasks with one value of [`Self::limit_key`] that run at the same time. Default 1.
    pub max_per_key: u32,
    /// What is queued after a success.
    pub then: Option<Successor>,
}

/// What is queued after a success, with the time that is left to the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    /// A task of which type.
    pub task_type: TaskType,
    /// With which priority; that type's unless said.
    pub priority: Option<i32>,
    /// The members of its payload, each from a place in the payload before; the same payload when absent.
    pub payload: Option<Vec<(String, Pointer)>>,
}

/// A place in a JSON value (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(String);

impl Pointer {
    /// The pointer of this text, if it is one: empty, or `/` and names in which `~` comes as `~0` or `~1`
    /// alone.
    pub fn parse(text: &str) -> Option<Self> {
        let formed = text.is_empty() || text.starts_with('/');
        let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        (formed && escapes && text.len() <= 1024).then(|| Self(text.to_owned()))
    }

    /// As [`serde_json::Value::pointer`] takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who performs a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Every endpoint that is asked for, or subscribed.
    Fanout,
    /// One worker.
    Queue,
}

impl Delivery {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Fanout, Self::Queue];

    /// The words of the configuration.
    const WORDS: &[(&str, Self)] = &[("fanout", Self::Fanout), ("queue", Self::Queue)];

    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, delivery)| *delivery == self).map_or("", |(word, _)| word)
    }
}

const POINTER: &str = "a JSON pointer such as `/branchTag`";

/// Reads what a type says of its queue; none for a type that endpoints perform.
pub(super) fn queue(table: &mut Table<'_>, name: Option<&TaskType>) -> Option<QueuePolicy> {
    let pointer = Text(POINTER, |text| Pointer::parse(text).is_some());
    let delivery = table.or("delivery", &Choice(Delivery::WORDS), (Delivery::Fanout, DEFAULT_ORIGIN));
    if delivery == Delivery::Fanout {
        for key in [
            "priority", "ttl", "unique_key", "unique_scope", "limit_key", "max_running", "max_per_key",
            "then",
        ] {
            if let Some(given) = table.take(key) {
                table.problem(key, "is of use only with `delivery: queue`", layers::place(&given));
            }
        }
        return None;
    }
    let priority = table.or("priority", &Whole(-MAX_PRIORITY, MAX_PRIORITY), (PRIORITY, DEFAULT_ORIGIN));
    let ttl = table.optional("ttl", &Span::up_to(YEAR));
    let unique_key = table.optional("unique_key", &pointer).and_then(|text| Pointer::parse(&text));
    let scope = Text("a name of 1 to 64 letters, digits, `_` or `-`", |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    });
    let unique_scope = table.optional("unique_scope", &scope);
    let limit_key = table.optional("limit_key", &pointer).and_then(|text| Pointer::parse(&text));
    let max_running = table.optional("max_running", &Whole(1, 1_000_000));
    let max_per_key = table.optional("max_per_key", &Whole(1, 1_000_000));
    for (key, given, needed, is_there) in [
        ("unique_scope", unique_scope.is_some(), "unique_key", unique_key.is_some()),
        ("max_per_key", max_per_key.is_some(), "limit_key", limit_key.is_some()),
    ] {
        if given && !is_there {
            table.problem(key, format!("is of no use without {needed}"), None);
        }
    }
    let then = successor(table);
    let own_scope = name.map(|name| name.as_str().to_owned()).unwrap_or_default();
    Some(QueuePolicy {
        priority,
        ttl,
        unique_key,
        unique_scope: unique_scope.unwrap_or(own_scope),
        limit_key,
        max_running,
        max_per_key: max_per_key.unwrap_or(1),
        then,
    })
}

fn successor(table: &mut Table<'_>) -> Option<Successor> {
    let given = table.take("then")?;
    let mut then = table.below("then", named(given, "type"));
    let task_type = then.required("type", &TypeName);
    let priority = then.optional("priority", &Whole(-MAX_PRIORITY, MAX_PRIORITY));
    let members = "members of the payload such as `branchTag`, or of the new payload and where to find them such as `tag=/branchTag`";
    let payload = then.optional("payload", &Texts(members, |text| member(text).is_some()));
    then.finish_needed();
    let payload = payload.map(|members| members.iter().filter_map(|text| member(text)).collect());
    Some(Successor { task_type: task_type?, priority, payload })
}

/// `tag=/branchTag`, or `branchTag` for `branchTag=/branchTag`.
fn member(text: &str) -> Option<(String, Pointer)> {
    let (name, pointer) = match text.split_once('=') {
        Some((name, pointer)) => (name, Pointer::parse(pointer)?),
        None => (text, Pointer::parse(&format!("/{}", text.replace('~', "~0").replace('/', "~1")))?),
    };
    (!name.is_empty()).then(|| (name.to_owned(), pointer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_have_a_form() {
        for good in ["", "/", "/a", "/a/0", "/~0~1"] {
            assert!(Pointer::parse(good).is_some(), "{good}");
        }
        for bad in ["a", "/~", "/~2", "/a~"] {
            assert!(Pointer::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn members_come_from_their_own_place_or_another() {
        let read = |text: &str| member(text).map(|(name, pointer)| (name, pointer.as_str().to_owned()));
        assert_eq!(read("branchTag"), Some(("branchTag".into(), "/branchTag".into())));
        assert_eq!(read("tag=/branch/tag"), Some(("tag".into(), "/branch/tag".into())));
        assert_eq!(read("a/b"), Some(("a/b".into(), "/a~1b".into())));
        assert_eq!((read("=/a"), read(""), read("a=b")), (None, None, None));
    }
}
