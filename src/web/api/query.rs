//! Query strings, and the spans and cursors in them.
//!
//! As strict as bodies: a misspelt filter that was ignored would list everything. All problems are told at
//! once.

use std::time::Duration;

use uuid::Uuid;

use super::percent;
use super::problem::Problem;
use crate::contract::{ProblemCode, ProblemItem};
use crate::domain::likeness::{did_you_mean, nearest};
use crate::domain::{EndpointName, RequestToken, TaskId, Timestamp};
use crate::farm::ObjectId;
use crate::store::LogPlace;
use crate::store::farm::FarmTaskOrder;

/// A query string on its way to be used up.
#[derive(Debug)]
pub struct Query {
    pairs: Vec<(String, String)>,
    problems: Vec<ProblemItem>,
    /// What was asked for: the parameters of the path.
    known: Vec<&'static str>,
}

impl Query {
    /// The parameters of a query string.
    pub fn new(text: &str) -> Self {
        let mut query = Self { pairs: Vec::new(), problems: Vec::new(), known: Vec::new() };
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (percent::decode(name), percent::decode(&value.replace('+', " "))) {
                (Some(name), Some(value)) => query.pairs.push((name, value)),
                _ => query.problem(&shortened(name), "is not percent-encoded UTF-8"),
            }
        }
        query
    }

    /// Takes a parameter out; `None` when it is absent or cannot be used.
    pub fn take<T>(&mut self, name: &'static str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.known.push(name);
        let at = self.pairs.iter().position(|(other, _)| other == name)?;
        let (_, value) = self.pairs.remove(at);
        if self.pairs.iter().any(|(other, _)| other == name) {
            self.pairs.retain(|(other, _)| other != name);
            self.problem(name, "occurs twice");
            return None;
        }
        read(&value).map_err(|message| self.problem(name, &message)).ok()
    }

    /// Takes a parameter out without which there is no answer; where it is absent, `missing` says what it is
    /// for.
    pub fn need<T>(
        &mut self,
        name: &'static str,
        missing: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.pairs.iter().all(|(other, _)| other != name) {
            self.known.push(name);
            self.problem(name, &format!("is missing: {missing}"));
            return None;
        }
        self.take(name, read)
    }

    /// Ends the reading where a parameter was needed.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn finish_with<T>(self, needed: Option<T>) -> Result<T, Problem> {
        self.finish()?;
        needed
            .ok_or_else(|| Problem::internal("a parameter that is needed is absent, and no problem says so"))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Everything that was wrong, unknown parameters included.
    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            let likely = did_you_mean(nearest(&name, self.known.iter().copied()));
            self.problem(&shortened(&name), &format!("is not a parameter of this path{likely}"));
        }
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(ProblemCode::InvalidQuery, self.problems))
        }
    }

    fn problem(&mut self, name: &str, message: &str) {
        self.problems.push(ProblemItem::new(format!("?{name}"), message));
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(100).collect()
}

/// `true` or `false`.
///
/// # Errors
/// A message for a person.
pub fn truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".to_owned())
}

/// A span such as `500ms`, `20s` or `1m`, up to a maximum.
///
/// # Errors
/// A message for a person.
pub fn span(text: &str, max: Duration) -> Result<Duration, String> {
    let malformed = || "must be a number with a unit, such as 500ms, 20s or 1m".to_owned();
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let number =
        Some(digits).filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    let millis: u64 = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err(malformed()),
    };
    // Digits that do not fit are a number all the same, and too large a one.
    let number = number.ok_or_else(malformed)?.parse::<u64>().unwrap_or(u64::MAX);
    let span = Duration::from_millis(number.saturating_mul(millis));
    if span <= max { Ok(span) } else { Err(format!("must be at most {}s", max.as_secs())) }
}

/// The name of an endpoint.
///
/// # Errors
/// A message for a person.
pub fn endpoint(text: &str) -> Result<EndpointName, String> {
    text.parse().map_err(|error| format!("is not the name of an endpoint: {error}"))
}

/// Some of a set of words, separated by commas; `spell` writes each as it is in a query.
///
/// # Errors
/// A message for a person, with all words.
pub fn words<T: Copy>(text: &str, all: &[T], spell: impl Fn(T) -> &'static str) -> Result<Vec<T>, String> {
    let find = |word: &str| all.iter().copied().find(|item| spell(*item) == word);
    text.split(',').map(find).collect::<Option<Vec<_>>>().ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|item| spell(*item)).collect();
        format!("must be one of {}", words.join(", "))
    })
}

/// A number of items on one page.
///
/// # Errors
/// A message for a person.
pub fn limit(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|limit| (1..=1000).contains(limit))
        .ok_or_else(|| "must be a number from 1 to 1000".to_owned())
}

/// A point in time.
///
/// # Errors
/// A message for a person.
pub fn time(text: &str) -> Result<Timestamp, String> {
    // A `+` that was not escaped has become a space; in a time it can only have been the sign of the zone.
    let zoned = text.replace(' ', "+");
    let time = chrono::DateTime::parse_from_rfc3339(&zoned)
        .map_err(|_| "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)".to_owned())?;
    Ok(time.with_timezone(&chrono::Utc).into())
}

/// Where a list of tasks goes on, as a text that means nothing to the customer.
pub fn task_cursor(last: TaskId) -> String {
    format!("t{}", last.0.simple())
}

/// The task in a cursor.
///
/// # Errors
/// A message for a person.
pub fn read_task_cursor(text: &str) -> Result<TaskId, String> {
    let id = text.strip_prefix('t').filter(|id| id.len() == 32).and_then(|id| id.parse().ok());
    id.ok_or_else(no_cursor)
}

/// Where logs go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// In the log of one endpoint: after so many bytes.
    Byte(u64),
    /// In those of all: after the one that changed then.
    Place(LogPlace),
}

/// Where a log goes on, or a list of logs, as a text that means nothing to the customer.
pub fn log_cursor(after: &After) -> String {
    match after {
        After::Byte(place) => format!("b{place}"),
        After::Place(LogPlace { time, endpoint }) => format!("l{}.{endpoint}", time.as_micros()),
    }
}

/// The place in a log that a cursor names.
///
/// # Errors
/// A message for a person.
pub fn read_log_cursor(text: &str) -> Result<After, String> {
    if let Some(place) = text.strip_prefix('b').and_then(digits) {
        return Ok(After::Byte(place));
    }
    let (time, endpoint) = read_micros(text, 'l').ok_or_else(no_cursor)?;
    Ok(After::Place(LogPlace { time, endpoint: endpoint.parse().map_err(|_| no_cursor())? }))
}

fn digits(text: &str) -> Option<u64> {
    Some(text)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
}

/// The time in microseconds of a cursor that begins so, and what follows it after a period. No longer than a
/// time that a database can keep: it would refuse the question.
fn read_micros(text: &str, prefix: char) -> Option<(Timestamp, &str)> {
    let (micros, rest) =
        text.strip_prefix(prefix)?.split_once('.').filter(|(micros, _)| micros.len() <= 16)?;
    Some((Timestamp::from_micros(digits(micros)?.try_into().ok()?), rest))
}

/// Where a list of requests goes on.
pub fn request_cursor(created: Timestamp, token: &str) -> String {
    format!("r{}.{token}", created.as_micros())
}

/// The place in a list of requests that a cursor names.
///
/// # Errors
/// A message for a person.
pub fn read_request_cursor(text: &str) -> Result<(Timestamp, RequestToken), String> {
    let (created, token) = read_request_place(text)?;
    Ok((created, RequestToken::stored(&token)))
}

/// The same as text. A request may have a name that is no token: a producer may insert such a row.
///
/// # Errors
/// A message for a person.
pub fn read_request_place(text: &str) -> Result<(Timestamp, String), String> {
    let (created, token) =
        read_micros(text, 'r').filter(|(_, token)| token.is_ascii()).ok_or_else(no_cursor)?;
    Ok((created, token.to_owned()))
}

/// The rollout that a cursor of their list names.
///
/// # Errors
/// A message for a person.
pub fn read_rollout_cursor(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| no_cursor())
}

/// Where a list of the endpoints of a rollout goes on: after this place of this wave.
pub fn target_cursor(wave: u32, position: u32) -> String {
    format!("{wave}.{position}")
}

/// The wave and the place in a list of the endpoints of a rollout that a cursor names.
///
/// # Errors
/// A message for a person.
pub fn read_target_cursor(text: &str) -> Result<(u32, u32), String> {
    let (wave, position) = text.split_once('.').ok_or_else(no_cursor)?;
    Ok((wave.parse().map_err(|_| no_cursor())?, position.parse().map_err(|_| no_cursor())?))
}

/// Where a list of endpoints goes on.
pub fn endpoint_cursor(last: &EndpointName) -> String {
    use std::fmt::Write;
    last.as_str().bytes().fold("e".to_owned(), |mut cursor, byte| {
        // Writing to a String cannot fail.
        let _ = write!(cursor, "{byte:02x}");
        cursor
    })
}

/// The endpoint in a cursor.
///
/// # Errors
/// A message for a person.
pub fn read_endpoint_cursor(text: &str) -> Result<EndpointName, String> {
    let digits = text
        .strip_prefix('e')
        .filter(|digits| digits.len() % 2 == 0 && digits.is_ascii())
        .ok_or_else(no_cursor)?;
    let bytes: Option<Vec<u8>> =
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect();
    let name = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).and_then(|name| name.parse().ok());
    name.ok_or_else(no_cursor)
}

/// The id of something of a render farm.
///
/// # Errors
/// A message for a person.
pub fn object_id(text: &str) -> Result<ObjectId, String> {
    text.parse().map_err(|_| "must be an id of 24 hexadecimal digits".to_owned())
}

/// Where a list of the tasks of a farm goes on, and in which order.
pub fn farm_task_cursor(place: FarmTaskOrder) -> String {
    match place {
        FarmTaskOrder::Oldest(after) => after.map(|id| id.to_string()).unwrap_or_default(),
        FarmTaskOrder::Latest(after) => {
            after.map(|(changed, id)| format!("c{}.{id}", changed.as_micros())).unwrap_or_default()
        }
    }
}

/// The place in a list of the tasks of a farm that a cursor names.
///
/// # Errors
/// A message for a person.
pub fn read_farm_task_cursor(text: &str) -> Result<FarmTaskOrder, String> {
    if let Ok(id) = object_id(text) {
        return Ok(FarmTaskOrder::Oldest(Some(id)));
    }
    let (changed, id) = read_micros(text, 'c').ok_or_else(no_cursor)?;
    Ok(FarmTaskOrder::Latest(Some((changed, id.parse().map_err(|_| no_cursor())?))))
}

fn no_cursor() -> String {
    "is not a cursor of this list".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_misspelt_parameter_is_told_with_the_likely_one() {
        let mut query = Query::new("stauts=DONE&other=1");
        assert_eq!(query.take("status", |text| Ok(text.to_owned())), None);
        let told = format!("{:?}", query.finish().expect_err("it knows neither"));
        assert!(told.contains("is not a parameter of this path; did you mean status?"), "{told}");
        assert_eq!(told.matches("did you mean").count(), 1, "{told}");
    }

    #[test]
    fn spans_have_a_unit_and_a_maximum() {
        for (text, millis) in
            [("20s", 20_000), ("1m", 60_000), ("0s", 0), ("250ms", 250), ("60000ms", 60_000), ("007s", 7_000)]
        {
            assert_eq!(span(text, MINUTE), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "20", "-1s", "+1s", "1.5s", "1 s", "1h", "1S", "é", "20é", "1s1s", "٣s"] {
            assert!(span(text, MINUTE).is_err_and(|message| message.contains("unit")), "{text}");
        }
        for text in ["61s", "2m", "60001ms", "99999999999999999999999s"] {
            assert!(span(text, MINUTE).is_err_and(|message| message.contains("60s")), "{text}");
        }
    }

    #[test]
    fn limits_are_within_bounds() {
        assert_eq!((limit("1"), limit("1000")), (Ok(1), Ok(1000)));
        for text in ["0", "1001", "-1", "", "ten", "1e2", "4294967297"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        let noon = Timestamp::from_micros(1_769_860_800_000_000);
        for text in [
            "2026-01-31T12:00:00Z",
            "2026-01-31T13:00:00+01:00",
            "2026-01-31T13:00:00 01:00",
            "2026-01-31T12:00:00.000Z",
        ] {
            assert_eq!(time(text), Ok(noon), "{text}");
        }
        for text in ["", "2026-01-31", "now", "1769860800", "2026-02-30T00:00:00Z", "2026-01-31T12:00:00"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_query_tells_everything_at_once() {
        let mut query = Query::new("limit=0&a=1&b=%ff&wait=1s&wait=2s&&c&ok=x%26y+z");
        assert_eq!(query.take("limit", limit), None);
        assert_eq!(query.take("wait", |text| span(text, MINUTE)), None);
        assert_eq!(query.take("ok", |text| Ok(text.to_owned())).as_deref(), Some("x&y z"));
        assert_eq!(query.take("absent", limit), None);
        assert_eq!(
            query.problems.iter().map(|item| item.pointer.as_str()).collect::<Vec<_>>(),
            ["?b", "?limit", "?wait"],
            "told so far"
        );
        let problem = query.finish().expect_err("has problems");
        assert!(problem.to_string().contains("5 problems"), "{problem}");
        assert!(Query::new("").finish().is_ok());
    }

    #[test]
    fn what_is_needed_is_missed_by_its_name() {
        let mut query = Query::new("since=watch=");
        assert_eq!(query.need("watch", "what to watch", limit), None);
        assert_eq!(
            query.problems.iter().map(|item| item.message.as_str()).collect::<Vec<_>>(),
            ["is missing: what to watch"]
        );
        let mut query = Query::new("limit=x");
        assert_eq!(query.need("limit", "a number", limit), None);
        assert_eq!(query.problems.len(), 1, "it is there, and wrong");
        let mut query = Query::new("limit=7");
        let needed = query.need("limit", "a number", limit);
        assert_eq!(query.finish_with(needed).ok(), Some(7));
    }

    #[test]
    fn words_are_those_of_the_set() {
        let read = |text| words(text, &[true, false], |word| if word { "yes" } else { "no" });
        assert_eq!(read("no,yes"), Ok(vec![false, true]));
        for bad in ["", "No", "no,", "yes,,no", "yes no", "maybe"] {
            assert_eq!(read(bad), Err("must be one of yes, no".to_owned()), "{bad}");
        }
    }

    #[test]
    fn cursors_are_ours_or_nothing() {
        let id = TaskId::new();
        assert_eq!(read_task_cursor(&task_cursor(id)), Ok(id));
        for text in [
            "",
            "t",
            "x",
            "t123",
            &id.to_string(),
            &format!("t{id}"),
            &endpoint_cursor(&"a".parse().expect("a name")),
        ] {
            assert!(read_task_cursor(text).is_err(), "{text}");
        }
        let (at, token) = (Timestamp::from_micros(1_700_000_000_000_000), "a.b-c");
        assert_eq!(
            read_request_cursor(&request_cursor(at, token)),
            Ok((at, token.parse().expect("a token")))
        );
        // Names that a producer may give a request with SQL.
        for odd in ["a b", ""] {
            assert_eq!(read_request_place(&request_cursor(at, odd)), Ok((at, odd.to_owned())));
            let read = read_request_cursor(&request_cursor(at, odd));
            assert_eq!(read, Ok((at, RequestToken::stored(odd))));
        }
        for text in ["", "r", "r1", "r.a", "r-1.a", "r10000000000000000.a", "r1.\u{fc}", &task_cursor(id)] {
            assert!(read_request_cursor(text).is_err(), "{text}");
        }
        assert_eq!(read_target_cursor(&target_cursor(3, 70)), Ok((3, 70)));
        for text in ["", "3", ".", "3.", ".70", "-3.70", "3.70.1", "a.b", &task_cursor(id)] {
            assert!(read_target_cursor(text).is_err(), "{text}");
        }
        assert_eq!(read_rollout_cursor(&id.0.to_string()), Ok(id.0));
        assert!(read_rollout_cursor(&task_cursor(id)).is_err());
        let (farm, at) = ("5e90c1000000000000000c02".parse().expect("an id"), Timestamp::from_micros(17));
        for place in [FarmTaskOrder::Oldest(Some(farm)), FarmTaskOrder::Latest(Some((at, farm)))] {
            assert_eq!(read_farm_task_cursor(&farm_task_cursor(place)), Ok(place));
        }
        for text in [
            "",
            "c",
            "c1",
            "c1.",
            "c.5e90c1000000000000000c02",
            "c-1.5e90c1000000000000000c02",
            &task_cursor(id),
        ] {
            assert!(read_farm_task_cursor(text).is_err(), "{text}");
        }
        for text in ["", "e", "e1", "ezz", "e2f", "e00", "eé", &task_cursor(id)] {
            assert!(read_endpoint_cursor(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_endpoint_cursor_reads_back(name in "[A-Za-z0-9._-]{1,128}") {
            let name: EndpointName = name.parse().expect("a name");
            prop_assert_eq!(read_endpoint_cursor(&endpoint_cursor(&name)), Ok(name));
        }

        #[test]
        fn nothing_in_a_query_panics(text in any::<String>()) {
            let _ = (Query::new(&text).finish(), span(&text, MINUTE), time(&text), read_task_cursor(&text), read_endpoint_cursor(&text), read_request_cursor(&text));
        }
    }
}
