//! Spans of time as text: `1h30m`, `250ms`. A bare number is refused since nobody can see its unit.

use std::time::Duration;

/// What a span looks like, for error texts.
pub const FORM: &str = "a span of time such as `30s`, `1h30m` or `250ms`";

/// Units with their length in microseconds, longest first: they must come in this order.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// The text is not a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {FORM}")]
pub struct InvalidSpan;

/// Reads a span.
///
/// # Errors
/// For anything but whole numbers, each with a unit out of `d h m s ms us`, longest unit first.
pub fn parse(text: &str) -> Result<Duration, InvalidSpan> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut micros = 0u64;
    while !rest.is_empty() {
        let (number, tail) = split(rest, |c| c.is_ascii_digit());
        let (unit, tail) = split(tail, |c| c.is_ascii_alphabetic());
        let number: u64 = number.parse().map_err(|_| InvalidSpan)?;
        // The iterator only goes on, so a unit that comes twice or too late is not found.
        let (_, length) = units.find(|(name, _)| *name == unit).ok_or(InvalidSpan)?;
        micros = number.checked_mul(*length).and_then(|part| micros.checked_add(part)).ok_or(InvalidSpan)?;
        rest = tail;
    }
    if text.is_empty() { Err(InvalidSpan) } else { Ok(Duration::from_micros(micros)) }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// Writes a span the way [`parse`] reads it; finer than a microsecond is dropped.
pub fn format(span: Duration) -> String {
    let mut left = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, length) in UNITS {
        let count = left / length;
        if count > 0 {
            text.push_str(&count.to_string());
            text.push_str(unit);
            left %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_units_longest_first() {
        for (text, millis) in [
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("0s", 0),
            ("1d", 86_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("90m", 5_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "", "30", "s", "1.5s", "-1s", "30 s", " 30s", "30S", "1m1h", "1s1s", "30sec",
            "99999999999999999999s", "999999999999999d", "١s",
        ] {
            assert_eq!(parse(text), Err(InvalidSpan), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(micros in any::<u64>()) {
            let span = Duration::from_micros(micros);
            prop_assert_eq!(parse(&format(span)), Ok(span));
        }

        #[test]
        fn takes_any_text(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
