//! What `docs/upgrade.md` says about schemas: an API process works on its own alone, and migrations disturb
//! none that runs.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tasker_services::until;

use crate::support::platform::{PATIENCE, Platform};

#[test]
fn an_api_process_refuses_the_schema_of_another_version() -> anyhow::Result<()> {
    let mut platform = Platform::idle()?;
    let newest = "SELECT MAX(version) FROM (SELECT version FROM _sqlx_migrations) AS known";
    for (change, said) in [
        // One that a newer version has made, then one of this version that is still to come.
        (
            format!("UPDATE _sqlx_migrations SET version = 9999 WHERE version = ({newest})"),
            "migration 9999 is of a newer version of tasker",
        ),
        (
            "DELETE FROM _sqlx_migrations WHERE version = 9999".to_owned(),
            "has not run; run `tasker initialize --database`",
        ),
    ] {
        platform.block_on(async {
            let mut administrator = MySqlConnection::connect(&platform.database()).await?;
            administrator.execute(AssertSqlSafe(change)).await?;
            administrator.close().await
        })?;
        platform.spawn_api()?;
        let mut api = platform.take("api");
        let status = until("the API process ends", PATIENCE, || api.ended()?.context("it runs"))
            .with_context(|| api.log())?;
        ensure!(status.code() == Some(1) && api.log().contains(said), "{status}: {}", api.log());
    }
    Ok(())
}

#[test]
fn migrations_only_add() -> anyhow::Result<()> {
    for dialect in ["mysql", "sqlite"] {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(dialect))? {
            let path = entry?.path();
            if !path.display().to_string().ends_with(".up.sql") {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            let statements: String = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("--"))
                .collect::<Vec<_>>()
                .join(" ")
                .to_uppercase();
            for word in [" DROP ", " RENAME ", " MODIFY ", " CHANGE "] {
                // A key that the same statement makes anew is there all the time.
                let made_anew = |rest: &str| {
                    let key = rest.strip_prefix("KEY ").and_then(|rest| rest.split(',').next());
                    key.is_some_and(|key| rest.contains(&format!(", ADD KEY {key} (")))
                };
                let text = format!(" {statements}");
                ensure!(
                    text.match_indices(word).all(|(at, word)| made_anew(&text[at + word.len()..])),
                    "{} has{word}: processes of the version before still run, and docs/upgrade.md says that they go on",
                    path.display()
                );
            }
        }
    }
    Ok(())
}
