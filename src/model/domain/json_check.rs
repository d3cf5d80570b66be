//! Whether bytes are JSON that every reader downstream agrees on.
//!
//! Stricter than the grammar where readers differ: no lone surrogates, no number beyond an IEEE double, no
//! nesting deeper than [`MAX_DEPTH`]. One pass after the UTF-8 check, no recursion, no allocation: nothing a
//! text says can make it dear. What it lets through is parsed later without a second thought, so it knows
//! nothing of what the text should mean. Submissions and answers of handlers pass it alike: one document
//! holds both.

use std::fmt;

use serde_json::value::RawValue;

/// Objects and arrays within each other at most, the outermost included. One more than common JSON readers
/// allow for a value, because the payload is always at least one level down.
pub const MAX_DEPTH: u32 = 128;

/// Where and why bytes are not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The byte at which it shows, from 0.
    pub offset: usize,
    /// What is wrong there.
    pub kind: FaultKind,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A byte that is no part of a UTF-8 text.
    Utf8,
    /// The text ends within a value.
    Truncated,
    /// Something else should stand here.
    Unexpected(&'static str),
    /// Half of a surrogate pair: not a character.
    Surrogate,
    /// A number no double can hold.
    Range,
    /// One level too many.
    Depth,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset;
        match self.kind {
            FaultKind::Utf8 => write!(f, "byte {offset} is not UTF-8"),
            FaultKind::Truncated => write!(f, "the text ends within a value, at byte {offset}"),
            FaultKind::Unexpected(wanted) => write!(f, "{wanted} expected at byte {offset}"),
            FaultKind::Surrogate => write!(f, "lone surrogate in the string at byte {offset}"),
            FaultKind::Range => write!(f, "the number at byte {offset} is out of range"),
            FaultKind::Depth => write!(f, "nested deeper than {MAX_DEPTH} levels at byte {offset}"),
        }
    }
}

/// What a JSON value is, for a person.
pub fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Why JSON is not what was expected, in words of JSON: serde names the types of this program, which tell a
/// customer nothing.
pub fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if let Some(rest) = text.strip_prefix("data did not match any variant of untagged enum ") {
        let place = rest.find(" at line ").map_or("", |at| &rest[at..]);
        return format!("a value is of none of the kinds that are expected{place}");
    }
    let Some((found, expected)) = text.split_once(", expected ") else {
        return of_member(&text).map_or_else(|| text.clone(), |(words, place)| words + place);
    };
    let (expected, place) = expected.split_at(expected.rfind(" at line ").unwrap_or(expected.len()));
    let found = match found {
        "invalid type: map" => "invalid type: an object",
        "invalid type: sequence" => "invalid type: an array",
        other => other,
    };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 that is not too large",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number that is not too large",
        "f32" | "f64" => "a number",
        "a borrowed string" => "a string",
        "a sequence" => "an array",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("{found}, expected {expected}{place}")
}

/// The words for a member that is missing or occurs twice, and the place in the text. The name of the member may
/// be shown: it comes from this program, not from the JSON.
fn of_member(text: &str) -> Option<(String, &str)> {
    let faults = [("missing field `", "is missing"), ("duplicate field `", "is there twice")];
    faults.into_iter().find_map(|(begin, fault)| {
        let (name, place) = text.strip_prefix(begin)?.split_once('`')?;
        Some((format!("the member `{name}` {fault}"), place))
    })
}

/// The same without anything that the JSON says, neither values nor names of members: for payloads, which may
/// have secrets, where the text gets into logs.
pub fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = match error.line() {
        0 => String::new(),
        line => format!(" at line {line} column {}", error.column()),
    };
    // serde tells the value, which may be any text: only the words before it count.
    let kinds = [
        ("invalid type: string", "a string"),
        ("invalid type: integer", "a number"),
        ("invalid type: floating point", "a number"),
        ("invalid type: boolean", "a boolean"),
        ("invalid type: null", "null"),
        ("invalid type: map", "an object"),
        ("invalid type: sequence", "an array"),
    ];
    let told = match kinds.iter().find(|(begin, _)| text.starts_with(begin)) {
        _ if !error.is_data() => "it is not JSON".to_owned(),
        Some((_, kind)) => format!("unexpected {kind}"),
        None if text.starts_with("unknown field `") => "unknown member".to_owned(),
        None => of_member(&text).map_or_else(|| "unexpected value".to_owned(), |(words, _)| words),
    };
    told + &place
}

/// The text, if it is exactly one acceptable JSON value.
///
/// # Errors
/// The first fault.
pub fn check(bytes: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Fault { offset: error.valid_up_to(), kind: FaultKind::Utf8 })?;
    Checker { text, bytes, at: 0, depth: 0, objects: 0 }.run().map(|()| text)
}

/// What may stand next.
#[derive(Clone, Copy)]
enum Next {
    Value,
    /// Just after `[`.
    ValueOrEnd,
    /// Just after a comma in an object.
    Name,
    /// Just after `{`.
    NameOrEnd,
    /// After a value within an array or object.
    CommaOrEnd,
}

struct Checker<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    /// One bit for each open level, the innermost lowest: whether it is an object. [`MAX_DEPTH`] bits are all
    /// it needs.
    objects: u128,
}

impl Checker<'_> {
    fn run(mut self) -> Result<(), Fault> {
        let mut next = Next::Value;
        loop {
            self.skip_space();
            match (next, self.peek()?) {
                (Next::ValueOrEnd, b']') | (Next::NameOrEnd, b'}') => self.close(),
                (Next::CommaOrEnd, b']') if !self.in_object() => self.close(),
                (Next::CommaOrEnd, b'}') if self.in_object() => self.close(),
                (Next::CommaOrEnd, b',') => {
                    self.at += 1;
                    next = if self.in_object() { Next::Name } else { Next::Value };
                    continue;
                }
                (Next::CommaOrEnd, _) => {
                    return self.unexpected(if self.in_object() { "`,` or `}`" } else { "`,` or `]`" });
                }
                (Next::Name | Next::NameOrEnd, b'"') => {
                    self.string()?;
                    self.skip_space();
                    if self.peek()? != b':' {
                        return self.unexpected("`:`");
                    }
                    self.at += 1;
                    next = Next::Value;
                    continue;
                }
                (Next::Name, _) => return self.unexpected("a member name"),
                (Next::NameOrEnd, _) => return self.unexpected("a member name or `}`"),
                (Next::Value | Next::ValueOrEnd, b'{') => {
                    self.open(true)?;
                    next = Next::NameOrEnd;
                    continue;
                }
                (Next::Value | Next::ValueOrEnd, b'[') => {
                    self.open(false)?;
                    next = Next::ValueOrEnd;
                    continue;
                }
                (Next::Value | Next::ValueOrEnd, first) => self.scalar(first)?,
            }
            // A value is complete here: the whole, or one within an array or object.
            if self.depth == 0 {
                break;
            }
            next = Next::CommaOrEnd;
        }
        self.skip_space();
        if self.at == self.bytes.len() { Ok(()) } else { self.unexpected("the end") }
    }

    fn open(&mut self, object: bool) -> Result<(), Fault> {
        if self.depth == MAX_DEPTH {
            return Err(self.fault(FaultKind::Depth));
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
        self.at += 1;
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn scalar(&mut self, first: u8) -> Result<(), Fault> {
        match first {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.unexpected("a value"),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), Fault> {
        for expected in word.bytes() {
            if self.peek()? != expected {
                return self.unexpected("a value");
            }
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape(start)?,
                0..0x20 => return self.unexpected("an escaped control character"),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self, start: usize) -> Result<(), Fault> {
        self.at += 1;
        match self.peek()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.at += 1;
                return Ok(());
            }
            b'u' => self.at += 1,
            _ => return self.unexpected("an escape"),
        }
        let lone = Fault { offset: start, kind: FaultKind::Surrogate };
        match self.hex4()? {
            0xDC00..=0xDFFF => Err(lone),
            0xD800..=0xDBFF => {
                for expected in *b"\\u" {
                    if self.peek()? != expected {
                        return Err(lone);
                    }
                    self.at += 1;
                }
                if matches!(self.hex4()?, 0xDC00..=0xDFFF) { Ok(()) } else { Err(lone) }
            }
            _ => Ok(()),
        }
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let mut unit = 0;
        for _ in 0..4 {
            let Some(digit) = char::from(self.peek()?).to_digit(16) else {
                return self.unexpected("a hexadecimal digit");
            };
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.at += usize::from(self.peek()? == b'-');
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        let scaled = matches!(self.bytes.get(self.at), Some(b'e' | b'E'));
        if scaled {
            self.at += 1;
            self.at += usize::from(matches!(self.peek()?, b'+' | b'-'));
            self.digits()?;
        }
        // 300 digits without an exponent stay below 1e300.
        if (scaled || self.at - start > 300)
            && !self.text[start..self.at].parse::<f64>().is_ok_and(f64::is_finite)
        {
            return Err(Fault { offset: start, kind: FaultKind::Range });
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        if !self.peek()?.is_ascii_digit() {
            return self.unexpected("a digit");
        }
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }

    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Result<u8, Fault> {
        self.bytes.get(self.at).copied().ok_or_else(|| self.fault(FaultKind::Truncated))
    }

    fn unexpected<T>(&self, wanted: &'static str) -> Result<T, Fault> {
        Err(self.fault(FaultKind::Unexpected(wanted)))
    }

    const fn fault(&self, kind: FaultKind) -> Fault {
        Fault { offset: self.at, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn kind(bytes: &[u8]) -> Option<FaultKind> {
        check(bytes).err().map(|fault| fault.kind)
    }

    #[test]
    fn no_type_of_this_program_is_named() {
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code, reason = "only read")]
        struct Head {
            number: u32,
            names: Vec<String>,
        }
        for (text, words) in [
            ("null", "invalid type: null, expected an object at line 1 column 4"),
            ("7", "invalid type: integer `7`, expected an object at line 1 column 1"),
            (
                r#"{"number": -1}"#,
                "invalid value: integer `-1`, expected a whole number from 0 that is not too large at line 1 column 13",
            ),
            (
                r#"{"number": {}}"#,
                "invalid type: an object, expected a whole number from 0 that is not too large at line 1 column 11",
            ),
            (
                r#"{"number": 1, "names": "a"}"#,
                "invalid type: string \"a\", expected an array at line 1 column 26",
            ),
            ("{}", "the member `number` is missing at line 1 column 2"),
            (r#"{"number": 1, "number": 1}"#, "the member `number` is there twice at line 1 column 22"),
        ] {
            assert_eq!(in_words(&serde_json::from_str::<Head>(text).expect_err("is not a head")), words);
        }
    }

    #[test]
    fn takes_json() {
        for good in [
            "0",
            "-0",
            "-1.5e-300",
            "1E+2",
            " true\t",
            "\r\nnull ",
            "false",
            r#""""#,
            r#""\u0000\"\\\/\b\f\n\r\t""#,
            r#""\ud83d\ude00 é 😀""#,
            "[]",
            "{}",
            "[[],{},[1,2]]",
            r#"{"a":{"b":[1,{"c":null}]},"a":2}"#,
            "1e-99999999999999999999",
            "123456789012345678901234567890",
        ] {
            assert_eq!(check(good.as_bytes()), Ok(good), "{good}");
        }
    }

    #[test]
    fn names_the_fault_and_its_place() {
        use FaultKind as K;
        let table: &[(&[u8], usize, FaultKind)] = &[
            (b"", 0, K::Truncated),
            (b"  ", 2, K::Truncated),
            (b"{", 1, K::Truncated),
            (b"[1,", 3, K::Truncated),
            (b"\"a", 2, K::Truncated),
            (b"\"\\u12", 5, K::Truncated),
            (b"tru", 3, K::Truncated),
            (b"-", 1, K::Truncated),
            (b"1.", 2, K::Truncated),
            (b"1e", 2, K::Truncated),
            (b"\xef\xbb\xbf1", 0, K::Unexpected("a value")),
            (b"trux", 3, K::Unexpected("a value")),
            (b"nul]", 3, K::Unexpected("a value")),
            (b"NaN", 0, K::Unexpected("a value")),
            (b"+1", 0, K::Unexpected("a value")),
            (b".5", 0, K::Unexpected("a value")),
            (b"01", 1, K::Unexpected("the end")),
            (b"1 2", 2, K::Unexpected("the end")),
            (b"[1,]", 3, K::Unexpected("a value")),
            (b"[1 2]", 3, K::Unexpected("`,` or `]`")),
            (b"[1}", 2, K::Unexpected("`,` or `]`")),
            (b"{\"a\":1]", 6, K::Unexpected("`,` or `}`")),
            (b"{\"a\" 1}", 5, K::Unexpected("`:`")),
            (b"{1:2}", 1, K::Unexpected("a member name or `}`")),
            (b"{\"a\":1,}", 7, K::Unexpected("a member name")),
            (b"{'a':1}", 1, K::Unexpected("a member name or `}`")),
            (b"\"\n\"", 1, K::Unexpected("an escaped control character")),
            (b"\"\\x\"", 2, K::Unexpected("an escape")),
            (b"\"\\u00g0\"", 5, K::Unexpected("a hexadecimal digit")),
            (b"1.e5", 2, K::Unexpected("a digit")),
            (b"[\"\xff\"]", 2, K::Utf8),
            (b"\"\xed\xa0\x80\"", 1, K::Utf8),
            (b"\"\xc0\xaf\"", 1, K::Utf8),
            (b"[\"\\ud800\"]", 1, K::Surrogate),
            (b"\"\\udc00\\ud800\"", 0, K::Surrogate),
            (b"\"\\ud800\\u0041\"", 0, K::Surrogate),
            (b"\"\\ud800x\"", 0, K::Surrogate),
            (b"[1e400]", 1, K::Range),
            (b"-1e999999999999999999999", 0, K::Range),
        ];
        for (bytes, offset, kind) in table {
            let expected = Fault { offset: *offset, kind: *kind };
            assert_eq!(check(bytes), Err(expected), "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(kind(&[b'9'; 400]), Some(K::Range), "400 digits");
        assert_eq!(kind(format!("0.{}", "1".repeat(400)).as_bytes()), None, "400 digits after the point");
    }

    #[test]
    fn depth_is_bounded_however_it_is_made() {
        let nested =
            |open: &str, close: &str, times: usize| format!("{}1{}", open.repeat(times), close.repeat(times));
        assert_eq!(kind(nested("[", "]", 128).as_bytes()), None);
        assert_eq!(kind(nested("[", "]", 129).as_bytes()), Some(FaultKind::Depth));
        assert_eq!(kind(nested(r#"{"a":"#, "}", 128).as_bytes()), None);
        assert_eq!(kind(nested(r#"{"a":["#, "]}", 64).as_bytes()), None);
        assert_eq!(kind(nested(r#"[{"a":"#, "}]", 65).as_bytes()), Some(FaultKind::Depth));
        assert_eq!(kind("[".repeat(100_000).as_bytes()), Some(FaultKind::Depth));
        assert_eq!(kind(format!("[{}1]", "[],".repeat(10_000)).as_bytes()), None, "breadth is no depth");
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(8, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn takes_whatever_is_written(value in value(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.expect("serialises");
            prop_assert_eq!(check(text.as_bytes()), Ok(text.as_str()));
        }

        /// The reader of the values decides what is JSON; up to its own depth limit both must agree on every
        /// input.
        #[test]
        fn agrees_with_the_reader(bytes in prop::collection::vec(prop::sample::select(&b"{}[]\",:\\u0019dDcC8eE+-.tfnrals \n\x01\xc3\xa9"[..]), 0..24)) {
            prop_assert_eq!(check(&bytes).is_ok(), serde_json::from_slice::<Value>(&bytes).is_ok(), "{}", String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn agrees_on_damaged_texts(value in value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = serde_json::to_vec(&value).expect("serialises");
            let at = at.index(bytes.len());
            bytes[at] = byte;
            prop_assert_eq!(check(&bytes).is_ok(), serde_json::from_slice::<Value>(&bytes).is_ok());
        }
    }
}
