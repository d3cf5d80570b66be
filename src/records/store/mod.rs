//! The ledger: all SQL, and the only place with sqlx.
//!
//! One [`Store`] over one of two databases, one conformance suite. An operation is written once, in the file
//! of its noun, against the small facade of `sql`; `mysql` and `sqlite` hold what is their own: sessions,
//! transactions, the verdict on errors, migrations. All times come from the caller's [`crate::clock::Clock`],
//! which follows the database's.
//!
//! Order of locks, the same in every operation that writes: rows of requests by token, then task rows by id,
//! then response rows by (task, endpoint). The holder of a task row's lock decides alone about that task, so
//! counts and states are derived from what was read under the lock and never from affected rows. The end of
//! the audit log is locked last of all.

mod answers;
mod attempt;
mod audit;
mod batch;
mod census;
mod claim;
mod clock_offset;
mod columns;
mod enrolment;
mod error;
mod explain;
pub mod farm;
mod fault;
mod groups;
mod ledger;
mod logs;
mod migrations;
mod mysql;
mod original;
mod presence;
mod queue;
mod read;
mod report;
mod requests;
mod responses;
mod rollouts;
mod schedules;
mod scratch;
mod settle;
mod sql;
mod sqlite;
mod states;
mod submissions;
mod submit;
mod subscription;
mod sweep;
mod tally;
mod tasks;
mod throughput;
mod tokens;
mod window;

pub use answers::{AnswerGroup, AnswerGroups};
pub use audit::{AuditQuery, Submissions};
pub use census::{Census, CensusQuery, Flaw};
pub use claim::Claim;
pub use clock_offset::ClockOffsets;
pub use enrolment::{Enrolment, Invited, Redeemed};
pub use error::{Refusal, Result, StoreError};
pub use groups::{GroupRecord, GroupWritten, MAX_GROUPS};
pub use ledger::{Applied, Found, Settlement};
pub use logs::{LogPlace, LoggedLines, ResponseLog};
pub use original::{OriginalJob, OriginalRequest, OriginalState, OriginalTime};
pub use presence::{
    EndpointForgotten, EndpointRecord, Missed, StandbyRecord, Subscribers, SubscriptionRecord,
};
pub use queue::{Given, QueueRecord, QueueRule, TakenBack, Turns};
pub use read::{LIST_BYTES, OpenTasks, Owed, OwedBrief, ResponseFilter, ResponseQuery, TaskQuery};
pub use requests::{
    Advanced, Answer, Begun, Call, CanceledRequest, DueRequest, JobChange, NewJob, Plan, Recorded,
    RequestCensus, RequestCensusQuery, RequestChange, RequestFlaw, RequestQuery, RequestView, Standing,
    Terms,
};
pub use responses::OpenRow;
pub use rollouts::{
    AdvancedRollout, Commanded, NewRollout, RolloutBatches, RolloutCensus, RolloutCensusQuery,
    RolloutDecision, RolloutEventRecord, RolloutFlaw, RolloutHold, RolloutOfLane, RolloutPick, RolloutQuery,
    RolloutRecord, RolloutRecorded, RolloutTargetQuery, RolloutTargetRecord,
};
pub use schedules::ScheduleRecord;
pub use scratch::{drop_scratch, scratch};
pub use settle::{CancelOutcome, DueTask, Settled};
pub use states::{Part, Parts, TaskStanding};
pub use submissions::Accepted;
pub use submit::{Freeze, Release};
pub use subscription::Seen;
pub use sweep::{Sweep, Swept};
pub use tally::{Retry, Tally};
pub use throughput::OfMinute;
pub use tokens::TokenCreated;

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use migrations::Change;
use sql::Work;

use crate::clock::Clock;
use crate::domain::Timestamp;

/// The ledger.
#[derive(Debug)]
pub struct Store {
    session: Session,
}

/// An operation of the store. It begins when it is awaited. Functions return it in a box, in place of being
/// async functions: so it is compiled once, in this crate, and not again in each crate that awaits it.
pub type Operation<'a, T> = BoxFuture<'a, Result<T>>;

/// An operation that needs no statement.
fn without_statements<'a, T: Send + 'static>(outcome: Result<T>) -> Operation<'a, T> {
    std::future::ready(outcome).boxed()
}

/// A shared store.
pub type SharedStore = Arc<Store>;

/// How the database is reached.
#[derive(Debug)]
enum Session {
    MySql(Box<mysql::Session>),
    Sqlite(sqlite::Session),
}

/// The store of an address: `mysql://` (also `mariadb://`) or `sqlite://`. Connects at the first operation,
/// so a database that is away does not keep a process from starting.
///
/// # Errors
/// [`StoreError::Address`] when the address cannot be used.
pub fn open(database: &crate::config::Database) -> Result<SharedStore> {
    open_as(database, true)
}

/// The same of a database that another program makes, and brings up to date: it is never made here.
///
/// # Errors
/// [`StoreError::Address`] when the address cannot be used.
pub fn open_existing(database: &crate::config::Database) -> Result<SharedStore> {
    open_as(database, false)
}

fn open_as(database: &crate::config::Database, make: bool) -> Result<SharedStore> {
    let session = match database.uri.reveal().split_once("://").map(|(scheme, _)| scheme) {
        Some("mysql" | "mariadb") => Session::MySql(Box::new(mysql::Session::new(database)?)),
        Some("sqlite") => Session::Sqlite(sqlite::Session::new(database, make)?),
        _ => {
            return Err(StoreError::Address {
                reason: "it begins neither with `mysql://` nor with `sqlite://`".into(),
            });
        }
    };
    Ok(Arc::new(Store { session }))
}

impl Store {
    /// Brings the schema up to date. Safe when several processes start at once: one works, the others wait.
    pub fn migrate(&self) -> Operation<'_, ()> {
        self.change_schema(Change::Migrate)
    }

    /// Drops everything this program made and migrates anew.
    pub fn reset(&self) -> Operation<'_, ()> {
        self.change_schema(Change::Reset)
    }

    /// Goes back to an older schema. For tests of the way back.
    pub fn revert(&self, to: i64) -> Operation<'_, ()> {
        self.change_schema(Change::Revert(to))
    }

    fn change_schema(&self, change: Change) -> Operation<'_, ()> {
        match &self.session {
            Session::MySql(session) => session.change_schema(change).boxed(),
            Session::Sqlite(session) => session.change_schema(change).boxed(),
        }
    }

    /// Fails with [`StoreError::NoTables`], [`StoreError::Missing`] or [`StoreError::Schema`] unless the schema is exactly this program's.
    pub fn check_schema(&self) -> Operation<'_, ()> {
        match &self.session {
            Session::MySql(session) => session.check_schema().boxed(),
            Session::Sqlite(session) => session.check_schema().boxed(),
        }
    }

    /// Claims the database for this process; `None` while another one has it.
    pub fn claim(&self) -> Operation<'_, Option<Claim>> {
        match &self.session {
            Session::MySql(session) => session.claim().boxed(),
            Session::Sqlite(session) => without_statements(session.claim()),
        }
    }

    /// The database's time of day; also proves that it answers.
    pub fn now(&self) -> Operation<'_, Timestamp> {
        match &self.session {
            Session::MySql(_) => self
                .run(|conn| async { conn.sql("SELECT UTC_TIMESTAMP(6)").fetch_one().await?.get(0) }.boxed()),
            // The file is on this machine, and so is its clock.
            Session::Sqlite(_) => self
                .run(|conn| async { conn.sql("SELECT 1").fetch_one().await.map(drop) }.boxed())
                .map_ok(|()| Clock::system().now())
                .boxed(),
        }
    }

    /// Proves that the database can be written, by doing so: one small row, always the same.
    pub fn prove_writable(&self, now: Timestamp) -> Operation<'_, ()> {
        // No schedule has this name: names of schedules have no slash.
        self.set_schedule_done("/ready", now)
    }

    /// Bytes that one report or submission may have at most; what is larger is [`StoreError::TooLarge`].
    /// Without a limit until the database was reached for the first time.
    pub fn largest_row(&self) -> usize {
        match &self.session {
            Session::MySql(session) => session.largest_row(),
            Session::Sqlite(session) => session.largest_row(),
        }
    }

    /// Refuses rows of these sizes when they do not fit into statements that the database takes.
    fn fits(&self, sizes: impl Iterator<Item = usize>) -> Result<()> {
        match &self.session {
            Session::MySql(session) => session.fits(sizes),
            Session::Sqlite(_) => Ok(()),
        }
    }

    /// What went wrong so far.
    pub fn tally(&self) -> &Tally {
        match &self.session {
            Session::MySql(session) => session.tally(),
            Session::Sqlite(session) => session.tally(),
        }
    }

    /// Ends the connections.
    pub fn close(&self) -> BoxFuture<'_, ()> {
        match &self.session {
            Session::MySql(session) => session.close().boxed(),
            Session::Sqlite(session) => session.close().boxed(),
        }
    }

    /// Runs statements that only read.
    fn run<T: Send + 'static>(&self, work: impl Work<T>) -> Operation<'_, T> {
        let (deed, outcome) = sql::deed(work);
        let run = match &self.session {
            Session::MySql(session) => session.run(deed),
            Session::Sqlite(session) => session.run(deed),
        };
        outcome.of(run)
    }

    /// Runs statements in a transaction, from the top as often as others are in the way.
    fn transact<T: Send + 'static>(&self, work: impl Work<T>) -> Operation<'_, T> {
        let (deed, outcome) = sql::deed(work);
        let run = match &self.session {
            Session::MySql(session) => session.transact(deed),
            Session::Sqlite(session) => session.transact(deed),
        };
        outcome.of(run)
    }
}
