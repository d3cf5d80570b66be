//! The schema's history, and whether a database fits it. The statements are in `migrations/`, one table or
//! key a file, because MySQL commits at every one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use sqlx::SqlSafeStr;
use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, MigrationType, Migrator};

use super::fault::{Fault, HISTORY};
use super::sql::Conn;
use super::{Result, StoreError};

/// The files of `migrations/` as `build.rs` finds them: name and text of each.
mod files {
    include!(concat!(env!("OUT_DIR"), "/migrations.rs"));
}

/// The schema on MySQL and MariaDB.
pub(super) static MYSQL: LazyLock<Migrator> = LazyLock::new(|| migrator(files::MYSQL));
/// The schema on SQLite.
pub(super) static SQLITE: LazyLock<Migrator> = LazyLock::new(|| migrator(files::SQLITE));

/// The tables made by all versions so far, in the order in which they can be dropped, for
/// [`super::Store::reset`].
const TABLES: [&str; 29] = [
    "enrolment", "rollout_hold", "rollout_event", "rollout_target", "rollout_wave", "rollout",
    "response_log", "jobs", "requests", "ended", "farm_note", "farm_barred", "farm_update", "farm_parent",
    "farm_task", "farm_worker", "schedule", "queue", "queued_task", "response", "task", "subscription",
    "endpoint", "endpoint_group", "throughput", "token", "audit", "audit_head", HISTORY,
];

/// What to do with the schema while no other process does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// Bring it up to date.
    Migrate,
    /// Drop everything, then the same.
    Reset,
    /// Go back to a version.
    Revert(i64),
}

/// What `sqlx::migrate!` would make of the files. That macro connects to databases, so the compiler would
/// need sqlx and SQLite a second time for itself.
fn migrator(files: &'static [(&'static str, &'static str)]) -> Migrator {
    let mut migrator =
        Migrator::with_migrations(files.iter().map(|(name, text)| migration(name, text)).collect());
    // It asks MariaDB to wait for -1 seconds, which it answers at once without the lock; both dialects hold a
    // lock of their own around the run.
    migrator.locking = false;
    migrator
}

/// The migration in a file such as `0001_task.up.sql`.
fn migration(name: &'static str, text: &'static str) -> Migration {
    let kind = MigrationType::from_filename(name);
    let (version, rest) = name.split_once('_').expect("build.rs lets no other name pass");
    let description = rest.trim_end_matches(kind.suffix()).replace('_', " ");
    Migration::new(
        version.parse().expect("build.rs lets no other name pass"),
        description.into(),
        kind,
        text.into_sql_str(),
        false,
    )
}

/// Drops what all versions so far have made.
pub(super) async fn drop_all(conn: &mut Conn<'_>) -> Result<(), Fault> {
    for table in TABLES {
        conn.sql(format!("DROP TABLE IF EXISTS {table}")).execute().await?;
    }
    Ok(())
}

/// Runs the migrations that lead to what is wanted, while no other process does. For [`Change::Reset`]
/// everything has been dropped.
pub(super) async fn run(migrator: &Migrator, conn: &mut impl Migrate, change: Change) -> Result<(), Fault> {
    match change {
        Change::Migrate | Change::Reset => migrator.run_direct(None, conn, false).await.map_err(explain),
        Change::Revert(to) => {
            let applied = conn.list_applied_migrations(HISTORY).await.map_err(explain)?;
            for migration in way_back(migrator, &applied, to) {
                conn.revert(HISTORY, migration).await.map_err(explain)?;
            }
            Ok(())
        }
    }
}

/// Fails unless a schema is the one of this program.
pub(super) async fn check_schema(migrator: &Migrator, conn: &mut impl Migrate) -> Result<(), Fault> {
    let interrupted = conn.dirty_version(HISTORY).await.map_err(explain)?;
    let applied = conn.list_applied_migrations(HISTORY).await.map_err(explain)?;
    Ok(check(migrator, interrupted, &applied)?)
}

/// Fails unless exactly the migrations of this program have run. `interrupted` is one that began and did not
/// end.
fn check(migrator: &Migrator, interrupted: Option<i64>, applied: &[AppliedMigration]) -> Result<()> {
    if let Some(version) = interrupted {
        return Err(dirty(version));
    }
    let applied: BTreeMap<i64, &AppliedMigration> =
        applied.iter().map(|migration| (migration.version, migration)).collect();
    let ours: BTreeMap<i64, _> = migrator
        .iter()
        .filter(|migration| !migration.migration_type.is_down_migration())
        .map(|m| (m.version, m))
        .collect();
    if let Some((version, _)) = applied.iter().find(|(version, _)| !ours.contains_key(version)) {
        return Err(newer(*version));
    }
    for (version, migration) in ours {
        match applied.get(&version) {
            None => {
                let reason = format!("migration {version} ({}) has not run", migration.description);
                return Err(StoreError::Missing { reason });
            }
            Some(there) if there.checksum != migration.checksum => return Err(altered(version)),
            Some(_) => (),
        }
    }
    Ok(())
}

/// The migrations that lead from what was applied back to a version, in their order.
fn way_back<'m>(
    migrator: &'m Migrator,
    applied: &[AppliedMigration],
    to: i64,
) -> impl Iterator<Item = &'m Migration> {
    let applied: BTreeSet<i64> = applied.iter().map(|migration| migration.version).collect();
    let down =
        migrator.migrations.iter().rev().filter(|migration| migration.migration_type.is_down_migration());
    down.filter(move |migration| migration.version > to && applied.contains(&migration.version))
}

/// The error of a run in the words of the contract.
fn explain(error: MigrateError) -> Fault {
    Fault::Told(match error {
        MigrateError::Dirty(version) => dirty(version),
        MigrateError::VersionMissing(version) => newer(version),
        MigrateError::VersionMismatch(version) => altered(version),
        MigrateError::Execute(error) => return Fault::Sql(error),
        MigrateError::ExecuteMigration(error @ sqlx::Error::Database(_), version) => {
            StoreError::Schema { reason: format!("migration {version} failed: {error}; {RESET}") }
        }
        MigrateError::ExecuteMigration(error, _) => return Fault::Sql(error),
        other => StoreError::Schema { reason: other.to_string() },
    })
}

const RESET: &str =
    "mend it by hand, or drop all tasks and begin anew with `tasker initialize --database --reset --yes`";

fn dirty(version: i64) -> StoreError {
    StoreError::Schema { reason: format!("migration {version} began and did not end; {RESET}") }
}

fn newer(version: i64) -> StoreError {
    StoreError::Schema {
        reason: format!("migration {version} is of a newer version of tasker; run that version, or {RESET}"),
    }
}

fn altered(version: i64) -> StoreError {
    StoreError::Schema {
        reason: format!("migration {version} ran with another text than this program has; {RESET}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(migrator: &Migrator) -> Vec<AppliedMigration> {
        let up = migrator.iter().filter(|migration| !migration.migration_type.is_down_migration());
        up.map(|migration| AppliedMigration {
            version: migration.version,
            checksum: migration.checksum.clone(),
        })
        .collect()
    }

    #[test]
    fn migrations_come_in_pairs_and_both_ways() {
        let names = |migrator: &Migrator| {
            migrator
                .iter()
                .map(|m| (m.version, m.description.to_string(), m.migration_type.is_down_migration()))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&MYSQL), names(&SQLITE), "the two directories differ");
        let versions = |down| {
            MYSQL
                .iter()
                .filter(|m| m.migration_type.is_down_migration() == down)
                .map(|m| m.version)
                .collect::<Vec<_>>()
        };
        assert_eq!(versions(false), versions(true), "a migration has no way back");
        assert!(versions(false).is_sorted_by(|a, b| a < b), "a number is there twice");
    }

    #[test]
    fn a_schema_fits_exactly_or_says_what_to_run() {
        let all = applied(&MYSQL);
        assert!(check(&MYSQL, None, &all).is_ok());
        let reason = |interrupted, applied: &[AppliedMigration]| match check(&MYSQL, interrupted, applied) {
            Err(error @ (StoreError::Schema { .. } | StoreError::Missing { .. })) => error.to_string(),
            other => panic!("{other:?}"),
        };
        for reason in [
            reason(None, &all[1..]),
            reason(Some(2), &all),
            reason(
                None,
                &[all.as_slice(), &[AppliedMigration { version: 9999, checksum: vec![1].into() }]].concat(),
            ),
            reason(None, &[&[AppliedMigration { version: 1, checksum: vec![1].into() }], &all[1..]].concat()),
        ] {
            assert!(reason.contains("tasker initialize --database"), "{reason}");
        }
    }
}
