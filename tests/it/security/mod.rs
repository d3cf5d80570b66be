//! What somebody who may do little, or nothing, can do all the same: a stolen server, against a real broker,
//! whose endpoints have users of their own; a token; whoever reads or changes what crosses the network or
//! stands in the ledger.

mod rig;

mod admission;
mod audit;
mod enrolment;
mod proof;
mod quotas;
mod rights;
mod transport;
