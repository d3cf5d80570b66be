//! A sample that works: takes `payload.seconds`, 20 by default, and answers a small object. Refuses a payload
//! that is not of this form.

use async_trait::async_trait;
use serde::Serialize;

use crate::domain::{Outcome, json};
use crate::endpoint::{Context, Handler, Work};

/// See the module.
pub struct Worker;

#[derive(Serialize)]
struct Answer<'a> {
    endpoint: &'a str,
    seconds: f64,
}

#[async_trait]
impl Handler for Worker {
    async fn run(&self, work: &Work, context: &Context) -> Outcome {
        let time = match super::takes(work, 20.0) {
            Ok(time) => time,
            Err(refused) => return refused,
        };
        match super::pass(time, context).await {
            Ok(()) => {
                Outcome::Done(json(&Answer { endpoint: work.endpoint.as_str(), seconds: time.as_secs_f64() }))
            }
            Err(interrupted) => interrupted,
        }
    }
}
