//! The agent that runs on every server: consume, journal, execute, answer. Knows the broker and never the
//! store.
//!
//! `agent` puts the parts together · `intake` takes deliveries, and `fate` says what becomes of them ·
//! `guard` judges their signatures, `pace` the clock, `quarantine` keeps those that are refused, `orders`
//! knows what persons have ordered, and `revoked` which keys count no more · `journal` remembers them ·
//! `lane` keeps them in order · `recovery` takes up what the last process left, and `boot` how much time that
//! has · `performer` takes one from its slot to its outcome, and `at_work` has those that run · `executor`
//! runs one attempt · `registry` finds its handler · `executable` makes handlers of files · `handlers_dir`
//! says which file performs which type, and `unfit` why it cannot be run · `stop_file` keeps tasks from
//! beginning · `account` is the user they run as · `groups` knows the processes that run · `leftovers` ends
//! what a killed process left · `outbox` and `reporter` answer · `lines` and `line_reporter` tell what
//! handlers log meanwhile · `lookout` says which types have a handler · `presence` says who is here, and
//! `home` with which memory.

mod account;
mod agent;
mod at_work;
mod boot;
mod directory;
mod executable;
mod executor;
mod fate;
mod groups;
mod guard;
mod handler;
mod handlers_dir;
mod home;
mod intake;
mod journal;
mod labels;
mod lane;
mod leftovers;
mod line_reporter;
mod lines;
mod lookout;
mod orders;
mod outbox;
mod pace;
mod performer;
mod presence;
mod quarantine;
mod recovery;
mod registry;
mod reporter;
mod revoked;
mod stop_file;
#[cfg(test)]
mod testing;
mod unfit;

pub use agent::{Agent, AgentConfig, AgentError, AgentHandle, AgentState};
pub use at_work::RunningTask;
pub use groups::{end_all as end_all_executables, reap_orphans};
pub use handler::{AttemptSink, Context, Handler, Work};
pub use handlers_dir::{HandlersDir, Inventory};
pub use journal::{Health, JournalError};
pub use registry::Registry;

/// Doors of the fuzz targets.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub use super::executable::read_answer;
    pub use super::journal::read_segment;
    pub use super::orders::read_orders;
}
