//! What the API refuses, in the words of the command line: a person has typed flags, not JSON.

use crate::client::{ClientError, TaskName};
use crate::contract::{Problem, ProblemCode, Submission};
use crate::shell;

/// A refusal with the names of flags in place of JSON pointers and query parameters; every other error as it
/// is.
pub(super) fn with_flags(error: ClientError, submission: Option<&Submission>) -> ClientError {
    told_by(error, |pointer| flag(pointer, submission))
}

/// The same for a request.
pub(super) fn with_flags_of_request(error: ClientError) -> ClientError {
    told_by(error, flag_of_request)
}

/// A refusal of a type that nobody has configured, where a task was named by two words: the first may have been
/// meant as another task.
pub(super) fn of_two_words(error: ClientError, name: &TaskName) -> ClientError {
    match error {
        ClientError::Refused { status, mut problem }
            if problem.code == ProblemCode::UnknownTaskType.as_str() && name.task_type.is_some() =>
        {
            problem.detail +=
                "; of two words the first is the type: `tasker status` takes one task, as ID or TYPE ID";
            ClientError::Refused { status, problem }
        }
        other => other,
    }
}

/// A refusal to forget an endpoint, with the flag in place of the query parameter.
pub(super) fn of_forget(error: ClientError) -> ClientError {
    match error {
        ClientError::Refused { status, mut problem } => {
            problem.detail =
                problem.detail.replace("`?force=true`", "--force").replace("`force=true`", "--force");
            ClientError::Refused { status, problem }
        }
        other => other,
    }
}

/// What a person can do about a refusal, as the end of a text; empty where the text says it itself.
pub(super) fn next_step(problem: &Problem) -> String {
    let is = |code: ProblemCode| problem.code == code.as_str();
    match &problem.value {
        _ if is(ProblemCode::UnknownTask) => "; `tasker list` lists the tasks".to_owned(),
        _ if is(ProblemCode::UnknownRollout) => "; `tasker rollout list` lists the rollouts".to_owned(),
        Some(token) if is(ProblemCode::UnknownRequest) => {
            let token = shell::word(token);
            format!("; if it is the name of a request: tasker request list --request-token {token}")
        }
        _ if is(ProblemCode::IdentifierConflict) && problem.detail.ends_with("other content") => {
            "; choose another --identifier".to_owned()
        }
        _ => String::new(),
    }
}

fn told_by(error: ClientError, flag: impl Fn(&str) -> String) -> ClientError {
    let ClientError::Refused { status, mut problem } = error else { return error };
    for error in &mut problem.errors {
        let words = error
            .message
            .split(' ')
            .map(|word| if word.starts_with('/') { flag(word) } else { word.to_owned() });
        error.message = words.collect::<Vec<_>>().join(" ");
        error.pointer = flag(&error.pointer);
    }
    ClientError::Refused { status, problem }
}

/// The flag that has made a member of a request, or a parameter of a query; other texts stay as they are.
fn flag_of_request(pointer: &str) -> String {
    if let Some(parameter) = pointer.strip_prefix('?') {
        return format!("--{parameter}");
    }
    let mut parts = pointer.split('/').skip(1);
    match (
        parts.next(),
        parts.next().map(str::parse::<usize>),
        parts.next(),
        parts.next().map(str::parse::<usize>),
    ) {
        (Some("action"), None, ..) => "ACTION".to_owned(),
        (Some("params"), None, ..) => "--params".to_owned(),
        (Some("request_token"), None, ..) => "--request-token".to_owned(),
        (Some("steps"), None, ..) => "--step".to_owned(),
        (Some("steps"), Some(Ok(step)), Some("jobs"), Some(Ok(job))) => {
            format!("job {} of --step {}", job + 1, step + 1)
        }
        (Some("steps"), Some(Ok(step)), Some(member), None) => format!("{member} of --step {}", step + 1),
        (Some("steps"), Some(Ok(step)), None, None) => format!("--step {}", step + 1),
        _ => pointer.to_owned(),
    }
}

/// The flag that has made a member of a body or a parameter of a query; other texts stay as they are.
fn flag(pointer: &str, submission: Option<&Submission>) -> String {
    if let Some(parameter) = pointer.strip_prefix('?') {
        return format!("--{parameter}");
    }
    let Some(member) = pointer.strip_prefix('/') else { return pointer.to_owned() };
    let (member, rest) = member.split_once('/').map_or((member, None), |(member, rest)| (member, Some(rest)));
    match (member, rest) {
        ("identifier" | "priority" | "ttl" | "payload" | "percent" | "limit" | "seed" | "expect", None) => {
            format!("--{member}")
        }
        ("run_at", None) => "--run-at".to_owned(),
        ("payload", Some(rest)) => format!("--payload /{rest}"),
        ("match" | "exclude", _) => format!("--{member}"),
        ("groups", _) => "--group".to_owned(),
        ("endpoints", None) => "--endpoints".to_owned(),
        ("endpoints", Some(place)) => {
            let name = submission
                .zip(place.parse::<usize>().ok())
                .and_then(|(submission, place)| submission.endpoints.get(place));
            name.map_or_else(|| "--endpoints".to_owned(), |name| format!("--endpoints {name}"))
        }
        _ => pointer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples;
    use crate::contract::ProblemItem;

    #[test]
    fn a_person_is_told_of_flags() {
        let errors = vec![
            ProblemItem::new("/endpoints/1", "repeats /endpoints/0"),
            ProblemItem::new("/payload/seconds", "is not a number"),
            ProblemItem::new("/run_at", "is not a time"),
            ProblemItem::new("?since", "must be a time"),
            ProblemItem::new("", "is missing"),
        ];
        let problem = Problem { detail: "5 problems".to_owned(), errors, ..examples::problem() };
        let endpoints = ["a", "b"].map(|name| name.parse().expect("a name")).to_vec();
        let submission =
            Submission { endpoints, ..Submission::new("i".parse().expect("an identifier"), None) };
        let told =
            with_flags(ClientError::Refused { status: 422, problem: Box::new(problem) }, Some(&submission))
                .to_string();
        let lines = [
            "5 problems",
            "--endpoints b: repeats --endpoints a",
            "--payload /seconds: is not a number",
            "--run-at: is not a time",
            "--since: must be a time",
            ": is missing",
        ];
        assert_eq!(told.lines().map(str::trim).collect::<Vec<_>>(), lines);
    }

    #[test]
    fn a_step_is_told_by_its_number() {
        for (pointer, told) in [
            ("/action", "ACTION"),
            ("/params", "--params"),
            ("/steps", "--step"),
            ("/steps/0", "--step 1"),
            ("/steps/1/name", "name of --step 2"),
            ("/steps/1/jobs/2", "job 3 of --step 2"),
            ("/other/1", "/other/1"),
            ("?status", "--status"),
        ] {
            assert_eq!(flag_of_request(pointer), told);
        }
    }
}
