//! What sets the answer of a group apart from that of the largest one: the places that differ, for a person.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::answer::{FinalAnswer, Ignored};
use super::digest::below;

/// What sets an answer apart from that of the largest group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// The first places that differ.
    pub changes: Vec<AnswerChange>,
    /// How many more places differ.
    pub more: u32,
}

/// One place that differs. The endpoints' own names are shown as `<endpoint>`; long texts are cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AnswerChange {
    /// A JSON pointer into the answer, which has the members `errnr`, `errmsg` and `payload`.
    pub at: String,
    /// What the answer of the largest group has there: JSON, or the lines of a text that differ; null for
    /// nothing.
    #[schema(required = true)]
    pub largest: Option<String>,
    /// What this answer has there.
    #[schema(required = true)]
    pub here: Option<String>,
}

impl Difference {
    /// Places that are told at most.
    pub const CHANGES: usize = 8;
    /// Characters of each side that are told at most.
    pub const TEXT: usize = 200;

    /// Between the answer of the largest group and another one. Without changes only where the two have one
    /// digest.
    pub fn between(largest: &FinalAnswer<'_>, here: &FinalAnswer<'_>, ignored: &Ignored) -> Self {
        let mut comparison = Comparison { largest, here, found: Self::default() };
        if largest.errnr != here.errnr {
            comparison.add("/errnr", Some(largest.errnr.to_string()), Some(here.errnr.to_string()));
        }
        comparison.texts("/errmsg", largest.errmsg, here.errmsg);
        comparison.pair("/payload", largest.payload, here.payload, &ignored.places());
        comparison.found
    }
}

struct Comparison<'c> {
    largest: &'c FinalAnswer<'c>,
    here: &'c FinalAnswer<'c>,
    found: Difference,
}

impl Comparison<'_> {
    fn add(&mut self, at: &str, largest: Option<String>, here: Option<String>) {
        if self.found.changes.len() == Difference::CHANGES {
            self.found.more = self.found.more.saturating_add(1);
            return;
        }
        self.found.changes.push(AnswerChange {
            at: at.to_owned(),
            largest: largest.map(cut),
            here: here.map(cut),
        });
    }

    /// Tells the lines between those with which both begin and end.
    fn texts(&mut self, at: &str, before: &str, after: &str) {
        let (before, after) = (self.largest.nameless(before), self.here.nameless(after));
        if before != after {
            let (before, after): (Vec<_>, Vec<_>) =
                (before.split('\n').collect(), after.split('\n').collect());
            let apart = Apart::of(&before, &after, |one, other| one == other);
            let lines = |lines: &[&str]| (!lines.is_empty()).then(|| lines.join("\n"));
            self.add(
                at,
                lines(&before[apart.first..apart.end_before]),
                lines(&after[apart.first..apart.end_after]),
            );
        }
    }

    fn pair(&mut self, at: &str, before: Option<&RawValue>, after: Option<&RawValue>, ignored: &[&[String]]) {
        match (before, after) {
            (Some(before), Some(after)) => self.values(at, before, after, ignored),
            (None, None) => {}
            (before, after) => self.add(
                at,
                before.map(|json| self.largest.nameless(json.get())),
                after.map(|json| self.here.nameless(json.get())),
            ),
        }
    }

    fn values(&mut self, at: &str, before: &RawValue, after: &RawValue, ignored: &[&[String]]) {
        if self.same(before, after, ignored) {
            return;
        }
        let told = (self.found.changes.len(), self.found.more);
        match (before.get().as_bytes().first(), after.get().as_bytes().first()) {
            (Some(b'{'), Some(b'{')) => self.objects(at, before, after, ignored),
            (Some(b'['), Some(b'[')) => self.arrays(at, before, after, ignored),
            (Some(b'"'), Some(b'"')) => {
                let text = |json: &RawValue| serde_json::from_str::<String>(json.get()).unwrap_or_default();
                self.texts(at, &text(before), &text(after));
            }
            _ => {}
        }
        // Values of other kinds; and those whose parts look alike, such as an object that has a member twice.
        if told == (self.found.changes.len(), self.found.more) {
            self.add(at, Some(self.largest.nameless(before.get())), Some(self.here.nameless(after.get())));
        }
    }

    fn objects(&mut self, at: &str, before: &RawValue, after: &RawValue, ignored: &[&[String]]) {
        let (before, after) = (members(self.largest, before), members(self.here, after));
        for name in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
            self.pair(
                &at,
                before.get(name).copied(),
                after.get(name).copied(),
                &below(ignored, || name.clone()),
            );
        }
    }

    fn arrays(&mut self, at: &str, before: &RawValue, after: &RawValue, ignored: &[&[String]]) {
        let (before, after) = (elements(before), elements(after));
        let apart = Apart::of(&before, &after, |one, other| self.same(one, other, &[]));
        let (before, after) = (&before[..apart.end_before], &after[..apart.end_after]);
        for place in apart.first..before.len().max(after.len()) {
            let within = below(ignored, || place.to_string());
            self.pair(
                &format!("{at}/{place}"),
                before.get(place).copied(),
                after.get(place).copied(),
                &within,
            );
        }
    }

    fn same(&self, before: &RawValue, after: &RawValue, ignored: &[&[String]]) -> bool {
        self.largest.canonical(before, ignored) == self.here.canonical(after, ignored)
    }
}

/// The members of an object; in their names, too, that of the endpoint does not count.
fn members<'j>(answer: &FinalAnswer<'_>, object: &'j RawValue) -> BTreeMap<String, &'j RawValue> {
    let members =
        serde_json::from_str::<BTreeMap<Cow<'_, str>, &'j RawValue>>(object.get()).unwrap_or_default();
    members.into_iter().map(|(name, value)| (answer.nameless(&name), value)).collect()
}

fn elements(array: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(array.get()).unwrap_or_default()
}

/// The part of two lists between what both begin and what both end with.
struct Apart {
    first: usize,
    end_before: usize,
    end_after: usize,
}

impl Apart {
    fn of<T>(before: &[T], after: &[T], same: impl Fn(&T, &T) -> bool) -> Self {
        let alike = |(one, other): &(&T, &T)| same(one, other);
        let first = before.iter().zip(after).take_while(alike).count();
        let last = before[first..].iter().rev().zip(after[first..].iter().rev()).take_while(alike).count();
        Self { first, end_before: before.len() - last, end_after: after.len() - last }
    }
}

/// A text that is not longer than what is told.
fn cut(text: String) -> String {
    match text.char_indices().nth(Difference::TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Json;
    use proptest::prelude::*;

    struct Given {
        endpoint: String,
        errnr: i32,
        errmsg: String,
        payload: Option<Json>,
    }

    impl Given {
        fn new(name: &str, errnr: i32, errmsg: &str, payload: Option<&str>) -> Self {
            let payload = payload.map(|text| serde_json::from_str(text).expect("JSON"));
            Self { endpoint: name.to_owned(), errnr, errmsg: errmsg.to_owned(), payload }
        }

        fn answer(&self) -> FinalAnswer<'_> {
            FinalAnswer {
                endpoint: &self.endpoint,
                errnr: self.errnr,
                errmsg: &self.errmsg,
                payload: self.payload.as_deref(),
            }
        }
    }

    /// The changes, each as `at: largest -> here`.
    fn changes(largest: &Given, here: &Given, ignored: &[&str]) -> Vec<String> {
        let found =
            Difference::between(&largest.answer(), &here.answer(), &Ignored::of(ignored.iter().copied()));
        let side = |text: Option<String>| text.unwrap_or_else(|| "nothing".to_owned());
        assert_eq!(found.more, 0);
        found
            .changes
            .into_iter()
            .map(|change| format!("{}: {} -> {}", change.at, side(change.largest), side(change.here)))
            .collect()
    }

    #[test]
    fn tells_the_places_that_differ() {
        let payloads = |before: &str, after: &str, ignored: &[&str]| {
            changes(
                &Given::new("web1", 0, "", Some(before)),
                &Given::new("web2", 0, "", Some(after)),
                ignored,
            )
        };
        assert_eq!(payloads(r#"{"v":1.0,"host":"web1"}"#, r#"{"host":"web2","v":1}"#, &[]), [""; 0]);
        assert_eq!(
            payloads(r#"{"v":"1.2","x":[1,{"n":2}]}"#, r#"{"v":"1.3","x":[1,{"n":3}]}"#, &[]),
            ["/payload/v: 1.2 -> 1.3", "/payload/x/1/n: 2 -> 3"]
        );
        assert_eq!(
            payloads(r#"{"a/b":1,"pid":1}"#, r#"{"a/b":"1","pid":2}"#, &["/pid"]),
            [r#"/payload/a~1b: 1 -> "1""#]
        );
        assert_eq!(
            payloads(r#"{"a":1}"#, r#"{"b":[2]}"#, &[]),
            ["/payload/a: 1 -> nothing", "/payload/b: nothing -> [2]"]
        );
        assert_eq!(payloads("[1,2,4,5]", "[1,2,3,4,5]", &[]), ["/payload/2: nothing -> 3"]);
        assert_eq!(payloads("[1,2,3]", "[1,9]", &[]), ["/payload/1: 2 -> 9", "/payload/2: 3 -> nothing"]);
        assert_eq!(
            payloads(r#"{"a":1,"a":2}"#, r#"{"a":2}"#, &[]),
            [r#"/payload: {"a":1,"a":2} -> {"a":2}"#],
            "they only look alike"
        );
        assert_eq!(
            payloads("12345678901234567890123", "12345678901234567890124", &[]).len(),
            1,
            "no float is made of it"
        );
        assert_eq!(
            payloads(r#"{"web1":"up"}"#, r#"{"web2":"down"}"#, &[]),
            ["/payload/<endpoint>: up -> down"]
        );
    }

    #[test]
    fn tells_numbers_lines_and_what_is_missing() {
        let good = Given::new("a", 0, "", Some("1"));
        assert_eq!(
            changes(&good, &Given::new("b", 3, "no disk", None), &[]),
            ["/errnr: 0 -> 3", "/errmsg:  -> no disk", "/payload: 1 -> nothing"]
        );
        let one = Given::new("web1", 1, "begin\nweb1: full\nmore\nend", None);
        let other = Given::new("web2", 1, "begin\nweb2: gone\nmore\nend", None);
        assert_eq!(changes(&one, &other, &[]), ["/errmsg: <endpoint>: full -> <endpoint>: gone"]);
        let shorter = Given::new("web2", 1, "begin\nend", None);
        assert_eq!(changes(&one, &shorter, &[]), ["/errmsg: <endpoint>: full\nmore -> nothing"]);
    }

    #[test]
    fn is_bounded() {
        let many = |from: u32| {
            Given::new("a", 0, "", Some(crate::domain::json(&(from..from + 50).collect::<Vec<_>>()).get()))
        };
        let found = Difference::between(&many(0).answer(), &many(100).answer(), &Ignored::default());
        assert_eq!((found.changes.len(), found.more), (Difference::CHANGES, 42));
        let long = Given::new("a", 0, &"é".repeat(5000), None);
        let found =
            Difference::between(&long.answer(), &Given::new("a", 0, "", None).answer(), &Ignored::default());
        assert_eq!(
            found.changes[0].largest.as_deref().map(|text| text.chars().count()),
            Some(Difference::TEXT + 1)
        );
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            (0..3).prop_map(Into::into),
            "[ab\n]{0,3}".prop_map(Into::into)
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let object = proptest::collection::btree_map("[ab]", inner.clone(), 0..3);
            prop_oneof![
                proptest::collection::vec(inner, 0..3).prop_map(Into::into),
                object.prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_is_told_only_of_equal_answers(one in value(), other in value(), ignored in proptest::collection::vec("(/[ab01]){0,2}", 0..2)) {
            let given = |name: &str, value: &serde_json::Value| Given::new(name, 0, "", Some(&value.to_string()));
            let (one, other) = (given("a", &one), given("b", &other));
            let ignored = Ignored::of(ignored.iter().map(String::as_str));
            let found = Difference::between(&one.answer(), &other.answer(), &ignored);
            prop_assert_eq!(found.changes.is_empty(), one.answer().digest(&ignored) == other.answer().digest(&ignored));
        }
    }
}
