//! The database that a command works on itself, without an API: that of a configuration, or that of
//! `tasker up`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::args::DATA_DIR;
use super::global::Global;
use super::output::Failure;
use super::settings;
use crate::app;
use crate::config::ConfigFile;
use crate::domain::TaskType;
use crate::store::{self, SharedStore};

/// The store that is meant.
pub(super) struct Opened {
    pub(super) store: SharedStore,
    /// What to call it.
    pub(super) place: String,
    /// The task types that there are, as far as can be told.
    pub(super) known: Known,
}

/// Task types, and why they are known.
pub(super) struct Known {
    pub(super) how: &'static str,
    pub(super) types: BTreeSet<TaskType>,
}

/// The store that is meant: that of `tasker up` unless a configuration is named.
pub(super) async fn open(global: &Global, data_dir: Option<&Path>, make: bool) -> Result<Opened, Failure> {
    let file = match (data_dir, global.named_file()) {
        (None, Some(file)) => file,
        (given, _) => {
            let directory = given.map_or_else(|| PathBuf::from(DATA_DIR), Path::to_owned);
            if !make && !directory.exists() {
                let what = "name the directory of `tasker up` with --data-dir, or a configuration with -m or --config";
                return Err(Failure::Usage(format!("there is no directory {}: {what}", directory.display())));
            }
            let new = if directory.exists() { "" } else { " (new)" };
            let (_, database) = app::embedded_database(&directory)?;
            let store = store::open(&database)?;
            store.migrate().await?;
            let known = Known { how: "its endpoints have", types: of_endpoints(&store).await? };
            return Ok(Opened {
                store,
                place: format!("the database of `tasker up` in {}{new}", directory.display()),
                known,
            });
        }
    };
    let place = format!("the database of {}", shown(&file));
    let config = settings::read(file, &["manager.db"])?;
    let known = Known {
        how: "configured",
        types: config.task_types.iter().map(|policy| policy.name.clone()).collect(),
    };
    let up = |error| {
        let what = "for the database of `tasker up`, name its directory with --data-dir, or nothing at all";
        Failure::Setup(format!("{error}; {what}"))
    };
    Ok(Opened { store: store::open(config.database().map_err(up)?)?, place, known })
}

/// The task types that the endpoints of `tasker up` have: its directory does not say what it was started
/// with.
async fn of_endpoints(store: &SharedStore) -> Result<BTreeSet<TaskType>, Failure> {
    /// It has few; a ledger of its own may have been used with many.
    const MOST: u32 = 1000;
    let endpoints = store.endpoints(None, MOST).await?;
    Ok(endpoints
        .into_iter()
        .flat_map(|endpoint| endpoint.subscriptions)
        .map(|subscription| subscription.task_type)
        .collect())
}

fn shown(file: &ConfigFile) -> String {
    file.path().map_or_else(|| "the configuration".to_owned(), |path| path.display().to_string())
}
