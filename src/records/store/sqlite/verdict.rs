//! What an error of SQLite means.

use crate::store::fault::Verdict;
use crate::store::{Refusal, Retry};

/// What an error means.
pub(super) fn verdict(error: &sqlx::Error) -> Verdict {
    let sqlx::Error::Database(database) = error else { return Verdict::of_driver(error) };
    let code = database.code().and_then(|code| code.parse::<i32>().ok());
    of_code(code.unwrap_or_default(), database.message())
}

fn of_code(code: i32, message: &str) -> Verdict {
    // The last byte is the primary code.
    match code & 0xff {
        // Busy, locked.
        5 | 6 => Verdict::Again(Retry::LockWait),
        // The schema changed under a statement.
        17 => Verdict::Again(Retry::Conflict),
        // Too long, against a constraint, of another type, a column that is none.
        18 | 19 | 20 | 25 => Verdict::Rows,
        1 if message.starts_with("no such") || message.contains("has no column named") => Verdict::Schema,
        1 if message.contains("syntax error") => Verdict::Defect,
        8 => Verdict::Refused(Refusal::ReadOnly),
        13 => Verdict::Refused(Refusal::Full),
        7 => Verdict::Refused(Refusal::Limit),
        3 | 23 => Verdict::Refused(Refusal::Denied),
        4 | 9 => Verdict::Refused(Refusal::Interrupted),
        // I/O, corrupt, cannot open, not a database.
        10 | 11 | 14 | 26 => Verdict::Refused(Refusal::Storage),
        _ => Verdict::Refused(Refusal::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_list_is_about_rows() {
        let about_rows: Vec<i32> = (0..256).filter(|code| of_code(*code, "") == Verdict::Rows).collect();
        assert_eq!(about_rows, [18, 19, 20, 25]);
        assert_eq!(of_code(2067, "UNIQUE constraint failed"), Verdict::Rows, "extended codes too");
    }

    #[test]
    fn what_the_state_of_the_file_forbids_is_told_from_what_rows_are() {
        use Refusal::{Full, Limit, Other, ReadOnly, Storage};
        for (code, cause) in [
            (13, Full),
            (8, ReadOnly),
            (1032, ReadOnly),
            (10, Storage),
            (778, Storage),
            (26, Storage),
            (7, Limit),
            (21, Other),
        ] {
            assert_eq!(of_code(code, ""), Verdict::Refused(cause), "{code}");
        }
        for driver in [
            sqlx::Error::InvalidSavePointStatement,
            sqlx::Error::BeginFailed,
            sqlx::Error::InvalidArgument("depth".into()),
        ] {
            assert!(verdict(&driver).spoils(), "{driver:?}");
        }
        assert_eq!(of_code(261, "database is locked"), Verdict::Again(Retry::LockWait));
        assert_eq!(of_code(1, "no such table: task"), Verdict::Schema);
        assert_eq!(of_code(1, "near \"SELEC\": syntax error"), Verdict::Defect);
        assert_eq!(of_code(1, "cannot rollback - no transaction is active"), Verdict::Refused(Other));
    }
}
