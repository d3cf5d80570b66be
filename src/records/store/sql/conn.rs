//! A connection to one of the two databases.

use std::borrow::Cow;

use sqlx::mysql::MySqlArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{MySqlConnection, SqliteConnection};

use super::dialect::Dialect;
use super::insert::Insert;
use super::statement::Statement;
use super::target::Target;

/// A connection to one of the two databases, for the time of an operation.
pub(in crate::store) enum Conn<'c> {
    MySql(&'c mut MySqlConnection),
    Sqlite(&'c mut SqliteConnection),
}

impl Conn<'_> {
    /// What is spoken here.
    pub const fn dialect(&self) -> Dialect {
        match self {
            Self::MySql(_) => Dialect::MySql,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }

    fn target(&mut self) -> Target<'_> {
        match self {
            Self::MySql(conn) => Target::MySql(conn, MySqlArguments::default()),
            Self::Sqlite(conn) => Target::Sqlite(conn, SqliteArguments::default()),
        }
    }

    /// A statement that begins with this text.
    pub fn sql(&mut self, text: impl Into<Cow<'static, str>>) -> Statement<'_> {
        Statement::new(self.target(), text.into())
    }

    /// Rows for a table.
    pub fn insert(&mut self, table: &'static str) -> Insert<'_> {
        Insert::new(self.sql(""), table)
    }
}
