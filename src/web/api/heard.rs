//! Which endpoints have ever been heard of. A submission that names another one is accepted with a warning,
//! since the server may yet be set up.
//!
//! Every submission with endpoints needs the names of all, so the names are kept. They are read again when
//! they are old, or when a submission names an endpoint that is not among them. Every submission without
//! endpoints needs the number of stopped endpoints of its type, which is kept for a moment too.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::backstage::Backstage;
use super::problem::Problem;
use crate::contract::ProblemItem;
use crate::domain::likeness::{did_you_mean, nearest, quoted};
use crate::domain::{EndpointName, TaskType};
use crate::store::SharedStore;

/// Names that are younger are not read again for one that is not among them.
const FRESH: Duration = Duration::from_secs(1);

/// Names that are older are read again in any case: one may be forgotten.
const OLD: Duration = Duration::from_secs(10);

/// Numbers of stopped endpoints that are older are read again.
const RECENT: Duration = Duration::from_millis(500);

/// How long a submission that is recorded already may be held up.
const PATIENCE: Duration = Duration::from_secs(1);

/// Warnings of one submission at most.
const MOST: usize = 20;

/// All names, and where they are read.
pub struct Heard {
    store: SharedStore,
    backstage: Backstage,
    known: Mutex<Known>,
    /// How many endpoints of a type are stopped, and when that was read.
    stopped: Mutex<HashMap<TaskType, (u64, Instant)>>,
}

/// All names, and when they were read.
#[derive(Debug, Default)]
struct Known {
    names: Arc<BTreeSet<EndpointName>>,
    read_at: Option<Instant>,
}

impl Heard {
    /// Nothing has been read yet.
    pub fn new(store: SharedStore, backstage: Backstage) -> Self {
        Self { store, backstage, known: Mutex::default(), stopped: Mutex::default() }
    }

    /// What there is to say of the endpoints that a submission names. Nothing where the ledger cannot tell:
    /// the task is recorded.
    pub async fn warnings(&self, endpoints: &[EndpointName]) -> Vec<String> {
        if endpoints.is_empty() {
            return Vec::new();
        }
        let told = async {
            let (names, unknown) = self.unknown(endpoints).await.ok()?;
            if unknown.is_empty() {
                return None;
            }
            // Names are many, and each is compared letter by letter: nobody else may wait for that.
            self.backstage.runtime.spawn_blocking(move || warnings(&names, &unknown)).await.ok()
        };
        tokio::time::timeout(PATIENCE, told).await.ok().flatten().unwrap_or_default()
    }

    /// Why a submission that must not name unheard-of endpoints is refused: an item for each of them.
    ///
    /// # Errors
    /// When the ledger cannot tell.
    pub async fn refused(&self, endpoints: &[EndpointName]) -> Result<Vec<ProblemItem>, Problem> {
        let (names, unknown) = self.unknown(endpoints).await?;
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let unknown: BTreeSet<EndpointName> = unknown.into_iter().collect();
        let places =
            endpoints.iter().cloned().enumerate().filter(|(_, name)| unknown.contains(name)).take(MOST);
        let places: Vec<(usize, EndpointName)> = places.collect();
        let told = move || {
            let item = |(place, name): &(usize, EndpointName)| {
                let likely = nearest(name.as_str(), names.iter().map(EndpointName::as_str));
                let text = format!("{} was never heard of{}", quoted(name.as_str()), did_you_mean(likely));
                ProblemItem::new(format!("/endpoints/{place}"), text)
            };
            places.iter().map(item).collect()
        };
        self.backstage.runtime.spawn_blocking(told).await.map_err(Problem::internal)
    }

    /// How many endpoints known for a type are stopped, as of a moment ago; none where there are none, or
    /// where the ledger cannot tell soon.
    pub async fn stopped(&self, task_type: &TaskType) -> Option<u64> {
        let told = async {
            let mut stopped = self.stopped.lock().await;
            if let Some((count, _)) = stopped.get(task_type).filter(|(_, read_at)| read_at.elapsed() < RECENT)
            {
                return Some(*count);
            }
            let (store, of) = (Arc::clone(&self.store), task_type.clone());
            let count = self.backstage.run(async move { store.away(&of).await }).await.ok()?;
            stopped.insert(task_type.clone(), (count, Instant::now()));
            Some(count)
        };
        tokio::time::timeout(PATIENCE, told).await.ok().flatten().filter(|count| *count > 0)
    }

    /// All names, fresh enough.
    pub async fn names(&self) -> Result<Arc<BTreeSet<EndpointName>>, Problem> {
        self.unknown(&[]).await.map(|(names, _)| names)
    }

    /// The known name that is most like an unknown one, if one is like it. It is asked for now and then, and
    /// must not miss an endpoint that has just come: the names are read anew.
    pub async fn nearest(&self, name: &EndpointName) -> Result<Option<String>, Problem> {
        let (store, name) = (Arc::clone(&self.store), name.clone());
        let names = self.backstage.run(async move { store.endpoint_names().await }).await?;
        let look = move || nearest(name.as_str(), names.iter().map(EndpointName::as_str)).map(str::to_owned);
        self.backstage.runtime.spawn_blocking(look).await.map_err(Problem::internal)
    }

    /// All names, and those of some that are not among them.
    async fn unknown(
        &self,
        some: &[EndpointName],
    ) -> Result<(Arc<BTreeSet<EndpointName>>, Vec<EndpointName>), Problem> {
        // Held while they are read, so that many that ask at once read them once.
        let mut known = self.known.lock().await;
        let mut unknown = known.lacks(some);
        let limit = if unknown.is_empty() { OLD } else { FRESH };
        if known.read_at.is_none_or(|read_at| read_at.elapsed() > limit) {
            let store = Arc::clone(&self.store);
            let names = self.backstage.run(async move { store.endpoint_names().await }).await?;
            *known = Known { names: Arc::new(names.into_iter().collect()), read_at: Some(Instant::now()) };
            unknown = known.lacks(some);
        }
        Ok((Arc::clone(&known.names), unknown))
    }
}

impl Known {
    fn lacks(&self, some: &[EndpointName]) -> Vec<EndpointName> {
        some.iter().filter(|name| !self.names.contains(*name)).cloned().collect()
    }
}

/// What to say of unknown names.
fn warnings(names: &BTreeSet<EndpointName>, unknown: &[EndpointName]) -> Vec<String> {
    let warning = |name: &EndpointName| {
        let likely = nearest(name.as_str(), names.iter().map(EndpointName::as_str));
        format!("endpoint {} was never heard of{}", quoted(name.as_str()), did_you_mean(likely))
    };
    few(unknown.iter(), warning, "were never heard of")
}

/// As many warnings as a person reads, and how many more there are. Only those that are told are made: each may
/// compare a name with all of a fleet.
pub fn few<T>(items: impl Iterator<Item = T>, warning: impl FnMut(T) -> String, what: &str) -> Vec<String> {
    let mut items = items.fuse();
    let mut few: Vec<String> = items.by_ref().take(MOST).map(warning).collect();
    match items.count() {
        0 => {}
        more => few.push(format!("{more} more endpoints {what}")),
    }
    few
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_unknown_names_are_told_and_the_others_counted() {
        let name = |text: &str| text.parse::<EndpointName>().expect("a name");
        let known = Known { names: Arc::new([name("web1"), name("db1")].into()), read_at: None };
        let some: Vec<_> = ["web1", "wbe1"]
            .into_iter()
            .map(name)
            .chain((0..MOST + 1).map(|number| name(&format!("other{number}"))))
            .collect();
        let unknown = known.lacks(&some);
        assert_eq!(unknown.len(), some.len() - 1);
        let told = warnings(&known.names, &unknown);
        assert_eq!(told[0], r#"endpoint "wbe1" was never heard of; did you mean web1?"#);
        assert_eq!(told[1], r#"endpoint "other0" was never heard of"#);
        assert_eq!((told.len(), told[MOST].as_str()), (MOST + 1, "2 more endpoints were never heard of"));
        assert!(known.lacks(&[name("db1")]).is_empty());
    }
}
