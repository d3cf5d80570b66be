//! Workers.

use std::sync::Arc;

use futures::FutureExt;

use super::{Farm, Lock};
use crate::domain::Timestamp;
use crate::farm::{ObjectId, Worker};
use crate::store::columns::{corrupt, json_text, name, optional_name};
use crate::store::fault::Fault;
use crate::store::sql::{Conn, selected};
use crate::store::{Operation, Result};

impl Farm {
    /// Keeps a new worker with the hash of its secret.
    pub fn register(&self, worker: &Worker, secret: &[u8]) -> Operation<'_, ()> {
        let (worker, secret): (Arc<Worker>, Arc<[u8]>) = (Arc::new(worker.clone()), secret.into());
        self.store.transact(move |conn| insert(conn, worker.clone(), secret.clone()).boxed())
    }

    /// The hash of a worker's secret.
    pub fn secret(&self, id: ObjectId) -> Operation<'_, Option<Vec<u8>>> {
        self.store.run(move |conn| secret(conn, id).boxed())
    }

    /// A worker.
    pub fn worker(&self, id: ObjectId) -> Operation<'_, Option<Worker>> {
        self.store.run(move |conn| find(conn, id, Lock::None).boxed())
    }

    /// All workers, by nickname and status.
    pub fn workers(&self) -> Operation<'_, Vec<Worker>> {
        self.store.run(|conn| all(conn).boxed())
    }

    /// Changes a worker, and answers what it is then and what the change says; nothing for a worker that is
    /// not there.
    pub fn change_worker<T: Send + 'static>(
        &self,
        id: ObjectId,
        change: impl Fn(&mut Worker) -> T + Send + Sync + 'static,
    ) -> Operation<'_, Option<(Worker, T)>> {
        let change = Arc::new(change);
        self.store.transact(move |conn| change_row(conn, id, change.clone()).boxed())
    }

    /// Workers of these statuses that were last heard of before.
    pub fn workers_silent_since(
        &self,
        statuses: &[String],
        before: Timestamp,
    ) -> Operation<'_, Vec<ObjectId>> {
        let statuses: Arc<[String]> = statuses.into();
        self.store.run(move |conn| silent(conn, statuses.clone(), before).boxed())
    }
}

selected! {
    /// A worker as its row has it.
    WorkerColumns<'r> {
        id: ObjectId = "id",
        nickname: &'r str = "nickname",
        platform: &'r str = "platform",
        address: &'r str = "address",
        software: &'r str = "software",
        status: &'r str = "status",
        requested: Option<&'r str> = "requested",
        lazy: bool = "lazy",
        task_types: &'r str = "task_types",
        current_task: Option<ObjectId> = "current_task",
        current_job: Option<ObjectId> = "current_job",
        current_task_status: &'r str = "current_task_status",
        current_task_updated: Option<Timestamp> = "current_task_updated",
        last_activity: Option<Timestamp> = "last_activity",
        sleep: &'r str = "sleep",
    }
}

impl WorkerColumns<'_> {
    fn decode(self) -> Result<Worker> {
        let at = |column| format!("worker {}, column {column}", self.id);
        Ok(Worker {
            id: self.id,
            nickname: self.nickname.to_owned(),
            platform: self.platform.to_owned(),
            address: self.address.to_owned(),
            software: self.software.to_owned(),
            status: name(self.status, || at("status"))?,
            requested: optional_name(self.requested, || at("requested"))?,
            lazy: self.lazy,
            task_types: serde_json::from_str(self.task_types)
                .map_err(|error| corrupt(at("task_types"), error))?,
            current_task: self.current_task,
            current_job: self.current_job,
            current_task_status: self.current_task_status.to_owned(),
            current_task_updated: self.current_task_updated,
            last_activity: self.last_activity,
            sleep: serde_json::from_str(self.sleep).map_err(|error| corrupt(at("sleep"), error))?,
        })
    }
}

async fn insert(conn: &mut Conn<'_>, worker: Arc<Worker>, secret: Arc<[u8]>) -> Result<(), Fault> {
    let (task_types, sleep) = (json_text(&worker.task_types)?, json_text(&worker.sleep)?);
    let mut insert = conn.insert("farm_worker");
    insert
        .row()
        .set("id", worker.id)
        .set("secret", &*secret)
        .set("nickname", &*worker.nickname)
        .set("platform", &*worker.platform)
        .set("address", &*worker.address)
        .set("software", &*worker.software)
        .set("status", worker.status.as_str())
        .set("lazy", worker.lazy)
        .set("task_types", task_types)
        .set("current_task_status", &*worker.current_task_status)
        .set("sleep", sleep);
    insert.or_keep("id").await
}

async fn secret(conn: &mut Conn<'_>, id: ObjectId) -> Result<Option<Vec<u8>>, Fault> {
    let row = conn.sql("SELECT secret FROM farm_worker WHERE id = ?").bind(id).fetch_optional().await?;
    row.map(|row| row.get(0)).transpose()
}

/// A worker's row.
pub(super) async fn find(conn: &mut Conn<'_>, id: ObjectId, lock: Lock) -> Result<Option<Worker>, Fault> {
    let locked = if lock == Lock::Held { conn.dialect().locked() } else { "" };
    let select = format!("SELECT {} FROM farm_worker WHERE id = ? {locked}", WorkerColumns::LIST);
    let row = conn.sql(select).bind(id).fetch_optional().await?;
    row.map(|row| Ok(WorkerColumns::read(&mut row.cells())?.decode()?)).transpose()
}

/// All workers by nickname and status.
pub(super) async fn all(conn: &mut Conn<'_>) -> Result<Vec<Worker>, Fault> {
    let rows = conn
        .sql(format!("SELECT {} FROM farm_worker ORDER BY nickname, status, id", WorkerColumns::LIST))
        .fetch_all()
        .await?;
    rows.iter().map(|row| Ok(WorkerColumns::read(&mut row.cells())?.decode()?)).collect()
}

/// Writes a worker over its row, which is locked.
pub(super) async fn write(conn: &mut Conn<'_>, worker: &Worker) -> Result<(), Fault> {
    let mut update = conn.sql(
        "UPDATE farm_worker SET nickname = ?, platform = ?, address = ?, software = ?, status = ?, requested = ?, lazy = ?, \
         task_types = ?, current_task = ?, current_job = ?, current_task_status = ?, current_task_updated = ?, last_activity = ?, \
         sleep = ? WHERE id = ?",
    );
    update.bind(&*worker.nickname).bind(&*worker.platform).bind(&*worker.address).bind(&*worker.software);
    update
        .bind(worker.status.as_str())
        .bind(worker.requested.map(|request| request.as_str()))
        .bind(worker.lazy);
    update.bind(json_text(&worker.task_types)?).bind(worker.current_task).bind(worker.current_job);
    update.bind(&*worker.current_task_status).bind(worker.current_task_updated).bind(worker.last_activity);
    update.bind(json_text(&worker.sleep)?).bind(worker.id);
    update.execute().await?;
    Ok(())
}

/// The same, if it is another one than before.
pub(super) async fn write_changed(
    conn: &mut Conn<'_>,
    worker: &Worker,
    before: &Worker,
) -> Result<(), Fault> {
    if worker == before { Ok(()) } else { write(conn, worker).await }
}

/// Changes a worker's row, and writes it if that made a difference.
pub(super) async fn change_row<T>(
    conn: &mut Conn<'_>,
    id: ObjectId,
    change: Arc<impl Fn(&mut Worker) -> T + Send + Sync>,
) -> Result<Option<(Worker, T)>, Fault>
where
    T: Send,
{
    let Some(before) = find(conn, id, Lock::Held).await? else { return Ok(None) };
    let mut worker = before.clone();
    let said = change(&mut worker);
    write_changed(conn, &worker, &before).await?;
    Ok(Some((worker, said)))
}

/// Deletes a worker's row, and what it is barred from.
pub(super) async fn delete(conn: &mut Conn<'_>, id: ObjectId) -> Result<(), Fault> {
    conn.sql("DELETE FROM farm_barred WHERE worker_id = ?").bind(id).execute().await?;
    conn.sql("DELETE FROM farm_worker WHERE id = ?").bind(id).execute().await.map(drop)
}

async fn silent(
    conn: &mut Conn<'_>,
    statuses: Arc<[String]>,
    before: Timestamp,
) -> Result<Vec<ObjectId>, Fault> {
    let mut silent = Vec::new();
    for status in statuses.iter() {
        let mut select =
            conn.sql("SELECT id FROM farm_worker WHERE status = ? AND (last_activity IS NULL OR last_activity <= ?) ORDER BY id");
        for row in select.bind(&**status).bind(before).fetch_all().await? {
            silent.push(row.get(0)?);
        }
    }
    Ok(silent)
}
