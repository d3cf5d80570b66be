//! The client that the flags and the environment describe: where, with which token, and whom it believes.

use std::fs;
use std::path::Path;

use crate::config::Secret;

use super::args::Global;
use super::client::{Client, Trust};
use super::output::{Failure, note};

/// Holds a token itself. Not a flag: what stands on a command line is seen by everybody on the machine.
const TOKEN: &str = "TASKER_TOKEN";

/// The client of the API that was named.
pub(super) fn client(global: &Global) -> Result<Client, Failure> {
    let trust = match (&global.ca_file, global.insecure) {
        (_, true) => {
            note("tasker: warning: --insecure believes whoever answers; name the certificate with --ca-file instead");
            Trust::Anybody
        }
        (Some(path), false) => Trust::Bundle(fs::read(path).map_err(|error| unreadable(path, &error))?),
        (None, false) => Trust::System,
    };
    let token = match &global.token_file {
        Some(path) => Some(token(&fs::read_to_string(path).map_err(|error| unreadable(path, &error))?, &path.display().to_string())?),
        None => std::env::var_os(TOKEN).map(|text| token(&text.to_string_lossy(), TOKEN)).transpose()?,
    };
    let client = Client::new(global.api_url())?.trusting(trust)?.with_token(token);
    if client.exposes_token() {
        note("tasker: warning: the token crosses the network in the clear; use an https:// address");
    }
    Ok(client)
}

/// A token out of a text with white space around it.
fn token(text: &str, source: &str) -> Result<Secret, Failure> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        // Without a word of the text: it may be a token with a slip.
        return Err(Failure::Usage(format!("{source} does not hold a token: expected one word")));
    }
    Ok(Secret::new(token))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("cannot read {}: {error}", path.display()))
}
