//! What is MySQL's own, 8 and later, and MariaDB's, 10.6 and later: `session` connects and runs operations,
//! `trouble` says why no connection can be had, `schema` migrates.
//!
//! READ COMMITTED throughout: it locks rows and no gaps, so that claims do not hold up inserts. What is read
//! without a lock of its own is read under the lock of its task row, and is therefore the latest there is.

mod claim;
mod schema;
mod session;
mod trouble;
mod verdict;

pub(super) use session::Session;
