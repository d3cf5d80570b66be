//! Where a statement runs.

use sqlx::mysql::MySqlArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{MySqlConnection, SqliteConnection};

/// Where a statement runs, with the values for the places in its text.
pub(in crate::store) enum Target<'s> {
    MySql(&'s mut MySqlConnection, MySqlArguments),
    Sqlite(&'s mut SqliteConnection, SqliteArguments),
}
