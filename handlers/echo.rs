//! Answers its payload, byte for byte: to see that the way there and back works, and how fast.

use async_trait::async_trait;

use crate::domain::Outcome;
use crate::endpoint::{Context, Handler, Work};

/// See the module.
pub struct Echo;

#[async_trait]
impl Handler for Echo {
    async fn run(&self, work: &Work, _: &Context) -> Outcome {
        Outcome::Done(work.payload.clone())
    }
}
