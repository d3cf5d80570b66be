//! The client that the flags and the environment describe: where, with which token, and whose certificates it
//! trusts.

use std::fs;
use std::time::Duration;

use crate::client::{Client, Trust, USUAL_URL};
use crate::config::{self, Environment, Secret, Sources};
use crate::shell;

use super::args::Global;
use super::input;
use super::output::{self, Failure};

/// Names the API. Not the variable of a flag: a worker that was given the flag speaks with nothing but the
/// API, and a variable that stands in everybody's profile must not decide that.
const API_URL: &str = "TASKER_API_URL";

/// Holds a token itself. Not a flag: what stands on a command line is seen by everybody on the machine.
const TOKEN: &str = "TASKER_TOKEN";

/// How long a command goes on knocking at an API that asks it to come back later.
const PATIENCE: Duration = Duration::from_secs(15);

/// The client of the API that was named. Says what is not safe about it.
pub(super) fn client(global: &Global) -> Result<Client, Failure> {
    if global.insecure {
        output::warn(
            "--insecure sends the token to whoever answers; pass the certificate of the API's CA with --ca-file instead",
        );
    }
    let client = quiet_client(global)?;
    if client.exposes_token() {
        output::warn("the token crosses the network in the clear; use an https:// address");
    }
    Ok(client)
}

/// The client of the API that was named.
pub(super) fn quiet_client(global: &Global) -> Result<Client, Failure> {
    let trust = match (&global.ca_file, global.insecure) {
        (_, true) => Trust::Anybody,
        (Some(path), false) => {
            Trust::Bundle(fs::read(path).map_err(|error| input::unreadable(path, &error))?)
        }
        (None, false) => Trust::System,
    };
    let token = match &global.token_file {
        Some(path) => Some(token(
            &fs::read_to_string(path).map_err(|error| input::unreadable(path, &error))?,
            &path.display().to_string(),
        )?),
        // A variable that is set to nothing is how others unset it.
        None => std::env::var_os(TOKEN)
            .filter(|text| !text.is_empty())
            .map(|text| token(&text.to_string_lossy(), TOKEN))
            .transpose()?,
    };
    Ok(Client::new(&url(global)?)?.trusting(trust)?.with_token(token).patient(PATIENCE))
}

/// The flags that lead a second command to the same API. What the environment says it says again.
pub(super) fn flags(global: &Global) -> String {
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let given = [
        ("--api", API_URL, global.api.clone()),
        ("--token-file", "TASKER_TOKEN_FILE", path(&global.token_file)),
        ("--ca-file", "TASKER_CA_FILE", path(&global.ca_file)),
    ];
    let flags = given.into_iter().filter_map(|(flag, variable, value)| {
        let value = value.filter(|value| std::env::var(variable).ok().as_ref() != Some(value))?;
        Some(format!(" {flag} {}", shell::word(&value)))
    });
    let file = global.file_flag().map(|flag| format!(" {flag}"));
    flags.chain(global.insecure.then(|| " --insecure".to_owned())).chain(file).collect()
}

/// Where the API is: as the flag says, or the variable, or the configuration on which an API on this machine
/// would start.
fn url(global: &Global) -> Result<String, Failure> {
    let variable = || std::env::var_os(API_URL).filter(|url| !url.is_empty());
    if let Some(url) = global.api.clone().or_else(|| variable().map(|url| url.to_string_lossy().into_owned()))
    {
        return Ok(url);
    }
    let named = global.named_file();
    let file = Some(global.file()).filter(|file| named.is_some() || file.is_there()).unwrap_or_default();
    let loaded = config::load(&Sources { file, environment: Environment::of_process(), flags: Vec::new() });
    match (loaded, named) {
        (Ok(loaded), None) => Ok(loaded.config.api.url().unwrap_or_else(|| USUAL_URL.to_owned())),
        (Ok(loaded), Some(_)) => {
            let unknown = || {
                Failure::Usage(
                    "api.port is 0, which stands for any free port: name the API with --api URL".to_owned(),
                )
            };
            loaded.config.api.url().ok_or_else(unknown)
        }
        (Err(error), Some(_)) => Err(error.into()),
        // Nobody has asked for this configuration, and the command needs hardly anything of it.
        (Err(error), None) => {
            output::warn(format!("taking {USUAL_URL} for the API, since {error}"));
            Ok(USUAL_URL.to_owned())
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_a_second_command_are_words_of_a_shell() {
        let global = Global {
            api: Some("https://api.example:8888".to_owned()),
            token_file: Some("my tokens/it's".into()),
            config: Some("/etc/my tasker.yaml".into()),
            insecure: true,
            ..Global::default()
        };
        let quoted = r" --api https://api.example:8888 --token-file 'my tokens/it'\''s' --insecure --config '/etc/my tasker.yaml'";
        assert_eq!(flags(&global), quoted);
    }
}
