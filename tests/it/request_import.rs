//! `tasker request import`: out of a database of the original, on MySQL and on SQLite, once and again.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, SqliteConnection};
use tasker_services::until;

use crate::support::place::{Place, Said};

/// How long a test waits for what must come. Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The tables of the original.
const TABLES: [&str; 2] = [
    "CREATE TABLE requests (token VARCHAR(191) PRIMARY KEY, request_token VARCHAR(191) NULL, action VARCHAR(191) NOT NULL, params JSON NOT NULL,
     extras JSON NULL, steps JSON NOT NULL, step INT NOT NULL DEFAULT 0, status INT NOT NULL DEFAULT 0, created DATETIME NOT NULL,
     completed DATETIME NULL)",
    "CREATE TABLE jobs (id INTEGER PRIMARY KEY {auto}, name VARCHAR(191) NOT NULL, token VARCHAR(191) NOT NULL, step INT NOT NULL,
     error TEXT NULL, status INT NOT NULL DEFAULT 0, created DATETIME NOT NULL, completed DATETIME NULL)",
];

/// A request that completed, one that failed, one that waits, and one in the midst of its second step.
const ROWS: [&str; 2] = [
    r#"INSERT INTO requests (token, action, params, extras, steps, step, status, created, completed) VALUES
     ('done', 'remove', '{"id": 1}', '{"email": "a@b"}', '[{"name": "look", "jobs": ["get"]}]', 0, 2, '2024-07-12 10:00:00', '2024-07-12 10:05:00'),
     ('bad', 'remove', '{"id": 2}', NULL, '[{"name": "look", "jobs": ["get"]}]', 0, 3, '2024-07-12 10:00:00', '2024-07-12 10:05:00'),
     ('waits', 'remove', '{"id": 3}', NULL, '[{"name": "look", "jobs": ["get"]}]', 0, 0, '2024-07-12 10:00:00', NULL),
     ('runs', 'remove', '{"id": 4}', '{"email": "c@d"}', '[{"name": "look", "jobs": ["get"]}, {"name": "delete", "jobs": ["del1", "del2"]}]',
      1, 1, '2024-07-12 10:00:00', NULL)"#,
    "INSERT INTO jobs (name, token, step, error, status, created, completed) VALUES
     ('get', 'done', 0, NULL, 2, '2024-07-12 10:00:00', '2024-07-12 10:04:00'), ('get', 'bad', 0, 'no', 3, '2024-07-12 10:00:00', NULL),
     ('get', 'runs', 0, NULL, 2, '2024-07-12 10:00:00', NULL), ('del1', 'runs', 1, NULL, 1, '2024-07-12 10:00:00', NULL),
     ('del2', 'runs', 1, '503', 4, '2024-07-12 10:00:00', NULL), ('del2', 'runs', 1, NULL, 0, '2024-07-12 10:00:00', NULL)",
];

const CONFIG: &str =
    "task_types: [{name: get, delivery: queue}, {name: del1, delivery: queue}, {name: del2, delivery: queue}]
endpoint: {handlers_dir: jobs}\n";

/// A database of the original, and the place it is imported into.
struct Site {
    place: Place,
    original: String,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    fn on_sqlite() -> anyhow::Result<Self> {
        let place = Place::new()?;
        let original = format!("sqlite://{}", place.path().join("original.db").display());
        Self::with(place, original.clone(), &format!("{original}?mode=rwc"), "AUTOINCREMENT")
    }

    fn on_mysql() -> anyhow::Result<Self> {
        let server = std::env::var("TASKER_TEST_MYSQL")
            .context("TASKER_TEST_MYSQL is not set: run `cargo xtask test`")?;
        let original = format!("{server}/t{}", uuid::Uuid::new_v4().simple());
        Self::with(Place::new()?, original.clone(), &original, "AUTO_INCREMENT")
    }

    fn with(place: Place, original: String, address: &str, auto: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        place.write("up.yaml", CONFIG)?;
        for job in ["get", "del1", "del2"] {
            place.write(&format!("jobs/{job}"), "#!/bin/sh\nexit 0\n")?;
            std::fs::set_permissions(
                place.path().join("jobs").join(job),
                std::os::unix::fs::PermissionsExt::from_mode(0o755),
            )?;
        }
        let site = Self { place, original, runtime };
        if address.starts_with("mysql") {
            let (server, name) = address.rsplit_once('/').context("a name")?;
            site.sql_at(server, &[&format!("CREATE DATABASE {name}")])?;
        }
        let tables = TABLES.map(|table| table.replace("{auto}", auto));
        site.sql_at(address, &tables.each_ref().map(String::as_str))?;
        site.sql(&ROWS)?;
        // This makes the ledger.
        site.place.good("token create --name admin --scope admin --out admin.token --data-dir data")?;
        Ok(site)
    }

    fn sql(&self, statements: &[&str]) -> anyhow::Result<()> {
        self.sql_at(&self.original.clone(), statements)
    }

    fn sql_at(&self, address: &str, statements: &[&str]) -> anyhow::Result<()> {
        let texts = statements.iter().map(|statement| AssertSqlSafe((*statement).to_owned()));
        self.runtime.block_on(async {
            if address.starts_with("mysql") {
                let mut conn = MySqlConnection::connect(address).await?;
                for text in texts {
                    conn.execute(text).await?;
                }
                conn.close().await?;
            } else {
                let mut conn = SqliteConnection::connect(address).await?;
                for text in texts {
                    conn.execute(text).await?;
                }
                conn.close().await?;
            }
            Ok(())
        })
    }

    fn import(&self, more: &str) -> anyhow::Result<Said> {
        self.place.any(&format!("request import --from {} --data-dir data {more}", self.original))
    }

    /// The requests of the ledger once they have ended, by their tokens.
    fn performed(&self) -> anyhow::Result<Vec<(String, Value)>> {
        let up =
            self.place.up("--config up.yaml --listen 127.0.0.1:0 --data-dir data --endpoints console1")?;
        let ask = |line: &str| -> anyhow::Result<Value> {
            let said = self.place.any(&format!("{line} --json --token-file admin.token --api {}", up.api))?;
            serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))
        };
        let tokens = ["bad", "done", "runs", "waits"];
        until("all requests have ended", PATIENCE, || {
            let open = ask("request list --status Queuing,Inprogress")?;
            ensure!(open["requests"].as_array().is_some_and(Vec::is_empty), "{open}");
            Ok(())
        })?;
        tokens.iter().map(|token| Ok(((*token).to_owned(), ask(&format!("request show {token}"))?))).collect()
    }
}

fn imports(site: &Site) -> anyhow::Result<()> {
    let tried = site.import("--dry-run --quiet-for 0s")?;
    let found = "the original has 4 requests (1 Completed, 1 Failed, 1 Inprogress, 1 Queuing) and 6 jobs";
    ensure!(
        tried.code == Some(0)
            && tried.out.starts_with(found)
            && tried.out.contains("nothing was imported (--dry-run): 0 requests"),
        "{tried:?}"
    );
    ensure!(tried.out.contains("1 jobs were interrupted"), "{tried:?}");
    let done = site.import("--quiet-for 1s --rerun-interrupted")?;
    ensure!(
        done.code == Some(0)
            && done
                .out
                .contains("4 requests were imported into the database of `tasker up` in data, 0 were there"),
        "{done:?}"
    );
    ensure!(done.err.contains("watching for 1s"), "{done:?}");
    let again = site.import("--quiet-for 0s --json")?;
    let again: Value = serde_json::from_str(&again.out).with_context(|| format!("{again:?}"))?;
    ensure!(again["new"] == 0 && again["there_already"] == 4 && again["jobs"] == 6, "{again}");

    let requests = site.performed()?;
    let states: Vec<_> = requests
        .iter()
        .map(|(token, request)| (token.as_str(), request["status"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(
        states,
        [("bad", "Failed"), ("done", "Completed"), ("runs", "Completed"), ("waits", "Completed")]
    );
    let runs = &requests[2].1;
    ensure!(
        runs["extras"]["email"] == "c@d"
            && runs["params"]["id"] == 4
            && runs["created"] == "2024-07-12T10:00:00.000000Z",
        "{runs}"
    );
    let jobs = runs["jobs"].as_array().context("jobs")?;
    let told: Vec<_> = jobs
        .iter()
        .map(|job| (job["name"].as_str(), job["try"].as_u64(), job["status"].as_str(), job["error"].as_str()))
        .collect();
    ensure!(told.contains(&(Some("del2"), Some(1), Some("retry"), Some("503"))), "{told:?}");
    ensure!(told.contains(&(Some("del2"), Some(2), Some("completed"), None)), "{told:?}");
    ensure!(told.contains(&(Some("del1"), Some(1), Some("completed"), None)), "{told:?}");
    Ok(())
}

#[test]
fn a_mysql_database_is_imported_and_goes_on() -> anyhow::Result<()> {
    imports(&Site::on_mysql()?)
}

#[test]
fn an_sqlite_database_is_imported_and_goes_on() -> anyhow::Result<()> {
    imports(&Site::on_sqlite()?)
}

#[test]
fn nothing_is_imported_while_the_original_changes_or_is_damaged() -> anyhow::Result<()> {
    let site = Site::on_sqlite()?;
    site.sql(&[
        "INSERT INTO jobs (name, token, step, created) VALUES ('get', 'waits', 0, CURRENT_TIMESTAMP)",
    ])?;
    let refused = site.import("")?;
    ensure!(
        refused.code == Some(1) && refused.err.contains("and it must be quiet for 1m: stop the original"),
        "{refused:?}"
    );
    site.sql(&[
        "UPDATE jobs SET created = '2024-07-12 10:00:00', name = 'nobody' WHERE token = 'waits'",
        "UPDATE requests SET steps = 'no' WHERE token = 'bad'",
        "UPDATE requests SET step = 7 WHERE token = 'runs'",
        "INSERT INTO jobs (name, token, step, created) VALUES ('get', 'gone', 0, '2024-07-12 10:00:00')",
    ])?;
    let refused = site.import("--quiet-for 0s")?;
    ensure!(
        refused.code == Some(1)
            && refused.err.starts_with("tasker: nothing was imported: correct or delete these rows"),
        "{refused:?}"
    );
    for wanted in [
        "1 jobs have no request, such as one of `gone`",
        "request `bad`: steps: not a list of steps with jobs",
        "request `runs`: step: 7 is not a place in 2 steps",
        "`nobody` is not a job of the step `look` (get)",
    ] {
        ensure!(refused.err.contains(wanted), "no {wanted:?} in {refused:?}");
    }
    let elsewhere = site.place.any("request import --from postgres://x/y --data-dir data")?;
    ensure!(elsewhere.code == Some(1) && elsewhere.err.contains("expected mysql://"), "{elsewhere:?}");
    site.place.write("empty.db", "")?;
    let empty = site.place.path().join("empty.db");
    let others =
        site.place.any(&format!("request import --from sqlite://{} --data-dir data", empty.display()))?;
    ensure!(
        others.code == Some(1)
            && others.err.contains("expected the tables `requests` and `jobs` of the original")
            && !others.err.contains("initialize"),
        "{others:?}"
    );
    let nowhere = site.place.any("request import --from sqlite:///nowhere/x.db --data-dir data")?;
    ensure!(nowhere.code == Some(1) && nowhere.err.starts_with("tasker: --from: "), "{nowhere:?}");
    Ok(())
}

#[test]
fn no_row_is_passed_over() -> anyhow::Result<()> {
    let site = Site::on_sqlite()?;
    site.sql(&["UPDATE requests SET token = '' WHERE token = 'waits'"])?;
    let refused = site.import("--quiet-for 0s")?;
    ensure!(
        refused.code == Some(1) && refused.err.contains("can be read: a token must not be empty"),
        "{refused:?}"
    );
    Ok(())
}
