//! `GET /audit`: what was done, by whom and from where.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use utoipa::IntoParams;

use super::query::{self, Query};
use super::{Answer, Api, answer, list_tasks};
use crate::contract::{self, AuditPage, AuditedSubmissions};
use crate::domain::Grain;
use crate::store::{AuditQuery, StoreError, Submissions};

/// Entries on a page when nothing is said.
const PAGE: u32 = 100;

/// What the audit log may be asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes; never made")]
struct AuditLogQuery {
    /// Only entries after this one, oldest first
    after: Option<u64>,
    /// Only entries before this one
    before: Option<u64>,
    /// Only entries of this token
    actor: Option<String>,
    /// Only entries whose action begins so
    #[param(example = "queue.")]
    action: Option<String>,
    /// Entries on a page, 1 to 1000, by default 100
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Lists what was done, by whom and from where, newest first.
///
/// Each entry has the hash of the one before it. With `after=0` the log is read from its beginning, to check
/// that nothing was changed, as `tasker audit verify` does.
#[utoipa::path(
    get, path = "/audit", operation_id = "listAudit", tag = "operation",
    params(AuditLogQuery),
    responses(
        (status = 200, description = "A page of the log", body = AuditPage),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    // Numbers of entries fit into the signed ones of a database.
    let place = |text: &str| {
        let place = text.parse().ok().filter(|place| i64::try_from(*place).is_ok());
        place.ok_or_else(|| format!("must be the number of an entry, from 0 to {}", i64::MAX))
    };
    let wanted = AuditQuery {
        after: query.take("after", place),
        before: query.take("before", place),
        actor: query.take("actor", |text| Ok(text.to_owned())),
        action: query.take("action", |text| Ok(text.to_owned())),
        limit: query.take("limit", query::limit).unwrap_or(PAGE),
    };
    query.finish()?;
    api.room(&request, list_tasks::ROOM).await?;
    let store = Arc::clone(&api.state.store);
    let (limit, read) = (wanted.limit as usize, async move {
        // The end first: entries that are added meanwhile are beyond it, and none is missing before it.
        let head = store.audit_head().await?;
        Ok::<_, StoreError>((head, store.audit_entries(&wanted).await?))
    });
    let (head, entries) = api.run(read).await?;
    let (more, capacity) = (entries.len() >= limit, 256 + entries.len() * 512);
    answer(StatusCode::OK, &AuditPage { entries, more, head }, capacity)
}

/// What submissions may be asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes; never made")]
struct SubmissionsQuery {
    /// A time in the hour (RFC 3339)
    hour: String,
}

/// Adds up the submissions of an hour that are kept now.
///
/// An entry `submissions` of the audit log has what there was. Submissions that are kept no longer are
/// missing here. Reads all of them.
#[utoipa::path(
    get, path = "/audit/submissions", operation_id = "auditSubmissions", tag = "operation",
    params(SubmissionsQuery),
    responses(
        (status = 200, description = "What there is", body = AuditedSubmissions),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn submissions(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let mut query = Query::new(request.query_string());
    let hour = query.need("hour", "a time in the hour whose submissions are added up", query::time);
    let since = Grain::Hour.beginning(query.finish_with(hour)?);
    let until = since.after(Grain::Hour.length());
    let store = Arc::clone(&api.state.store);
    let Submissions { count, sha256 } =
        api.run(async move { store.submissions_between(since, until).await }).await?;
    answer(StatusCode::OK, &AuditedSubmissions { since, until, count, sha256 }, 256)
}
