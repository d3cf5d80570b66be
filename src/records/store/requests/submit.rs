//! Recording requests.

use std::sync::Arc;

use futures::FutureExt;

use super::read;
use crate::domain::{Json, NewRequest, Request, RequestStatus, TokenName, digest, json};
use crate::store::fault::Fault;
use crate::store::sql::Conn;
use crate::store::{Operation, Result, Retry, Store, without_statements};

/// What became of a request that was to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is there.
    New,
    /// It was there, whole as it is.
    Same,
    /// There is one with its name, and other params, steps or another action.
    Other,
}

impl Store {
    /// Records a request. One with a client's name is recorded once: a repeat finds it, also after it has
    /// ended.
    pub fn record_request(&self, new: &NewRequest) -> Operation<'_, Recorded> {
        if let Err(error) = self.fits(std::iter::once(new.params.get().len() + new.steps.len() * 256)) {
            return without_statements(Err(error));
        }
        let new = Arc::new(new.clone());
        self.transact(move |conn| record(conn, new.clone()).boxed())
    }
}

async fn record(conn: &mut Conn<'_>, new: Arc<NewRequest>) -> Result<Recorded, Fault> {
    let mut insert = conn.insert("requests");
    insert
        .row()
        .set("token", new.token.as_str())
        .set("request_token", new.request_token.as_deref())
        .set("action", new.action.as_str())
        .set("params", new.params.get())
        .set("steps", json(&new.steps).get())
        .set("status", RequestStatus::Queuing.code())
        .set("created", new.created)
        .set("expires_at", new.expires_at)
        .set("submitted_by", new.submitted_by.as_ref().map(TokenName::as_str));
    if insert.if_new().await? > 0 {
        return Ok(Recorded::New);
    }
    let Some(recorded) = read::find(conn, new.token.clone()).await? else {
        return Err(Fault::Again(
            Retry::Conflict,
            "a request of the same name was forgotten meanwhile".into(),
        ));
    };
    Ok(if same(&new, &recorded) { Recorded::Same } else { Recorded::Other })
}

/// Whether a request is the one that was recorded.
fn same(new: &NewRequest, recorded: &Request) -> bool {
    let params = |json: &Json| digest(json.get(), &[]);
    new.action == recorded.action
        && new.steps == recorded.steps
        && params(&new.params) == params(&recorded.params)
}
