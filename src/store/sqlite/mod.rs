//! What is SQLite's own: `session` opens the file and runs operations, `writer` is the one that writes, `schema` migrates.
//!
//! There is one writer, which takes the file's lock when it begins: so whatever a transaction reads is the latest there is, and rows
//! need no locks of their own.

pub(super) mod queue;
pub(super) mod read;
pub(super) mod report;
mod rows;
mod schema;
mod session;
pub(super) mod settle;
pub(super) mod submit;
mod writer;

pub(super) use session::Session;
