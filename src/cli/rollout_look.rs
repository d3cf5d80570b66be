//! What is read for `tasker rollout`: documents of files, and endpoints that went wrong.

use std::path::Path;

use super::input;
use super::output::Failure;
use crate::client::{self, Client};
use crate::contract::{Rollout, RolloutTarget};
use crate::domain::rollout::TargetState;
use crate::domain::{Json, json};

/// Bytes of a document that are read from standard input.
const LONGEST: u64 = 8 << 20;
/// Endpoints that failed or are unreachable that are shown with a rollout.
const BAD: u32 = 10;

/// The document in a file, as JSON.
pub(super) fn document(file: &Path) -> Result<Json, Failure> {
    let name = input::name(file);
    let text = input::read(file, LONGEST)?;
    parsed(&text, &name)
}

/// YAML or JSON in a text.
pub(super) fn parsed(text: &str, name: &str) -> Result<Json, Failure> {
    // JSON goes as it is: YAML has other numbers.
    if let Ok(document) = serde_json::from_str(text) {
        return Ok(document);
    }
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        budget: serde_saphyr::budget! { max_depth: 32, max_nodes: 200_000, max_aliases: 100 },
    };
    let value: serde_json::Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or_else(String::new, |at| format!(":{}", at.line()));
        Failure::Usage(format!("{name}{line}: not a document in YAML or JSON: {}", error.without_snippet()))
    })?;
    Ok(json(&value))
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
