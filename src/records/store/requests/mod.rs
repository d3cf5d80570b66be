//! Requests and their jobs. `records` has the types for reading and changing them, `rows` reads their rows,
//! `submit` and `read` serve clients, `advance` moves requests on, `census` adds them up, `withdraw` cancels
//! them and begins failed jobs anew, `import` takes over those of another database.
//!
//! Order of locks: rows of requests by token, then those of tasks, as everywhere. Only the holder of
//! a request's row lock changes its rows in `jobs`.

mod advance;
mod census;
mod import;
mod read;
mod records;
mod rows;
mod submit;
mod withdraw;

pub use advance::{Plan, Terms};
pub use census::{RequestCensus, RequestCensusQuery, RequestFlaw};
pub use read::RequestQuery;
pub use records::{
    Advanced, Answer, Call, DueRequest, JobChange, NewJob, RequestChange, RequestView, Standing,
};
pub use submit::Recorded;
pub use withdraw::{Begun, CanceledRequest};
