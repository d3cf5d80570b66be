//! The identifiers of tasks that tasker submits itself. Each has one form, so that submitting such a task
//! again changes nothing, and no client may use it: the task of a schedule or of a success would be lost.

use chrono::{DateTime, SecondsFormat, Utc};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::domain::{Identifier, InvalidName, RequestToken, TaskId, TaskType, Timestamp};

/// What the identifiers of successors begin with.
const AFTER: &str = "after-";

/// The identifier of the task that a schedule submits for a time.
///
/// # Errors
/// Never for the name of a schedule, which is short and of a few characters.
pub fn of_schedule(name: &str, time: Timestamp) -> Result<Identifier, InvalidName> {
    let time = DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true);
    format!("{name}-{time}").parse()
}

/// The identifier of a task that a schedule submits because somebody has asked for it, at this time.
///
/// # Errors
/// As [`of_schedule`].
pub fn of_run(name: &str, time: Timestamp) -> Result<Identifier, InvalidName> {
    format!("{name}-run-{time}").parse()
}

/// What the identifiers of requeued tasks begin with.
const AGAIN: &str = "again-";

/// The identifier of the task that repeats one of a work queue.
///
/// # Panics
/// Never: an id is short.
#[expect(clippy::expect_used, reason = "see above")]
pub fn of_requeue(before: TaskId) -> Identifier {
    format!("{AGAIN}{before}").parse().expect("a short text")
}

/// The identifier of the task that is queued after another.
///
/// # Errors
/// Never: an id is short.
pub fn of_successor(before: TaskId) -> Result<Identifier, InvalidName> {
    format!("{AFTER}{before}").parse()
}

/// The identifier of the task that performs an attempt of a job. One that would be too long ends with a
/// digest of itself.
///
/// # Panics
/// Never: a token has no control characters, and those of a job's name are left out.
#[expect(clippy::expect_used, reason = "see above")]
pub fn of_job(token: &RequestToken, step: u32, job: &str, attempt: u32) -> Identifier {
    let name: String = job.chars().filter(|char| !char.is_control()).collect();
    let whole = format!("{token}.{step}.{name}.{attempt}");
    let text = match whole.chars().count() {
        ..=Identifier::LONGEST => whole,
        _ => {
            let digest: String =
                Sha256::digest(&whole)[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            whole
                .chars()
                .take(Identifier::LONGEST - 1 - digest.len())
                .chain(['.'])
                .chain(digest.chars())
                .collect()
        }
    };
    text.parse().expect("1 to 191 characters without control characters")
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether an identifier is one of a batch or a probe of a rollout: `rollout-kernel-6.9-w3-b17`.
fn is_of_rollout(text: &str) -> bool {
    let parts = text.strip_prefix("rollout-").and_then(|rest| rest.rsplit_once('-'));
    let wave = parts
        .filter(|(_, task)| task.strip_prefix(['b', 'p']).is_some_and(is_number))
        .and_then(|(rest, _)| rest.rsplit_once("-w"));
    wave.is_some_and(|(name, wave)| !name.is_empty() && is_number(wave))
}

/// Whether an identifier is one that [`of_job`] makes for this type. The token of a request is a UUID;
/// requests that were inserted with SQL may have others, and for these the job must be configured.
fn is_of_request(config: &Config, task_type: &TaskType, text: &str) -> bool {
    let of_uuid = text
        .split_at_checked(36)
        .filter(|(token, _)| uuid::Uuid::try_parse(token).is_ok_and(|uuid| uuid.to_string() == *token))
        .and_then(|(_, rest)| rest.strip_prefix('.')?.split_once('.'));
    if let Some((_, rest)) = of_uuid.filter(|(step, _)| is_number(step)) {
        let is_digest = |text: &str| {
            text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        return rest.rsplit_once('.').is_some_and(|(_, end)| {
            is_number(end) || is_digest(end) && text.chars().count() == Identifier::LONGEST
        });
    }
    let Some((rest, _)) = text.rsplit_once('.').filter(|(_, attempt)| is_number(attempt)) else {
        return false;
    };
    let jobs = config.requests.jobs.iter().filter(|(_, job)| job.task_type == *task_type);
    jobs.filter_map(|(name, _)| rest.strip_suffix(name.as_str())?.strip_suffix('.')?.rsplit_once('.'))
        .any(|(token, step)| is_number(step) && token.parse::<RequestToken>().is_ok())
}

/// Why a client may not use an identifier for a task of this type, if so.
pub fn reserved(config: &Config, task_type: &TaskType, identifier: &Identifier) -> Option<String> {
    let text = identifier.as_str();
    for schedule in config.schedules.iter().filter(|schedule| schedule.task_type == *task_type) {
        let time = text
            .strip_prefix(schedule.name.as_str())
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|time| time.parse().ok());
        if let Some(time) = time.map(|time: DateTime<Utc>| Timestamp::from(time))
            && of_schedule(&schedule.name, time).is_ok_and(|reserved| reserved == *identifier)
        {
            let name = &schedule.name;
            return Some(format!(
                "is reserved for schedule `{name}`, which submits its tasks under its name and the time; use another"
            ));
        }
    }
    let again = text.strip_prefix(AGAIN).and_then(|id| id.parse().ok()).map(TaskId);
    if let Some(before) = again.filter(|before| of_requeue(*before) == *identifier)
        && config.policy(task_type).is_some_and(|policy| policy.queue.is_some())
    {
        return Some(format!(
            "is reserved for the requeue of task {before}; use another, or POST /queues/{task_type}/requeue"
        ));
    }
    if is_of_rollout(text) {
        return Some(
            "is reserved for batches and probes of rollouts (`rollout-...-w1-b1`, `rollout-...-w1-p1`); use another"
                .to_owned(),
        );
    }
    if is_of_request(config, task_type, text) {
        return Some("is reserved for the jobs of requests (`TOKEN.0.job.1`); use another".to_owned());
    }
    let before: TaskId = text.strip_prefix(AFTER)?.parse().map(TaskId).ok()?;
    let types = config.of_delivery(true);
    let mut chains = types.filter(|policy| {
        policy
            .queue
            .as_ref()
            .and_then(|queue| queue.then.as_ref())
            .is_some_and(|then| then.task_type == *task_type)
    });
    let first =
        chains.next().filter(|_| of_successor(before).is_ok_and(|reserved| reserved == *identifier))?;
    Some(format!(
        "is reserved for the task that follows task {before} of type `{}` (`then`); use another",
        first.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_name() {
        let name = of_schedule("s", Timestamp::from_micros(1_767_225_600_000_000)).expect("an identifier");
        assert_eq!(name.as_str(), "s-2026-01-01T00:00:00Z");
        let name = of_run("s", Timestamp::from_micros(1_767_225_600_000_017)).expect("an identifier");
        assert_eq!(name.as_str(), "s-run-2026-01-01T00:00:00.000017Z");
    }

    #[test]
    fn names_that_tasker_gives_are_reserved_for_their_types() {
        let text = "requests: {jobs: {Send: c}}\ntask_types:\n  - {name: a, delivery: queue, then: {type: b}}\n  - {name: b, delivery: queue}\n  - c\n\
                    schedules:\n  - {name: nightly, type: c, cron: \"0 3 * * *\"}\n  - {name: after, type: b, cron: \"0 3 * * *\"}\n  - {name: nightly-2, type: c, cron: \"0 3 * * *\"}";
        let config = Config::from_yaml(text).expect("valid");
        let id = "01934f3e-6f6e-7d3c-b6a5-0c2f5e7a9b11";
        for (task_type, identifier, word) in [
            ("c", "nightly-2026-01-01T03:00:00Z", Some("`nightly`")),
            // A pattern may change; the form is reserved, not the times.
            ("c", "nightly-2026-01-01T03:17:23Z", Some("`nightly`")),
            ("c", "nightly-2-2026-01-01T03:00:00Z", Some("`nightly-2`")),
            ("b", "after-2026-01-01T03:00:00Z", Some("schedule `after`")),
            ("b", &format!("after-{id}"), Some("type `a`")),
            ("b", &format!("again-{id}"), Some("requeue")),
            ("c", &format!("again-{id}"), None),
            ("b", "again-1", None),
            // The same names for other types, and other names.
            ("b", "nightly-2026-01-01T03:00:00Z", None),
            ("a", &format!("after-{id}"), None),
            ("c", &format!("after-{id}"), None),
            ("c", "nightly-2026-01-01T03:00:00+00:00", None),
            ("c", "nightly-2026-01-01T03:00:00.5Z", None),
            ("c", "nightly-2026-01-01t03:00:00z", None),
            ("c", "nightly-2026-02-30T03:00:00Z", None),
            ("c", "Nightly-2026-01-01T03:00:00Z", None),
            ("a", "rollout-x-w1-b1", Some("batches")),
            ("a", "rollout-x-w1-p12", Some("probes")),
            ("a", "rollout-x-w1-p", None),
            ("a", "rollout-x-w1-q1", None),
            ("a", "rollout-w1-p1", None),
            ("a", &format!("{id}.0.b.1"), Some("requests")),
            ("a", &format!("{id}.12.any.thing.3"), Some("requests")),
            ("a", of_job(&id.parse().expect("a token"), 3, &"j".repeat(300), 1).as_str(), Some("requests")),
            ("a", &format!("{id}.b.1"), None),
            ("a", &format!("{id}.0.b"), None),
            ("a", &format!("{}.0.b.1", id.to_uppercase()), None),
            ("c", "mine.0.Send.2", Some("requests")),
            ("b", "mine.0.Send.2", None),
            ("c", "mine.0.other.2", None),
            ("c", "mine.Send.2", None),
            ("c", "nightly-", None),
            ("c", "nightly", None),
            ("b", "after-", None),
            ("b", &format!("after-{}", id.to_uppercase()), None),
            ("b", &format!("after-{}", id.replace('-', "")), None),
        ] {
            let reason =
                reserved(&config, &task_type.parse().expect("valid"), &identifier.parse().expect("valid"));
            match word {
                Some(word) => assert!(
                    reason.as_ref().is_some_and(|reason| reason.contains(word)),
                    "{task_type} {identifier}: {reason:?}"
                ),
                None => assert_eq!(reason, None, "{task_type} {identifier}"),
            }
        }
    }
}
