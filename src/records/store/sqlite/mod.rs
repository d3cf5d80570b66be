//! What is SQLite's own: `session` opens the file and runs operations, `writer` is the one that writes,
//! `schema` migrates.
//!
//! There is one writer, which takes the file's lock when it begins: so whatever a transaction reads is the
//! latest there is, and rows need no locks of their own.

mod schema;
mod session;
mod verdict;
mod writer;

pub(super) use session::Session;
