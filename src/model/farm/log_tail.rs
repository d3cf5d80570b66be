//! The end of a log, for those who do not get all of it.

/// Lines that it has at most.
const LINES: usize = 10;
/// Bytes that it has at most: a line may be of any length.
const BYTES: usize = 16 * 1024;

/// The last ten lines, ending with a line feed; nothing for a log that has only blanks.
pub fn log_tail(log: &str) -> Option<String> {
    let log = log.trim();
    if log.is_empty() {
        return None;
    }
    let log = &log[log.ceil_char_boundary(log.len().saturating_sub(BYTES))..];
    let start = log.rmatch_indices('\n').nth(LINES - 1).map_or(0, |(at, _)| at + 1);
    Some(format!("{}\n", &log[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_ten_lines() {
        let lines = |range: std::ops::RangeInclusive<u32>| {
            range.map(|line| line.to_string()).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(log_tail(&lines(1..=15)).as_deref(), Some(&*format!("{}\n", lines(6..=15))));
        assert_eq!(
            log_tail(&format!("{}\n\n", lines(1..=10))).as_deref(),
            Some(&*format!("{}\n", lines(1..=10)))
        );
        assert_eq!(log_tail(" one ").as_deref(), Some("one\n"));
        for empty in ["", "\n", " \n\t"] {
            assert_eq!(log_tail(empty), None);
        }
    }

    #[test]
    fn keeps_the_end_of_an_endless_line() {
        let tail = log_tail(&format!("begin {}", "é".repeat(20_000))).expect("the end");
        assert!(tail.len() <= BYTES + 1 && tail.starts_with('é') && tail.ends_with("é\n"));
    }
}
