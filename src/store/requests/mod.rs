//! Requests and their jobs. `records` what is known of them and what is done to them, `rows` how their rows are read, `submit` and
//! `read` what clients ask for, `advance` moves them on, `withdraw` cancels and begins anew.
//!
//! Order of locks: rows of requests by token, then those of tasks, as everywhere. The holder of a request's row decides alone about its
//! jobs, so whoever changes a row of `jobs` has it.

mod advance;
mod import;
mod read;
mod records;
mod rows;
mod submit;
mod withdraw;

pub use advance::{Plan, Terms};
pub use read::RequestQuery;
pub use records::{Advanced, Answer, Call, DueRequest, JobChange, NewJob, RequestChange, RequestView, Standing};
pub use submit::Recorded;
pub use withdraw::{Begun, CanceledRequest};
