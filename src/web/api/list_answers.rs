//! `GET /{type}/{id}/answers`: what the endpoints of a task answered, in groups of equal answers.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};

use super::named::{self, TaskName};
use super::query::Query;
use super::{Answer, Api, answer};
use crate::contract::{self, AnswerGroup, Answers, Exemplar, MoreAnswers};
use crate::domain::{Counts, Difference, FinalAnswer, Ignored, ResponseStatus};
use crate::store;

/// Groups when nothing is said.
const DEFAULT_LIMIT: u32 = 20;
/// Groups at most: each has an answer, and the difference to the largest is worked out.
const MOST: u32 = 100;
/// Characters that the payload of an exemplar may have.
const PAYLOAD: u32 = 16 << 10;
/// What a group may take while it is read and written.
const ROOM_EACH: usize = 64 << 10;

/// Groups the answers to a task.
///
/// Answers are the same when error number, message and payload are, apart from the name of the endpoint that
/// answers and what `answers.ignore` of the type leaves out.
#[utoipa::path(
    get, path = "/{type}/{id}/answers", operation_id = "listAnswers", tag = "tasks",
    params(
        ("type" = String, Path, description = "A configured task type"),
        ("id" = String, Path, description = "The identifier, percent-encoded; or our id"),
        ("limit" = Option<u32>, Query, description = "Groups of answers, the largest first, 1 to 100, by default 20",
            minimum = 1, maximum = 100),
    ),
    responses(
        (status = 200, description = "The groups", body = Answers),
        (status = 404, description = "`unknown_task_type`, `unknown_task`", body = contract::Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "`invalid_query`", body = contract::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list_answers(api: web::Data<Api>, request: HttpRequest) -> Answer {
    let policy = named::task_type(&api, &request)?;
    let name = TaskName::of(&request)?;
    let mut query = Query::new(request.query_string());
    let limit = query.take("limit", limit).unwrap_or(DEFAULT_LIMIT);
    query.finish()?;

    let task = named::task(&api, &request, policy, &name).await?;
    let expected = usize::try_from(limit.min(task.counts.finished)).unwrap_or_default();
    api.room(&request, expected * ROOM_EACH).await?;
    let (store, id) = (Arc::clone(&api.state.store), task.id);
    let found = api.run(async move { store.answers(id, limit, PAYLOAD).await }).await?;
    let capacity = 1024 + found.groups.iter().map(size).sum::<usize>();
    answer(StatusCode::OK, &grouped(found, &task.counts, &policy.ignored), capacity)
}

fn limit(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|limit| (1..=MOST).contains(limit))
        .ok_or_else(|| format!("must be a number from 1 to {MOST}"))
}

fn size(group: &store::AnswerGroup) -> usize {
    4096 + group.errmsg.len() + group.payload.as_ref().map_or(0, |json| json.get().len())
}

/// The groups of answers, and beside them those who have not answered, by the counts of the task.
fn grouped(found: store::AnswerGroups, counts: &Counts, ignored: &Ignored) -> Answers {
    let store::AnswerGroups { groups, total, answered } = found;
    let listed: u64 = groups.iter().map(|group| group.count).sum();
    let more =
        MoreAnswers { groups: total - groups.len() as u64, endpoints: answered.saturating_sub(listed) };
    let differences: Vec<_> = groups.iter().map(|group| difference(&groups, group, ignored)).collect();
    let answers = groups.into_iter().zip(differences).map(|(group, difference)| AnswerGroup {
        answer: Some(group.digest),
        status: ResponseStatus::Finished,
        errnr: Some(group.errnr),
        count: group.count,
        exemplar: Some(Exemplar {
            endpoint: group.endpoint,
            errmsg: group.errmsg,
            payload: group.payload,
            payload_omitted: group.payload_omitted,
        }),
        difference,
    });
    let mut groups: Vec<AnswerGroup> = answers.chain(without_digest(counts, answered)).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    Answers { groups, more }
}

/// What sets a group apart from the largest one.
fn difference(
    groups: &[store::AnswerGroup],
    group: &store::AnswerGroup,
    ignored: &Ignored,
) -> Option<Difference> {
    let largest = groups.first().filter(|largest| largest.digest != group.digest)?;
    Some(Difference::between(&given(largest), &given(group), ignored))
}

fn given(group: &store::AnswerGroup) -> FinalAnswer<'_> {
    let payload = group.payload.as_deref();
    FinalAnswer { endpoint: group.endpoint.as_str(), errnr: group.errnr, errmsg: &group.errmsg, payload }
}

/// Those who have not answered, by how they stand; and answers of which no digest was kept.
fn without_digest(counts: &Counts, answered: u64) -> impl Iterator<Item = AnswerGroup> {
    let open = counts.open();
    // A cancel closes all responses that nobody has received, so what is open after one has been received.
    let running =
        if counts.canceled > 0 { open } else { open.min(counts.received.saturating_sub(counts.finished)) };
    let groups = [
        (ResponseStatus::Finished, u64::from(counts.finished).saturating_sub(answered)),
        (ResponseStatus::Expected, u64::from(open - running)),
        (ResponseStatus::Created, u64::from(running)),
        (ResponseStatus::Canceled, u64::from(counts.canceled)),
        (ResponseStatus::Expired, u64::from(counts.expired)),
    ];
    let group = |(status, count)| AnswerGroup {
        answer: None,
        status,
        errnr: None,
        count,
        exemplar: None,
        difference: None,
    };
    groups.into_iter().filter(|(_, count)| *count > 0).map(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AnswerDigest;

    fn group(digest: u8, count: u64, errmsg: &str) -> store::AnswerGroup {
        store::AnswerGroup {
            digest: AnswerDigest::from_bytes([digest; 16]),
            count,
            endpoint: format!("web{digest}").parse().expect("a name"),
            errnr: i32::from(!errmsg.is_empty()),
            errmsg: errmsg.to_owned(),
            payload: None,
            payload_omitted: false,
        }
    }

    #[test]
    fn every_endpoint_is_in_one_group() {
        let counts = |[expected, received, finished, failed, canceled, expired]: [u32; 6]| Counts {
            expected,
            received,
            finished,
            failed,
            canceled,
            expired,
        };
        use ResponseStatus::{Canceled, Created, Expected, Expired, Finished};
        for (given, answered, groups) in [
            ([0; 6], 0, vec![]),
            ([9, 7, 4, 1, 0, 0], 4, vec![(Finished, 4), (Created, 3), (Expected, 2)]),
            ([9, 7, 4, 1, 0, 0], 1, vec![(Finished, 3), (Created, 3), (Expected, 2), (Finished, 1)]),
            ([9, 6, 2, 0, 4, 0], 2, vec![(Canceled, 4), (Created, 3), (Finished, 2)]),
            ([9, 2, 2, 0, 0, 7], 2, vec![(Expired, 7), (Finished, 2)]),
        ] {
            let groups_found = if answered > 0 { vec![group(1, answered, "")] } else { vec![] };
            let total = groups_found.len() as u64;
            let found = store::AnswerGroups { groups: groups_found, total, answered };
            let answers = grouped(found, &counts(given), &Ignored::default());
            assert_eq!(
                answers.groups.iter().map(|group| (group.status, group.count)).collect::<Vec<_>>(),
                groups,
                "{given:?}"
            );
            assert_eq!(
                answers.groups.iter().map(|group| group.count).sum::<u64>(),
                u64::from(given[0]),
                "{given:?}"
            );
        }
    }

    #[test]
    fn each_group_tells_what_sets_it_apart_from_the_largest() {
        let found = store::AnswerGroups {
            groups: vec![group(1, 8, ""), group(2, 3, "web2: no disk")],
            total: 7,
            answered: 20,
        };
        let counts = Counts { expected: 20, received: 20, finished: 20, ..Counts::default() };
        let answers = grouped(found, &counts, &Ignored::default());
        assert_eq!(answers.more, MoreAnswers { groups: 5, endpoints: 9 });
        assert!(answers.groups[0].difference.is_none());
        let changes = answers.groups[1]
            .difference
            .as_ref()
            .map(|difference| &difference.changes[..])
            .expect("a difference");
        let told: Vec<_> =
            changes.iter().map(|change| (change.at.as_str(), change.here.as_deref())).collect();
        assert_eq!(told, [("/errnr", Some("1")), ("/errmsg", Some("<endpoint>: no disk"))]);
    }
}
