//! What `tasker request` may be asked.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::choice::one_of;
use super::page::Page;
use super::when::ago;
use crate::config::span;
use crate::domain::{Json, RequestStatus, Timestamp, When, json};

/// `tasker request`.
#[derive(Debug, Clone, Subcommand)]
pub enum RequestCommand {
    /// Submit a request
    #[command(after_help = "\
Examples:
  tasker request submit retrieve_user --param id=333 --wait
  tasker request submit --step get --step 'del1 del2 del3' --param id=333 --wait
  tasker request submit move --step 'copy: c1 c2' --step 'undo(any_failed): del'

A configured action (requests.actions) has steps; --step gives others, each with its jobs:
  get                      the job `get`
  'copy: c1 c2'            the step `copy`: two jobs that run at the same time
  'undo(any_failed): del'  a step for when a job of the steps before has failed
  'tidy(all_done): del'    a step that runs in any case

A job is a task type, or what requests.jobs says of it.
Ctrl-C ends a wait, never the request.")]
    Submit(SubmitRequest),
    /// Show a request: its steps and jobs and how each stands
    #[command(after_help = "\
Examples:
  tasker request show 5c1f7e1e-0f1c-4d6a-9a53-0c4d0b1f3f77
  tasker request show 5c1f7e1e-0f1c-4d6a-9a53-0c4d0b1f3f77 --wait 5m --all")]
    Show(ShowRequest),
    /// List requests, newest first
    #[command(after_help = "Example:\n  tasker request list --status Failed --since 2h")]
    List(ListRequests),
    /// Cancel requests: jobs that have not begun never will, running ones are told to stop
    #[command(after_help = "Example:\n  tasker request cancel 5c1f7e1e-0f1c-4d6a-9a53-0c4d0b1f3f77")]
    Cancel(NamedRequests),
    /// Run the failed jobs of requests again, and what follows them
    #[command(after_help = "\
Examples:
  tasker request retry 5c1f7e1e-0f1c-4d6a-9a53-0c4d0b1f3f77
  tasker request retry 5c1f7e1e-0f1c-4d6a-9a53-0c4d0b1f3f77 --wait 5m

The exit code is 1 if a request could not be retried, else that of the first request
that did not end as Completed.
Ctrl-C ends a wait, never a request.")]
    Retry(RetryRequests),
    /// Import the requests and jobs of a database of the original Tasker Worker
    ///
    /// Works on the database of -m or --config, else on that of `tasker up`. Stop the original and its
    /// producers first. An import that was interrupted can be repeated: requests that are there already are
    /// left alone.
    #[command(after_help = "\
Examples:
  tasker request import --from mysql://worker:secret@localhost/worker --dry-run
  tasker request import --from sqlite:///var/lib/worker.db -m production")]
    Import(ImportRequests),
}

/// `tasker request submit`.
#[derive(Debug, Clone, Args)]
pub struct SubmitRequest {
    /// What the request is for: a configured action, or any name with --step [default: ad-hoc]
    #[arg(value_name = "ACTION", required_unless_present = "steps", value_parser = NonEmptyStringValueParser::new())]
    pub action: Option<String>,
    /// A step with its jobs (repeatable, in their order) [default: the steps of the configured action]
    #[arg(long = "step", value_name = "JOBS", value_parser = step)]
    pub steps: Vec<StepFlag>,
    /// A member of the params (repeatable): a number, true, false, null or other JSON, otherwise a text
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = param, conflicts_with_all = ["params", "params_file"])]
    pub members: Vec<(String, Json)>,
    /// Params as JSON
    #[arg(long, value_name = "JSON")]
    pub params: Option<String>,
    /// File that holds the params as JSON; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "params")]
    pub params_file: Option<PathBuf>,
    /// Your name for the request: submitting the same again under it answers the request that is there
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub request_token: Option<String>,
    /// How to wait for the end.
    #[command(flatten)]
    pub waiting: WaitForRequest,
}

/// A step as it is typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFlag {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// When it runs.
    pub when: When,
    /// Its jobs.
    pub jobs: Vec<String>,
}

/// How to wait for the end of a request.
#[derive(Debug, Clone, Copy, Args)]
pub struct WaitForRequest {
    /// Wait until the request ends; at most for DURATION
    #[arg(long, value_name = "DURATION", value_parser = span::parse, num_args = 0..=1)]
    pub wait: Option<Option<Duration>>,
    /// Show each job of a long step, earlier attempts, params and extras too
    #[arg(long)]
    pub all: bool,
}

/// `tasker request show`.
#[derive(Debug, Clone, Args)]
pub struct ShowRequest {
    /// Token of the request
    #[arg(value_name = "TOKEN", value_parser = NonEmptyStringValueParser::new())]
    pub token: String,
    /// How to wait for the end.
    #[command(flatten)]
    pub waiting: WaitForRequest,
}

/// `tasker request list`.
#[derive(Debug, Clone, Args)]
pub struct ListRequests {
    /// Only requests of these states, separated by commas: Queuing, Inprogress, Completed, Failed, Canceled
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = one_of(&RequestStatus::ALL, RequestStatus::as_str), hide_possible_values = true)]
    pub status: Vec<RequestStatus>,
    /// Only the request that was submitted with this name
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub request_token: Option<String>,
    /// Only requests for this action
    #[arg(long, value_name = "ACTION", value_parser = NonEmptyStringValueParser::new())]
    pub action: Option<String>,
    /// Only requests recorded since then: a time such as 2024-07-12T10:00:00Z, or a span such as 2h before
    /// now
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub since: Option<Timestamp>,
    /// Only requests recorded before then
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub until: Option<Timestamp>,
    /// Where and how much.
    #[command(flatten)]
    pub page: Page,
}

/// Requests that are named.
#[derive(Debug, Clone, Args)]
pub struct NamedRequests {
    /// Tokens of requests
    #[arg(value_name = "TOKEN", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub tokens: Vec<String>,
}

/// `tasker request retry`.
#[derive(Debug, Clone, Args)]
pub struct RetryRequests {
    /// Which requests.
    #[command(flatten)]
    pub named: NamedRequests,
    /// How to wait for their end.
    #[command(flatten)]
    pub waiting: WaitForRequest,
}

/// `tasker request import`.
#[derive(Debug, Clone, Args)]
pub struct ImportRequests {
    /// Database of the original: mysql://user:password@host:port/database or sqlite:///path/to/file
    #[arg(long, value_name = "URL")]
    pub from: String,
    /// Check everything and say what would be imported, without importing it
    #[arg(long)]
    pub dry_run: bool,
    /// Run jobs again that the original had begun and not ended; without it they have failed
    #[arg(long)]
    pub rerun_interrupted: bool,
    /// For how long no row of the original must have changed
    #[arg(long, value_name = "DURATION", value_parser = span::parse, default_value = "60s")]
    pub quiet_for: Duration,
    /// Directory of `tasker up` [default: ./tasker-data unless a configuration is named]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// A step with its jobs: `job1 job2`, `name: job1 job2` or `name(when): job1`.
fn step(text: &str) -> Result<StepFlag, String> {
    let (head, jobs) = text.split_once(':').map_or((None, text), |(head, jobs)| (Some(head.trim()), jobs));
    let (name, when) =
        match head.map(|head| head.strip_suffix(')').and_then(|head| head.split_once('(')).ok_or(head)) {
            None => (None, When::default()),
            Some(Err(name)) => (Some(name), When::default()),
            Some(Ok((name, when))) => {
                let words = When::ALL.map(When::as_str).join(", ");
                let found = When::ALL.into_iter().find(|one| one.as_str() == when.trim());
                (Some(name.trim()), found.ok_or_else(|| format!("`{when}` is not one of {words}"))?)
            }
        };
    let jobs: Vec<_> =
        jobs.split([' ', ',', '\t']).filter(|job| !job.is_empty()).map(str::to_owned).collect();
    if jobs.is_empty() || name == Some("") {
        return Err(
            "expected jobs such as `get`, `del1 del2`, or with a name for the step `delete: del1 del2`"
                .to_owned(),
        );
    }
    Ok(StepFlag { name: name.map(str::to_owned), when, jobs })
}

/// A member of an object: `id=333`.
fn param(text: &str) -> Result<(String, Json), String> {
    let (key, value) = text
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or("expected KEY=VALUE such as `id=333`")?;
    Ok((key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| json(&value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_typed_with_or_without_its_name() {
        let typed = |name: Option<&str>, when, jobs: &[&str]| StepFlag {
            name: name.map(str::to_owned),
            when,
            jobs: jobs.iter().map(|job| (*job).to_owned()).collect(),
        };
        for (text, wanted) in [
            ("get", typed(None, When::AllOk, &["get"])),
            (" del1  del2,del3 ", typed(None, When::AllOk, &["del1", "del2", "del3"])),
            ("delete: del1 del2", typed(Some("delete"), When::AllOk, &["del1", "del2"])),
            ("undo(any_failed):del1", typed(Some("undo"), When::AnyFailed, &["del1"])),
            ("tell ( all_done ) : mail", typed(Some("tell"), When::AllDone, &["mail"])),
        ] {
            assert_eq!(step(text), Ok(wanted), "{text}");
        }
        for (text, word) in [
            ("", "expected jobs"),
            ("a:", "expected jobs"),
            (": a", "expected jobs"),
            ("a(never): b", "`never` is not one"),
        ] {
            assert!(step(text).is_err_and(|error| error.contains(word)), "{text}");
        }
    }

    #[test]
    fn a_param_is_json_or_a_text() {
        for (text, value) in [
            ("id=333", "333"),
            ("id=a=b", r#""a=b""#),
            ("id=", r#""""#),
            ("id=[1]", "[1]"),
            ("id={", r#""{""#),
            ("id=6.10", "6.10"),
            ("id=12345678901234567890123", "12345678901234567890123"),
            ("id=0755", r#""0755""#),
        ] {
            let read = param(text).map(|(key, value)| (key, value.get().to_owned()));
            assert_eq!(read, Ok(("id".to_owned(), value.to_owned())), "{text}");
        }
        assert!(param("id").is_err() && param("=1").is_err());
    }
}
