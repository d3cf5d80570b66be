//! A sample that fails: takes `payload.seconds`, 5 by default, and could not backup.

use async_trait::async_trait;

use crate::domain::Outcome;
use crate::endpoint::{Context, Handler, Work};

/// See the module.
pub struct Backup;

#[async_trait]
impl Handler for Backup {
    async fn run(&self, work: &Work, context: &Context) -> Outcome {
        let time = match super::takes(work, 5.0) {
            Ok(time) => time,
            Err(refused) => return refused,
        };
        match super::pass(time, context).await {
            Ok(()) => Outcome::failed(32, "could not backup!"),
            Err(interrupted) => interrupted,
        }
    }
}
