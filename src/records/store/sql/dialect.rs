//! The words that the two databases have for the same thing.

use std::fmt;

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Dialect {
    /// MySQL 8 and MariaDB.
    MySql,
    Sqlite,
}

impl Dialect {
    const fn either(self, mysql: &'static str, sqlite: &'static str) -> &'static str {
        match self {
            Self::MySql => mysql,
            Self::Sqlite => sqlite,
        }
    }

    /// After a table: read it along this key and no other. Planners that are left alone take another one as
    /// soon as a table has changed much since they last counted it.
    pub const fn index(self, name: &'static str) -> Index {
        Index { dialect: self, name }
    }

    /// After a table: read it along its primary key. SQLite, whose tables are kept in that order, has no word
    /// for it; there the plus sign of `+status` keeps the planner from the other keys, which is nothing to
    /// MySQL.
    pub const fn by_primary_key(self) -> &'static str {
        self.either("FORCE INDEX (PRIMARY)", "")
    }

    /// After SELECT: join the tables in the order in which they are named. Belongs with [`Self::then`].
    pub const fn in_order(self) -> &'static str {
        self.either("STRAIGHT_JOIN", "")
    }

    /// JOIN with a table that is read after the one before. Belongs with [`Self::in_order`].
    pub const fn then(self) -> &'static str {
        self.either("JOIN", "CROSS JOIN")
    }

    /// After a SELECT: lock the rows, waiting for others who have. The one writer of SQLite has the whole
    /// file.
    pub const fn locked(self) -> &'static str {
        self.either("FOR UPDATE", "")
    }

    /// After a SELECT: lock the rows, but leave out those that others have locked.
    pub const fn locked_unless_taken(self) -> &'static str {
        self.either("FOR UPDATE SKIP LOCKED", "")
    }

    /// Between two values: whether they are the same, NULL included.
    pub const fn same(self) -> &'static str {
        self.either("<=>", "IS")
    }

    /// The endpoint that owes an open response `r`, for a condition to follow: each database has a key for
    /// these alone, however many have ended. SQLite finds it by the literal.
    pub const fn owed_by(self) -> &'static str {
        self.either("r.owed_to", "r.status < 2 AND r.endpoint")
    }

    /// After a table of responses: read it in the order of their tasks, and of the answers within a task.
    /// SQLite reads the rows of the task: another key would cost more at each answer than it saves.
    pub const fn by_answer(self) -> &'static str {
        self.either("FORCE INDEX (response_owed)", "")
    }

    /// Whether a response `r` has an answer, for [`Self::by_answer`] to serve.
    pub const fn answered(self) -> &'static str {
        self.either("r.owed_to IS NULL AND r.answer IS NOT NULL", "r.answer IS NOT NULL")
    }

    /// The function for the number of characters of a text.
    pub const fn characters(self) -> &'static str {
        self.either("CHAR_LENGTH", "LENGTH")
    }

    /// The function for the least of several values.
    pub const fn least(self) -> &'static str {
        self.either("LEAST", "min")
    }

    /// The function for the greatest of several values.
    pub const fn greatest(self) -> &'static str {
        self.either("GREATEST", "max")
    }

    /// The JSON texts of rows in JSON lists. SQLite makes one list of all: each row on its own would cost
    /// more on its way out of SQLite's thread than all else. MySQL makes a list of each row: it bounds the
    /// length of a row.
    pub fn gathered(self, json: &str) -> String {
        match self {
            Self::MySql => format!("CONCAT('[', {json}, ']')"),
            Self::Sqlite => format!("CONCAT('[', group_concat({json}), ']')"),
        }
    }

    /// The function for the number of elements in a list that is kept as JSON text.
    pub const fn json_length(self) -> &'static str {
        self.either("JSON_LENGTH", "json_array_length")
    }

    /// After IN: what comes before a list of pairs, each in brackets. It ends with a bracket.
    pub const fn pairs(self) -> &'static str {
        self.either("(", "(VALUES ")
    }

    /// Begins an INSERT of rows of which some may be there. Belongs with [`Self::if_new`]. What MySQL ignores
    /// beside the keys has been ruled out by the types.
    pub const fn insert_new(self) -> &'static str {
        self.either("INSERT IGNORE INTO", "INSERT INTO")
    }

    /// Ends what [`Self::insert_new`] begins.
    pub const fn if_new(self) -> &'static str {
        self.either("", " ON CONFLICT DO NOTHING")
    }

    /// After an INSERT: leave the rows that are there as they are. MySQL has to be told a change that is
    /// none.
    pub fn or_keep(self, table: &str, column: &str) -> String {
        match self {
            Self::MySql => format!(" ON DUPLICATE KEY UPDATE {table}.{column} = {table}.{column}"),
            Self::Sqlite => " ON CONFLICT DO NOTHING".to_owned(),
        }
    }

    /// After an INSERT: what is to be changed instead in a row that has this key. A value that was to be
    /// inserted is [`Self::inserted`].
    pub fn or_update(self, key: &str) -> String {
        match self {
            Self::MySql => " ON DUPLICATE KEY UPDATE ".to_owned(),
            Self::Sqlite => format!(" ON CONFLICT ({key}) DO UPDATE SET "),
        }
    }

    /// The value of a column that was to be inserted. `VALUES(column)`, for MariaDB knows no row alias.
    pub fn inserted(self, column: &str) -> String {
        match self {
            Self::MySql => format!("VALUES({column})"),
            Self::Sqlite => format!("excluded.{column}"),
        }
    }
}

/// A key that a table is read along.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Index {
    dialect: Dialect,
    name: &'static str,
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dialect {
            Dialect::MySql => write!(f, "FORCE INDEX ({})", self.name),
            Dialect::Sqlite => write!(f, "INDEXED BY {}", self.name),
        }
    }
}
