//! Spans of time as Flamenco writes them: `10s`, `1h30m`, `1.5h`, `-1s`.

use std::time::Duration;

/// Units with their length in seconds; `ms` before `m`, since the longest that fits is taken.
const UNITS: [(&str, f64); 6] =
    [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];

/// Reads a span; `None` for a negative one, which switches something off.
pub(super) fn parse(text: &str) -> Result<Option<Duration>, String> {
    let wrong = || format!("expected a span of time such as `10s`, `5m` or `336h`, got {text:?}");
    let text = text.trim();
    let (negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if rest == "0" {
        return Ok(Some(Duration::ZERO));
    }
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let (unit, length) = UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(wrong)?;
        seconds += number * length;
        rest = &rest[unit.len()..];
    }
    if negative && seconds > 0.0 {
        return Ok(None);
    }
    Duration::try_from_secs_f64(seconds).map(Some).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_spans() {
        for (text, millis) in [
            ("10s", 10_000),
            ("5m", 300_000),
            ("336h", 1_209_600_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("20ms", 20),
            ("0s", 0),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Some(Duration::from_millis(millis))), "{text}");
        }
        assert_eq!(parse("-1s"), Ok(None));
        for wrong in ["", "10", "s", "1x", "1s2", "-", "1..2s", "é"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
