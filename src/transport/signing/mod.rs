//! Signatures: `key` keeps keys in files, `signer` seals what an API process sends and signs what persons
//! order, `trust` says whose seals count on a server, `verified` remembers good signatures, `approvers` says how
//! far an order is approved.
//!
//! Owns all use of private keys. Promises: a private key is read only from a file that nobody else on the
//! machine can read; the text of a new one is returned once, to be written to such a file. What exactly is
//! signed is in `domain::statement`; how a seal travels, in `broker::seal_form`.

mod approvers;
mod key;
mod signer;
mod trust;
mod verified;

pub use approvers::{Approval, Approvers};
pub use key::{KeyError, PublicKey, SigningKey};
pub use signer::{
    Signer, Unsealed, certify, is_of_root, read_certificate, read_revocations, revoke, sign_order,
};
pub use trust::{
    Cause, Denial, HttpSituation, Moment, NAME, OtherTypes, ROOT, Situation, Trust, TrustError, TypeTrust,
    is_name, judge_age, judge_end, judge_key,
};
pub use verified::Verified;
