//! What is read for `tasker rollout`: documents of files, and endpoints that went wrong.

use std::path::Path;

use super::input;
use super::output::Failure;
use crate::client::{self, Client};
use crate::contract::{Rollout, RolloutTarget};
use crate::domain::Json;
use crate::domain::rollout::TargetState;
use crate::yaml;

/// Bytes of a document that are read from standard input.
const LONGEST: u64 = 8 << 20;
/// Endpoints that failed or are unreachable that are shown with a rollout.
const BAD: u32 = 10;
/// Values of a document.
const MOST: usize = 200_000;

/// The document in a file, as JSON.
pub(super) fn document(file: &Path) -> Result<Json, Failure> {
    let name = input::name(file);
    let text = input::read(file, LONGEST)?;
    parsed(&text, &name)
}

/// YAML or JSON in a text.
pub(super) fn parsed(text: &str, name: &str) -> Result<Json, Failure> {
    // JSON goes as it is: it may be larger.
    if let Ok(document) = serde_json::from_str(text) {
        return Ok(document);
    }
    yaml::read(text, MOST).and_then(|document| document.json()).map_err(|error| {
        let line = error.line.map_or_else(String::new, |line| format!(":{line}"));
        Failure::Usage(format!("{name}{line}: not a document in YAML or JSON: {error}"))
    })
}

/// Those that failed or are unreachable, some of them.
pub(super) async fn bad(client: &Client, rollout: &Rollout) -> Result<Vec<RolloutTarget>, Failure> {
    if rollout.counts.failed + rollout.counts.unreachable == 0 {
        return Ok(Vec::new());
    }
    let states = vec![TargetState::Failed, TargetState::Unreachable];
    let query = client::RolloutTargets { states, limit: Some(BAD), ..client::RolloutTargets::default() };
    Ok(client.rollout_targets(&rollout.identifier, &query).await?.targets)
}
