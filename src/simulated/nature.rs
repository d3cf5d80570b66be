//! How a simulated endpoint behaves. No I/O, no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::config::span;
use crate::domain::{EndpointName, Json, Labels, errnr};

/// A time that is drawn anew each time: `2s`, `1s..5s`, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Time {
    /// From the shortest to the longest, all alike.
    Between(Duration, Duration),
    /// It does not come.
    Never,
}

impl Time {
    /// One that is always the same.
    pub const fn always(span: Duration) -> Self {
        Self::Between(span, span)
    }

    /// One of its spans; none for never.
    pub fn draw(self, random: &mut fastrand::Rng) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Between(least, most) => Some(least + (most - least).mul_f64(random.f64())),
        }
    }

    /// So many times shorter.
    #[must_use]
    pub fn shortened(self, by: u32) -> Self {
        match self {
            Self::Never => Self::Never,
            Self::Between(least, most) => Self::Between(least / by, most / by),
        }
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{text}\": expected a span of time such as `2s`, two of them such as `500ms..2s`, or `never`"
            )
        };
        if text == "never" {
            return Ok(Self::Never);
        }
        let (least, most) = text.split_once("..").unwrap_or((&text, &text));
        let (least, most) =
            (span::parse(least).map_err(|_| wrong())?, span::parse(most).map_err(|_| wrong())?);
        if least <= most { Ok(Self::Between(least, most)) } else { Err(wrong()) }
    }
}

/// What goes wrong where a rule applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// The handler fails.
    Fails {
        /// Its error number.
        errnr: i32,
        /// What it says.
        errmsg: String,
    },
    /// The handler does not end.
    Hangs,
    /// The task is not received, although the endpoint is there.
    Deaf,
    /// The handler ends well and takes the endpoint down with it, in order.
    Reboots(Time),
    /// The endpoint ends while the handler runs, without a word.
    Crashes(Time),
    /// The handler takes another time.
    Takes(Time),
    /// The endpoint goes away as soon as it is known.
    Away(Time),
}

/// Something that goes wrong with some tasks.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What.
    pub wrong: Wrong,
    /// Only with payloads that have these values at these places.
    pub when: BTreeMap<String, Value>,
    /// Only with so many tasks of an endpoint.
    pub times: Option<u32>,
}

impl Rule {
    fn fits(&self, payload: &Value) -> bool {
        self.when.iter().all(|(pointer, value)| payload.pointer(pointer) == Some(value))
    }
}

/// What becomes of one task at an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// Nothing: it is not received.
    Deaf,
    /// It is received, and its handler does not end.
    Hangs,
    /// The handler ends after this time.
    Ends {
        /// How long it takes.
        after: Duration,
        /// 0 for success.
        errnr: i32,
        /// What it says.
        errmsg: String,
        /// The endpoint goes away then.
        away: Option<Absence>,
    },
}

/// An endpoint that goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// When it is back; none for never.
    pub lasts: Option<Duration>,
    /// Whether it says so.
    pub said: bool,
}

/// How an endpoint behaves.
#[derive(Debug)]
pub struct Nature {
    /// What it says of itself.
    pub labels: Labels,
    /// How long it is away as soon as it is known.
    pub away: Option<Time>,
    takes: Time,
    /// Labels that a success sets, with the places of their values in the payload.
    sets: Arc<BTreeMap<String, String>>,
    /// The rules for it, each with how often it has applied.
    rules: Vec<(Arc<Rule>, u32)>,
    random: fastrand::Rng,
}

impl Nature {
    /// One that succeeds within a time, and draws what it draws from a seed.
    pub fn of(labels: Labels, takes: Time, seed: u64) -> Self {
        Self {
            labels,
            away: None,
            takes,
            sets: Arc::default(),
            rules: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// The same with labels that a success sets, and rules.
    #[must_use]
    pub fn with(
        mut self,
        sets: Arc<BTreeMap<String, String>>,
        rules: impl IntoIterator<Item = Arc<Rule>>,
    ) -> Self {
        self.sets = sets;
        for rule in rules {
            match rule.wrong {
                Wrong::Away(time) => self.away = self.away.or(Some(time)),
                _ => self.rules.push((rule, 0)),
            }
        }
        self
    }

    /// It goes away at the start, and does not come back.
    pub const fn stay_away(&mut self) {
        self.away = Some(Time::Never);
    }

    /// Whether it goes away at the start: answered once.
    pub fn leaves(&mut self) -> Option<Absence> {
        let away = self.away.take()?;
        Some(Absence { lasts: away.draw(&mut self.random), said: true })
    }

    /// What becomes of a task: as the first rule says that fits, else it succeeds.
    pub fn course(&mut self, payload: &Json) -> Course {
        let payload: Value = serde_json::from_str(payload.get()).unwrap_or_default();
        let fits = |(rule, used): &&mut (Arc<Rule>, u32)| {
            rule.times.is_none_or(|times| *used < times) && rule.fits(&payload)
        };
        let wrong = self.rules.iter_mut().find(fits).map(|(rule, used)| {
            *used += 1;
            rule.wrong.clone()
        });
        let takes = if let Some(Wrong::Takes(time)) = wrong { time } else { self.takes };
        let Some(after) = takes.draw(&mut self.random) else { return Course::Hangs };
        let ends = |errnr, errmsg: &str, away| Course::Ends { after, errnr, errmsg: errmsg.to_owned(), away };
        let absence =
            |time: Time, random: &mut fastrand::Rng, said| Some(Absence { lasts: time.draw(random), said });
        match wrong {
            Some(Wrong::Deaf) => Course::Deaf,
            Some(Wrong::Hangs) => Course::Hangs,
            Some(Wrong::Fails { errnr, errmsg }) => ends(errnr, &errmsg, None),
            Some(Wrong::Reboots(time)) => ends(0, "", absence(time, &mut self.random, true)),
            Some(Wrong::Crashes(time)) => ends(
                errnr::INTERRUPTED,
                "the endpoint ended while the handler ran",
                absence(time, &mut self.random, false),
            ),
            Some(Wrong::Takes(_) | Wrong::Away(_)) | None => ends(0, "", None),
        }
    }

    /// Its labels after a success. Answers whether they have changed.
    pub fn has_succeeded(&mut self, payload: &Json) -> bool {
        if self.sets.is_empty() {
            return false;
        }
        let payload: Value = serde_json::from_str(payload.get()).unwrap_or_default();
        let mut labels = BTreeMap::from(self.labels.clone());
        for (label, pointer) in self.sets.iter() {
            match payload.pointer(pointer) {
                Some(Value::String(text)) => labels.insert(label.clone(), text.clone()),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => {
                    labels.insert(label.clone(), value.to_string())
                }
                _ => None,
            };
        }
        let labels = Labels::believed(labels);
        let changed = labels != self.labels;
        self.labels = labels;
        changed
    }
}

/// A number that is the same for the same words.
pub(super) fn seed_of(words: &[&str]) -> u64 {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for word in words {
        hash.update(word);
        hash.update([0]);
    }
    let bytes: [u8; 32] = hash.finalize().into();
    bytes.into_iter().take(8).fold(0, |number, byte| number << 8 | u64::from(byte))
}

/// The memory of a simulated endpoint: the same for its name, so that a platform that is started again knows
/// it.
pub(super) fn home_of(name: &EndpointName) -> uuid::Uuid {
    let halves = [seed_of(&["home", name.as_str()]), seed_of(&[name.as_str(), "home"])];
    uuid::Uuid::from_u64_pair(halves[0], halves[1])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(wrong: Wrong, when: Option<Value>, times: Option<u32>) -> Arc<Rule> {
        Arc::new(Rule {
            wrong,
            when: when.map(|value| ("/version".to_owned(), value)).into_iter().collect(),
            times,
        })
    }

    fn payload(version: &str) -> Json {
        crate::domain::json(&json!({"version": version}))
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let disk = Wrong::Fails { errnr: 32, errmsg: "disk full".to_owned() };
        let rules = [rule(disk, Some(json!("6.9")), Some(1)), rule(Wrong::Hangs, Some(json!("6.9")), None)];
        let second = Duration::from_secs(1);
        let mut nature = Nature::of(Labels::default(), Time::always(second), 1).with(Arc::default(), rules);
        let ends = |errnr, errmsg: &str| Course::Ends {
            after: second,
            errnr,
            errmsg: errmsg.to_owned(),
            away: None,
        };
        assert_eq!(nature.course(&payload("6.8")), ends(0, ""));
        assert_eq!(nature.course(&payload("6.9")), ends(32, "disk full"));
        assert_eq!(nature.course(&payload("6.9")), Course::Hangs);
        assert_eq!(nature.course(&payload("6.8")), ends(0, ""));
    }

    #[test]
    fn who_reboots_says_so_and_who_crashes_does_not() {
        let second = Duration::from_secs(1);
        for (wrong, number, away) in [
            (Wrong::Reboots(Time::always(second)), 0, Absence { lasts: Some(second), said: true }),
            (Wrong::Crashes(Time::Never), errnr::INTERRUPTED, Absence { lasts: None, said: false }),
        ] {
            let mut nature = Nature::of(Labels::default(), Time::always(Duration::ZERO), 1)
                .with(Arc::default(), [rule(wrong, None, None)]);
            let Course::Ends { errnr, away: left, .. } = nature.course(&payload("6.9")) else {
                panic!("it ends")
            };
            assert_eq!((errnr, left), (number, Some(away)));
        }
    }

    #[test]
    fn a_success_sets_labels_of_the_payload() {
        let sets = Arc::new(BTreeMap::from([
            ("release".to_owned(), "/version".to_owned()),
            ("none".to_owned(), "/none".to_owned()),
        ]));
        let mut nature = Nature::of(Labels::default(), Time::Never, 1).with(sets, []);
        assert!(nature.has_succeeded(&payload("6.9")) && !nature.has_succeeded(&payload("6.9")));
        assert_eq!(nature.labels.iter().collect::<Vec<_>>(), [("release", "6.9")]);
    }

    #[test]
    fn times_are_drawn_within_their_bounds() {
        let mut random = fastrand::Rng::with_seed(7);
        let time = Time::try_from("500ms..2s".to_owned()).expect("a time");
        for _ in 0..100 {
            let drawn = time.shortened(10).draw(&mut random).expect("a span");
            assert!((Duration::from_millis(50)..=Duration::from_millis(200)).contains(&drawn), "{drawn:?}");
        }
        assert_eq!(Time::try_from("never".to_owned()), Ok(Time::Never));
        for wrong in ["", "5", "2s..1s", "1s..", "soon"] {
            assert!(Time::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
