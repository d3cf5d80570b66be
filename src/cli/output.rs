//! Data to standard output, everything else to standard error; people or programs on the other side.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufRead, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;

use serde::Serialize;
use tokio::io::Interest;
use tokio::net::unix::pipe;

use crate::client::ClientError;
use crate::config::ConfigError;
use crate::contract::{Problem, ProblemItem};
use crate::domain::TaskId;
use crate::store::StoreError;

use super::exit::Code;
use super::refusal;
use super::table::Screen;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The API did not.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The API did not, after it had done a part.
    #[error("{error}{so_far}")]
    Halfway {
        /// Why.
        error: ClientError,
        /// What was done, for people.
        so_far: String,
    },
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What was given cannot be used.
    #[error("{0}")]
    Usage(String),
    /// What was to be set up could not be.
    #[error("{0}")]
    Setup(String),
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

/// What could not be set up.
pub(super) fn setup(error: impl std::fmt::Display) -> Failure {
    Failure::Setup(error.to_string())
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Setup(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Setup(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    /// With its causes, in one line.
    fn from(error: anyhow::Error) -> Self {
        Self::Setup(format!("{error:#}"))
    }
}

impl Failure {
    /// The words of the API, if it has refused, and what it had done before.
    fn refusal(&self) -> Option<(&Problem, &str)> {
        match self {
            Self::Client(ClientError::Refused { problem, .. }) => Some((&**problem, "")),
            Self::Halfway { error: ClientError::Refused { problem, .. }, so_far } => {
                Some((&**problem, so_far.as_str()))
            }
            _ => None,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Client(error) | Self::Halfway { error, .. } => error.code(),
            Self::Config(_) => "config",
            Self::Usage(_) => "usage",
            Self::Setup(_) => "setup",
            Self::Output(_) => "output",
        }
    }

    /// Tells the user, and the shell.
    pub fn report(&self, json: bool) -> Code {
        // `tasker list | head` closes the pipe when it has seen enough.
        if matches!(self, Self::Output(error) if error.kind() == ErrorKind::BrokenPipe) {
            return Code::Failure;
        }
        let text = match (json, self.refusal()) {
            (true, _) => as_json(self.code(), self),
            (false, Some((problem, _))) => format!("tasker: {self}{}", refusal::next_step(problem)),
            (false, None) => format!("tasker: {self}"),
        };
        note(&text);
        Code::Failure
    }
}

#[derive(Serialize)]
struct Outer<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: &'a str,
    detail: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [ProblemItem],
    #[serde(skip_serializing_if = "Option::is_none")]
    existing_id: Option<TaskId>,
}

fn as_json(code: &str, failure: &Failure) -> String {
    let error = match failure.refusal() {
        Some((problem, so_far)) => Inner {
            code,
            detail: format!("{}{so_far}", problem.detail),
            errors: &problem.errors,
            existing_id: problem.existing_id,
        },
        None => Inner { code, detail: failure.to_string(), errors: &[], existing_id: None },
    };
    serde_json::to_string(&Outer { error }).unwrap_or_default()
}

/// What a wait ended with, in the form of an error.
pub(super) fn error_as_json(code: &str, detail: &str) -> String {
    as_json(code, &Failure::Usage(detail.to_owned()))
}

/// An error of the command line as JSON.
pub(super) fn usage_as_json(text: &str) -> String {
    let end =
        ["\n\nUsage:", "\n\nFor more"].iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
    let text = text.get(..end).unwrap_or(text).trim().trim_start_matches("error: ");
    as_json("usage", &Failure::Usage(text.to_owned()))
}

/// Does something for as long as somebody reads the output: `tail -f | head -1` ends as well. A program that
/// has nothing to write would not learn that its reader is gone.
pub(super) async fn while_read<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = work => done,
        () = unread() => Err(Failure::Output(ErrorKind::BrokenPipe.into())),
    }
}

/// Waits until the other end of the output is closed; for ever where it is a file.
async fn unread() {
    // Only looked at: it is not written to through this.
    let output = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    match output.and_then(pipe::Sender::from_file_unchecked) {
        Ok(output) => _ = output.ready(Interest::ERROR).await,
        Err(_) => std::future::pending().await,
    }
}

/// Writes to standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Writes what a command has found to standard output: for programs as a line of JSON, for people as the text
/// that fits the screen.
pub(super) fn show(
    json: bool,
    value: &impl Serialize,
    text: impl FnOnce(Screen) -> String,
) -> Result<(), Failure> {
    if json { print_json(value) } else { print(&text(Screen::of_output())) }
}

/// The same of a list. Where it is empty, people are told on standard error what would fill it.
pub(super) fn list(
    json: bool,
    value: &impl Serialize,
    none: Option<&str>,
    text: impl FnOnce(Screen) -> String,
) -> Result<(), Failure> {
    match none.filter(|_| !json) {
        Some(none) => {
            note(none);
            Ok(())
        }
        None => show(json, value, text),
    }
}

/// Waits for the line that a person types.
pub(super) fn answer() -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::Usage(format!("cannot read the answer: {error}")))?;
    Ok(line.trim().to_owned())
}

/// Whether a person can be asked.
pub(super) fn can_ask(json: bool) -> bool {
    !json && io::stdin().is_terminal() && is_watched()
}

/// Asks a person a question. Returns whether the answer was yes.
pub(super) fn ask(question: impl Display) -> Result<bool, Failure> {
    eprint!("{question} [y/N] ");
    // Lost only where nobody could read it.
    _ = io::stderr().flush();
    Ok(matches!(&*answer()?, "y" | "Y" | "yes"))
}

/// Writes a value as a line of JSON to standard output.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::Output(error.into()))?;
    print(&(text + "\n"))
}

/// Writes a line to standard error. Where that fails there is nobody left to tell.
pub(super) fn note(line: &str) {
    _ = writeln!(io::stderr().lock(), "{line}");
}

/// Warns of something that the command does not fail for.
pub(super) fn warn(text: impl Display) {
    note(&format!("tasker: warning: {text}"));
}

/// Writes a value as a line of JSON to standard error.
pub(super) fn note_json(value: &impl Serialize) {
    note(&serde_json::to_string(value).unwrap_or_default());
}

/// Whether somebody watches standard error.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples;
    use crate::contract::Problem;

    #[test]
    fn errors_are_json_for_programs() {
        let errors = vec![ProblemItem::new("/identifier", "is missing")];
        let problem = Problem {
            code: "invalid_body".to_owned(),
            detail: "no".to_owned(),
            errors,
            ..examples::problem()
        };
        let refused = Failure::Client(ClientError::Refused { status: 422, problem: Box::new(problem) });
        assert_eq!(
            as_json(refused.code(), &refused),
            r#"{"error":{"code":"invalid_body","detail":"no","errors":[{"pointer":"/identifier","message":"is missing"}]}}"#
        );
        assert_eq!(
            usage_as_json("error: what?\n\nFor more information, try '--help'.\n"),
            r#"{"error":{"code":"usage","detail":"what?"}}"#
        );
    }
}
