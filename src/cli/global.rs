//! What all commands share: where the API is, whom to trust, which configuration.

use std::path::PathBuf;

use clap::Args;

use crate::config::ConfigFile;
use crate::shell;

const GLOBAL: &str = "Global options";

/// What all commands share.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Address of the API to ask [default: TASKER_API_URL, or where the configuration says that the API
    /// listens]
    #[arg(long, global = true, value_name = "URL", help_heading = GLOBAL)]
    pub api: Option<String>,
    /// File that holds the token to show to the API [env: TASKER_TOKEN_FILE, or the token itself in
    /// TASKER_TOKEN]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub token_file: Option<PathBuf>,
    /// File with CA certificates to trust besides the system's [env: TASKER_CA_FILE]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub ca_file: Option<PathBuf>,
    /// Do not verify the API's TLS certificate (unsafe: exposes the token)
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub insecure: bool,
    /// Print JSON, errors too
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Read `config/MODE.config.yaml`, or `/etc/tasker/MODE.config.yaml` [default: development, where a file
    /// is needed]
    #[arg(short, long, global = true, value_name = "MODE", value_parser = mode, conflicts_with = "config", help_heading = GLOBAL)]
    pub mode: Option<String>,
    /// Read this configuration file
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub config: Option<PathBuf>,
}

impl Global {
    /// Takes what was not given as a flag from the environment. Not left to clap: it would show the flags in
    /// the usage line of every error, as if they had been given or were needed.
    pub(super) fn take_environment(&mut self) {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        self.token_file = self.token_file.take().or_else(|| variable("TASKER_TOKEN_FILE").map(Into::into));
        self.ca_file = self.ca_file.take().or_else(|| variable("TASKER_CA_FILE").map(Into::into));
    }

    /// The file that was named, if one was.
    pub fn named_file(&self) -> Option<ConfigFile> {
        let path = self.config.clone().map(ConfigFile::Path);
        path.or_else(|| self.mode.clone().map(ConfigFile::Mode))
    }

    /// The flag that names the same file again, if one was named.
    pub fn file_flag(&self) -> Option<String> {
        let path =
            self.config.as_ref().map(|path| format!("--config {}", shell::word(&path.display().to_string())));
        path.or_else(|| self.mode.as_ref().map(|mode| format!("-m {}", shell::word(mode))))
    }

    /// The file that was named, or the one for development: for commands that cannot do without.
    pub fn file(&self) -> ConfigFile {
        self.named_file().unwrap_or_else(|| ConfigFile::Mode("development".to_owned()))
    }
}

fn mode(text: &str) -> Result<String, String> {
    let formed =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if formed {
        Ok(text.to_owned())
    } else {
        Err("expected a word such as `development` or `production`".to_owned())
    }
}
