//! Statements for either database: text, typed arguments and typed cells over sqlx.
//!
//! An operation is written once, against [`Conn`]. Where the two databases have different words for the same thing, [`Dialect`] has
//! them. Texts consist of constant parts and places for arguments, so that each of them is one prepared statement that its connection
//! remembers; values never become part of a text.

mod argument;
mod dialect;
mod insert;
mod row;
mod statement;

use std::borrow::Cow;

use futures::future::BoxFuture;
use sqlx::{MySqlConnection, SqliteConnection};

use super::fault::Fault;

pub(super) use argument::Argument;
pub(super) use dialect::Dialect;
pub(super) use insert::Insert;
pub(super) use row::{Cells, Row, selected};
pub(super) use statement::Statement;

/// A connection to one of the two databases, for the time of an operation.
pub(super) enum Conn<'c> {
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

    /// A statement that begins with this text.
    pub fn sql(&mut self, text: impl Into<Cow<'static, str>>) -> Statement<'_> {
        Statement::new(self, text.into())
    }

    /// Rows for a table.
    pub fn insert(&mut self, table: &'static str) -> Insert<'_> {
        Insert::new(self, table)
    }
}

/// What an operation does on a connection; called again from the top when others were in the way.
pub(super) trait Work<T>: for<'c> Fn(&'c mut Conn<'c>) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static {}

impl<T, F> Work<T> for F where F: for<'c> Fn(&'c mut Conn<'c>) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static {}
