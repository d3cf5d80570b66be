//! What the API refuses, in the words of the command line: a person has typed flags, not JSON.

use crate::client::ClientError;
use crate::contract::{Problem, Submission};

/// A refusal with the names of flags in place of JSON pointers and query parameters; every other error as it is.
pub(super) fn with_flags(error: ClientError, submission: Option<&Submission>) -> ClientError {
    match error {
        ClientError::Refused { status, problem } => {
            ClientError::Refused { status, problem: Box::new(problem_with_flags(*problem, submission)) }
        }
        other => other,
    }
}

fn problem_with_flags(mut problem: Problem, submission: Option<&Submission>) -> Problem {
    for error in &mut problem.errors {
        let flag = |pointer: &str| flag(pointer, submission);
        let words = error.message.split(' ').map(|word| if word.starts_with('/') { flag(word) } else { word.to_owned() });
        error.message = words.collect::<Vec<_>>().join(" ");
        error.pointer = flag(&error.pointer);
    }
    problem
}

/// The flag that has made a member of a body or a parameter of a query; other texts stay as they are.
fn flag(pointer: &str, submission: Option<&Submission>) -> String {
    if let Some(parameter) = pointer.strip_prefix('?') {
        return format!("--{parameter}");
    }
    let Some(member) = pointer.strip_prefix('/') else { return pointer.to_owned() };
    let (member, rest) = member.split_once('/').map_or((member, None), |(member, rest)| (member, Some(rest)));
    match (member, rest) {
        ("identifier" | "priority" | "ttl" | "payload", None) => format!("--{member}"),
        ("run_at", None) => "--run-at".to_owned(),
        ("payload", Some(rest)) => format!("--payload /{rest}"),
        ("endpoints", None) => "--endpoints".to_owned(),
        ("endpoints", Some(place)) => {
            let name = submission.zip(place.parse::<usize>().ok()).and_then(|(submission, place)| submission.endpoints.get(place));
            name.map_or_else(|| "--endpoints".to_owned(), |name| format!("--endpoints {name}"))
        }
        _ => pointer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{ProblemItem, examples};

    #[test]
    fn a_person_is_told_of_flags() {
        let errors = vec![
            ProblemItem::new("/endpoints/1", "repeats /endpoints/0"),
            ProblemItem::new("/payload/seconds", "is not a number"),
            ProblemItem::new("/run_at", "is no time"),
            ProblemItem::new("?since", "must be a time"),
            ProblemItem::new("", "is missing"),
        ];
        let problem = Problem { detail: "5 problems".to_owned(), errors, ..examples::problem() };
        let endpoints = ["a", "b"].map(|name| name.parse().expect("a name")).to_vec();
        let submission = Submission { endpoints, ..Submission::new("i".parse().expect("an identifier"), None) };
        let told = with_flags(ClientError::Refused { status: 422, problem: Box::new(problem) }, Some(&submission)).to_string();
        let lines = [
            "5 problems",
            "--endpoints b: repeats --endpoints a",
            "--payload /seconds: is not a number",
            "--run-at: is no time",
            "--since: must be a time",
            ": is missing",
        ];
        assert_eq!(told.lines().map(str::trim).collect::<Vec<_>>(), lines);
    }
}
