//! Which endpoints have ever been heard of. A submission that names another one is taken, since its server may yet be set up, and warned of.
//!
//! Every submission with endpoints asks, so the names are kept: read again when they are old, or when one is not among them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Api;
use super::problem::Problem;
use crate::domain::EndpointName;
use crate::domain::likeness::{nearest, quoted};

/// Names that are younger are not read again for one that is not among them.
const FRESH: Duration = Duration::from_secs(1);

/// Names that are older are read again in any case: one may be forgotten.
const OLD: Duration = Duration::from_secs(10);

/// How long a submission that is recorded already may be held up.
const PATIENCE: Duration = Duration::from_secs(1);

/// Warnings of one submission at most.
const MOST: usize = 20;

/// All names, and when they were read.
#[derive(Debug, Default)]
pub struct Heard(Mutex<(Arc<BTreeSet<EndpointName>>, Option<Instant>)>);

impl Heard {
    /// What there is to say of the endpoints that a submission names. Nothing where the ledger cannot tell: the task is recorded.
    pub async fn warnings(&self, api: &Api, endpoints: &[EndpointName]) -> Vec<String> {
        if endpoints.is_empty() {
            return Vec::new();
        }
        let Ok(Ok(names)) = tokio::time::timeout(PATIENCE, self.names(api, endpoints)).await else { return Vec::new() };
        let unknown: Vec<&EndpointName> = endpoints.iter().filter(|name| !names.contains(*name)).collect();
        let warning = |name: &&EndpointName| {
            let likely = nearest(name.as_str(), names.iter().map(EndpointName::as_str));
            let hint = likely.map_or_else(String::new, |likely| format!("; did you mean {likely}?"));
            format!("endpoint {} was never heard of{hint}", quoted(name.as_str()))
        };
        let mut warnings: Vec<String> = unknown.iter().take(MOST).map(warning).collect();
        if unknown.len() > MOST {
            warnings.push(format!("{} more endpoints were never heard of", unknown.len() - MOST));
        }
        warnings
    }

    /// All names, fresh enough to know these.
    pub async fn names(&self, api: &Api, wanted: &[EndpointName]) -> Result<Arc<BTreeSet<EndpointName>>, Problem> {
        // Held while they are read, so that many that ask at once read them once.
        let mut kept = self.0.lock().await;
        let (names, read_at) = &*kept;
        let age = read_at.map(|read_at| read_at.elapsed());
        let limit = if wanted.iter().all(|name| names.contains(name)) { OLD } else { FRESH };
        if age.is_none_or(|age| age > limit) {
            let store = Arc::clone(&api.state.store);
            let names = api.run(async move { store.endpoint_names().await }).await?;
            *kept = (Arc::new(names.into_iter().collect()), Some(Instant::now()));
        }
        Ok(Arc::clone(&kept.0))
    }
}
