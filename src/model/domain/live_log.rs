//! The lines that a handler logs while it runs: pieces on their way, and what is kept of them.
//!
//! Pieces may be dropped anywhere on the way, since answers matter more. Lines are numbered within an
//! attempt, so that a gap shows.

/// Some lines that a handler has logged, on their way to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece {
    /// The attempt that has logged them, from 1.
    pub attempt: u32,
    /// How many lines of this attempt came before.
    pub first: u64,
    /// The lines, each with a line feed.
    pub text: String,
}

/// The end of all that a response's handler has logged so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveLog {
    /// The attempt that has logged last; 0 before the first.
    pub attempt: u32,
    /// How many lines of that attempt are known, those that were left out included.
    pub next: u64,
    /// Bytes that there were in all.
    pub length: u64,
    /// The last of them, in whole lines.
    pub text: String,
}

impl LiveLog {
    /// Bytes that are kept.
    pub const KEPT: usize = 64 << 10;

    /// Where the text begins in all that there was.
    pub fn begin(&self) -> u64 {
        self.length - self.text.len() as u64
    }

    /// What there is after a place in all that there was, and where that begins.
    pub fn after(&self, place: u64) -> (u64, &str) {
        let begin = self.begin();
        let skip = usize::try_from(place.saturating_sub(begin)).unwrap_or(usize::MAX).min(self.text.len());
        // A place that is none of ours may lie within a character.
        let skip = self.text.ceil_char_boundary(skip);
        (begin + skip as u64, &self.text[skip..])
    }

    /// Adds a piece; says whether there was anything new in it. Lines that never came are told in a line of
    /// their own.
    pub fn append(&mut self, piece: &LogPiece) -> bool {
        if piece.attempt < self.attempt {
            return false;
        }
        let mut new = String::new();
        let next = if piece.attempt == self.attempt { self.next } else { 0 };
        if piece.attempt > self.attempt && self.attempt > 0 {
            new += &format!("--- attempt {} ---\n", piece.attempt);
        }
        match piece.first.checked_sub(next) {
            None | Some(0) => {}
            Some(1) => new += "… 1 line left out\n",
            Some(missing) => new += &format!("… {missing} lines left out\n"),
        }
        let known = usize::try_from(next.saturating_sub(piece.first)).unwrap_or(usize::MAX);
        let lines: Vec<&str> = piece.text.split_inclusive('\n').collect();
        let fresh = &lines[known.min(lines.len())..];
        if fresh.is_empty() {
            return false;
        }
        fresh.iter().for_each(|line| new += line);
        if !new.ends_with('\n') {
            new.push('\n');
        }
        (self.attempt, self.next) = (piece.attempt, piece.first.max(next) + fresh.len() as u64);
        self.length += new.len() as u64;
        self.text += &new;
        self.text.drain(..tail(&self.text));
        true
    }
}

/// Where the part of a text that is kept begins: with a whole line.
fn tail(text: &str) -> usize {
    let Some(excess) = text.len().checked_sub(LiveLog::KEPT).filter(|excess| *excess > 0) else { return 0 };
    let start = text.ceil_char_boundary(excess);
    text[start..].find('\n').map_or(start, |end| start + end + 1).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(attempt: u32, first: u64, text: &str) -> LogPiece {
        LogPiece { attempt, first, text: text.to_owned() }
    }

    #[test]
    fn gaps_and_attempts_show_and_repeats_do_not() {
        let mut log = LiveLog::default();
        assert!(log.append(&piece(1, 0, "a\nb\n")));
        assert!(!log.append(&piece(1, 0, "a\nb\n")), "a repeat");
        assert!(log.append(&piece(1, 1, "b\nc\n")), "a part is new");
        assert!(log.append(&piece(1, 123, "d\n")));
        assert!(log.append(&piece(1, 125, "e")));
        assert!(log.append(&piece(3, 0, "again\n")));
        assert!(!log.append(&piece(2, 9, "late\n")));
        let told = "a\nb\nc\n… 120 lines left out\nd\n… 1 line left out\ne\n--- attempt 3 ---\nagain\n";
        assert_eq!((log.text.as_str(), log.length, log.begin()), (told, told.len() as u64, 0));
        assert_eq!((log.attempt, log.next), (3, 1));
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let mut log = LiveLog::default();
        log.append(&piece(1, 0, "one\ntwo\n"));
        assert_eq!(log.after(0), (0, "one\ntwo\n"));
        assert_eq!(log.after(4), (4, "two\n"));
        assert_eq!(log.after(8), (8, ""));
        assert_eq!(log.after(99), (8, ""));
        log.append(&piece(1, 2, &format!("{}\n", "x".repeat(LiveLog::KEPT - 2))));
        assert_eq!(log.begin(), 8, "whole lines are kept");
        assert_eq!(log.after(4).0, 8, "what is gone is skipped");
    }

    proptest! {
        #[test]
        fn no_more_is_kept_than_that_and_always_the_end(sizes in proptest::collection::vec(0usize..9000, 1..60), lost in any::<u64>()) {
            let (mut log, mut first, mut all) = (LiveLog::default(), 0, String::new());
            for (at, size) in sizes.iter().enumerate() {
                let text = format!("{at} {}ä\n", "x".repeat(*size));
                if lost >> (at % 64) & 1 == 0 {
                    prop_assert!(log.append(&piece(1, first, &text)));
                    all = text;
                }
                first += 1;
                prop_assert!(log.text.len() <= LiveLog::KEPT);
                prop_assert!(log.text.ends_with(&all));
                prop_assert_eq!(log.begin() + log.text.len() as u64, log.length);
            }
        }
    }
}
