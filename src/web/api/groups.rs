//! `/groups`: selectors under a name, so that an operator writes `web` and everybody means the same
//! endpoints.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use serde_json::json;

use super::problem::Problem;
use super::query::Query;
use super::submission::read_selectors;
use super::{Answer, Api, access, answer, deeds, segment};
use crate::contract::{self, Group, GroupChange, GroupList, OneOrMany, ProblemCode, ProblemItem};
use crate::domain::{GroupName, Selector, likeness};
use crate::store::{GroupRecord, GroupWritten, MAX_GROUPS};

/// Bytes that the body may have: a hundred selectors.
const LONGEST_BODY: usize = 64 << 10;

/// Lists the groups by name.
#[utoipa::path(
    get, path = "/groups", operation_id = "listGroups", tag = "endpoints",
    responses((status = 200, description = "All there are", body = GroupList)),
)]
pub async fn list_groups(api: web::Data<Api>) -> Answer {
    let groups = records(&api).await?;
    let room = 128 + groups.iter().map(|group| 256 + group.selector.to_string().len()).sum::<usize>();
    answer(StatusCode::OK, &GroupList { groups: groups.into_iter().map(shown).collect() }, room)
}

/// Shows a group.
#[utoipa::path(
    get, path = "/groups/{name}", operation_id = "getGroup", tag = "endpoints",
    params(("name" = String, Path, description = "The group")),
    responses(
        (status = 200, description = "The group", body = Group),
        (status = 404, description = "`unknown_group`", body = contract::Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show_group(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let (name, groups) = (segment(&request, 1)?, records(&api).await?);
    match groups.iter().find(|group| group.name.as_str() == name) {
        Some(group) => answer(StatusCode::OK, &shown(group.clone()), 8 << 10),
        None => Err(unknown(&name, &groups)),
    }
}

/// Stores a group, in the place of the one of its name.
///
/// Tasks that were submitted before stay with the endpoints that they had then.
#[utoipa::path(
    put, path = "/groups/{name}", operation_id = "writeGroup", tag = "endpoints",
    params(("name" = String, Path, description = "The group")),
    request_body(content = GroupChange, content_type = "application/json"),
    responses(
        (status = 201, description = "It is new", body = Group),
        (status = 200, description = "It was there, and is now this", body = Group),
        (status = 415, description = "`unsupported_media_type`", body = contract::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_group`, with every problem", body = contract::Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn write_group(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Answer {
    let name = segment(&request, 1)?;
    Query::new(request.query_string()).finish()?;
    let invalid = |items| Problem::invalid(ProblemCode::InvalidGroup, items);
    let wrong = |message: String| invalid(vec![ProblemItem::new("", message)]);
    let change: GroupChange = api.read(&request, payload, LONGEST_BODY, wrong).await?;
    let name: GroupName =
        name.parse().map_err(|error| wrong(format!("{error}, not {}", likeness::quoted(&name))))?;
    let selector = selector(change.selectors).map_err(invalid)?;
    let changed_by = access::token_name(&request);
    let group = GroupRecord { name, selector, changed_by, changed_at: api.now()? };
    let (store, record) = (Arc::clone(&api.state.store), group.clone());
    let status = match api.run(async move { store.write_group(&record).await }).await? {
        GroupWritten::New => StatusCode::CREATED,
        GroupWritten::Changed => StatusCode::OK,
        GroupWritten::TooMany => {
            let message = format!(
                "there are {MAX_GROUPS} groups already, and no more are stored: delete one that nobody needs"
            );
            return Err(invalid(vec![ProblemItem::new("", message)]));
        }
    };
    tracing::info!(group = %group.name, selector = %group.selector, "a group was written");
    deeds::tell(&request, json!({"match": group.selector.to_string(), "new": status == StatusCode::CREATED}));
    answer(status, &shown(group), 8 << 10)
}

/// Deletes a group.
///
/// Tasks that were submitted before stay with the endpoints that they had then.
#[utoipa::path(
    delete, path = "/groups/{name}", operation_id = "deleteGroup", tag = "endpoints",
    params(("name" = String, Path, description = "The group")),
    responses(
        (status = 200, description = "The group as it was", body = Group),
        (status = 404, description = "`unknown_group`", body = contract::Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn delete_group(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let (name, groups) = (segment(&request, 1)?, records(&api).await?);
    let Some(group) = groups.iter().find(|group| group.name.as_str() == name) else {
        return Err(unknown(&name, &groups));
    };
    let (store, group) = (Arc::clone(&api.state.store), group.clone());
    let deleted = group.name.clone();
    if !api.run(async move { store.delete_group(&deleted).await }).await? {
        return Err(unknown(&name, &groups));
    }
    tracing::info!(group = %group.name, "a group was deleted");
    deeds::tell(&request, json!({"match": group.selector.to_string()}));
    answer(StatusCode::OK, &shown(group), 8 << 10)
}

/// The one selector of a group.
fn selector(texts: OneOrMany) -> Result<Selector, Vec<ProblemItem>> {
    let mut problems = Vec::new();
    let selectors = read_selectors(texts, "/match", &mut 0, &mut problems);
    for (place, selector) in &selectors {
        if let Some(group) = selector.groups().first() {
            let message = format!("names the group `{group}`: write its selector instead");
            problems.push(ProblemItem::new(place.as_str(), message));
        }
    }
    if selectors.is_empty() && problems.is_empty() {
        problems.push(ProblemItem::new("/match", "has no selector: `name=*` holds for all endpoints"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let selectors = selectors.into_iter().map(|(_, selector)| selector).collect();
    Selector::all(selectors).map_err(|invalid| vec![ProblemItem::new("/match", invalid.message)])
}

async fn records(api: &Api) -> Result<Vec<GroupRecord>, Problem> {
    let store = Arc::clone(&api.state.store);
    api.run(async move { store.groups().await }).await
}

fn unknown(name: &str, groups: &[GroupRecord]) -> Problem {
    let known = groups.iter().map(|group| group.name.as_str());
    Problem::unknown(ProblemCode::UnknownGroup, name, likeness::unknown("group", name, "stored", known))
}

fn shown(group: GroupRecord) -> Group {
    Group {
        name: group.name,
        selector: group.selector.to_string(),
        changed_by: group.changed_by.map(|token| token.as_str().to_owned()),
        changed_at: group.changed_at,
    }
}
