//! Statements for either database: text, typed arguments and typed cells over sqlx.
//!
//! An operation is written once, against [`Conn`]. Where the two databases have different words for the same
//! thing, [`Dialect`] has them. Texts consist of constant parts and places for arguments, so that each of
//! them is one prepared statement that its connection remembers; values never become part of a text.

mod argument;
mod conn;
mod dialect;
mod insert;
mod row;
mod statement;
mod target;
mod work;

pub(super) use conn::Conn;
pub(super) use dialect::Dialect;
pub(super) use row::{Cells, Row, selected};
pub(super) use statement::Statement;
pub(super) use work::{Deed, Work, deed};
