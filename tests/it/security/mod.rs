//! What an attacker can do: with a stolen server, against a real broker whose endpoints have users of their
//! own; with a token; on the network; with the ledger.

mod rig;

mod admission;
mod approvals;
mod audit;
mod batches;
mod enrolment;
pub mod orders;
mod proof;
mod quotas;
mod rights;
mod signatures;
mod stop_file;
mod transport;
mod workers;
