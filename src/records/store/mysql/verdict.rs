//! What an error of MySQL or MariaDB means.

use sqlx::mysql::MySqlDatabaseError;

use crate::store::fault::Verdict;
use crate::store::{Refusal, Retry};

/// What an error means.
pub(super) fn verdict(error: &sqlx::Error) -> Verdict {
    let sqlx::Error::Database(database) = error else { return Verdict::of_driver(error) };
    let number = database.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number);
    of_number(number.unwrap_or_default(), database.code().as_deref().unwrap_or_default(), database.message())
}

fn of_number(number: u16, sqlstate: &str, message: &str) -> Verdict {
    match number {
        1213 | 1614 => Verdict::Again(Retry::Deadlock),
        1205 => Verdict::Again(Retry::LockWait),
        // A transaction that is too large for the cluster or its log; smaller ones get through.
        1105 if message.contains("writeset size") => Verdict::Rows,
        1180 if message.contains("error 90") => Verdict::Rows,
        1118 | 1197 => Verdict::Rows,
        // Snapshot too old, Galera's refusal of a commit, a changed table, a statement to be prepared anew, a
        // certification that failed.
        1020 | 1180 | 1412 | 1615 | 3101 => Verdict::Again(Retry::Conflict),
        // Longer than a packet, or its result.
        1153 | 1301 => Verdict::Rows,
        // Null, double, without its parent or with children, no text of its character set, cut short, against
        // a check.
        1048 | 1062 | 1216 | 1217 | 1264 | 1265 | 1300 | 1366 | 1406 | 1451 | 1452 | 3819 | 4025 => {
            Verdict::Rows
        }
        1049 => Verdict::NoDatabase,
        // No such table, column, key; a column without a value or too many of them.
        1051 | 1054 | 1136 | 1146 | 1176 | 1364 => Verdict::Schema,
        // Syntax, an ambiguous name, an unknown function, too many values in one statement.
        1052 | 1064 | 1149 | 1305 | 1390 => Verdict::Defect,
        // SQLSTATE 22: data exceptions.
        _ if sqlstate.starts_with("22") => Verdict::Rows,
        1290 | 1792 | 1836 | 1874 | 3989 => Verdict::Refused(Refusal::ReadOnly),
        1021 | 1026 | 1114 => Verdict::Refused(Refusal::Full),
        1030 if message.contains("error 28") => Verdict::Refused(Refusal::Full),
        1030 | 1033 | 1034 | 1035 | 1194 | 1195 | 1932 => Verdict::Refused(Refusal::Storage),
        1037 | 1038 | 1040 | 1041 | 1135 | 1203 | 1206 | 1226 | 1461 | 1637 => {
            Verdict::Refused(Refusal::Limit)
        }
        1044 | 1045 | 1130 | 1142 | 1143 | 1227 | 1370 | 1698 | 3118 | 3159 => {
            Verdict::Refused(Refusal::Denied)
        }
        1317 | 1927 | 1969 | 3024 => Verdict::Refused(Refusal::Interrupted),
        1047 | 1053 | 1077..=1079 | 1129 | 1152 | 1154..=1161 | 3168 => {
            Verdict::Refused(Refusal::Unreachable)
        }
        _ => Verdict::Refused(Refusal::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_list_is_about_rows() {
        let about_rows: Vec<u16> =
            (0..u16::MAX).filter(|number| of_number(*number, "HY000", "") == Verdict::Rows).collect();
        let listed = [
            1048, 1062, 1118, 1153, 1197, 1216, 1217, 1264, 1265, 1300, 1301, 1366, 1406, 1451, 1452, 3819,
            4025,
        ];
        assert_eq!(about_rows, listed);
        // Whatever a server comes with that nobody has listed.
        assert_eq!(of_number(9999, "22032", ""), Verdict::Rows);
        assert_eq!(of_number(9999, "HY000", ""), Verdict::Refused(Refusal::Other));
    }

    #[test]
    fn what_the_state_of_the_server_forbids_is_told_from_what_rows_are() {
        use Refusal::{Denied, Full, Interrupted, Limit, Other, ReadOnly, Storage, Unreachable};
        for (number, message, cause) in [
            (1021, "", Full),
            (1114, "The table 'response' is full", Full),
            (1030, "Got error 28 \"No space left on device\" from storage engine InnoDB", Full),
            (1030, "Got error 168 from storage engine", Storage),
            (1206, "", Limit),
            (1461, "", Limit),
            (1040, "", Limit),
            (1792, "", ReadOnly),
            (1290, "", ReadOnly),
            (3989, "", ReadOnly),
            (1969, "", Interrupted),
            (3024, "", Interrupted),
            (1045, "", Denied),
            (1047, "", Unreachable),
            (3572, "", Other),
            (4031, "", Other),
            (1243, "", Other),
            (1099, "", Other),
        ] {
            let verdict = of_number(number, "HY000", message);
            assert_eq!(verdict, Verdict::Refused(cause), "{number}");
            assert!(verdict.spoils());
        }
        for (number, retry) in [
            (1213, Retry::Deadlock),
            (1205, Retry::LockWait),
            (1615, Retry::Conflict),
            (1412, Retry::Conflict),
        ] {
            assert_eq!(of_number(number, "HY000", ""), Verdict::Again(retry));
        }
        assert_eq!(
            of_number(1180, "HY000", "Got error 90 \"Message too long\" during COMMIT"),
            Verdict::Rows
        );
        assert_eq!(of_number(1049, "42000", ""), Verdict::NoDatabase);
        for number in [1054, 1146, 1364] {
            assert_eq!(of_number(number, "42S02", ""), Verdict::Schema);
        }
        for number in [1064, 1305] {
            assert_eq!(of_number(number, "42000", ""), Verdict::Defect);
        }
    }
}
