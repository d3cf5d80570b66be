//! `tasker key create | list | trust | distrust`: keys that sign messages to endpoints.
//!
//! All of it works on files of this machine: neither API nor database is asked. The trust file is that of the
//! endpoints of this server.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::Code;
use super::global::Global;
use super::output::{self, Failure, note};
use super::secret_file::SecretFile;
use super::table::{Narrow, Screen, Table};
use crate::domain::likeness;
use crate::domain::{EnvironmentName, KeyId};
use crate::signing::{NAME, PublicKey, SigningKey, Trust, TrustError, is_name};

/// Where the endpoints of a server look for whom they trust, as in the configuration's `endpoint.trust`.
const TRUST: &str = "/etc/tasker/trust.yaml";

/// `tasker key`.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// Create a key: NAME.key, which only its owner can read, and NAME.pub
    #[command(after_help = "\
Example:
  tasker key create server --dir /etc/tasker

The private key stays where it signs. The public one goes to the servers, for `key trust`.")]
    Create(Create),
    /// List the keys that are trusted on this server
    #[command(after_help = "Example:\n  tasker key list")]
    List(List),
    /// Trust the key of an API process on this server
    ///
    /// Makes the trust file if there is none. Endpoints read it when they start.
    #[command(after_help = "Example:\n  tasker key trust server.pub --environment production")]
    Trust(TrustKey),
    /// Trust a key no longer on this server
    ///
    /// Endpoints read the trust file when they start: restart them afterwards.
    #[command(after_help = "Example:\n  tasker key distrust server")]
    Distrust(Distrust),
}

/// `tasker key create`.
#[derive(Debug, Clone, Args)]
pub struct Create {
    /// Name of the two files
    #[arg(value_name = "NAME", value_parser = a_name)]
    pub name: String,
    /// Directory for them
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

/// `tasker key list`.
#[derive(Debug, Clone, Args)]
pub struct List {
    /// The trust file of the server
    #[arg(long, value_name = "FILE", default_value = TRUST)]
    pub trust: PathBuf,
}

/// `tasker key trust`.
#[derive(Debug, Clone, Args)]
pub struct TrustKey {
    /// File with the public key
    #[arg(value_name = "PUB")]
    pub public: PathBuf,
    /// What the key is called in the trust file [default: the name of its file]
    #[arg(long, value_name = "NAME", value_parser = a_name)]
    pub name: Option<String>,
    /// Name of the installation, as in security.environment of its API processes; needed for a new trust file
    #[arg(long, value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
    /// The trust file of the server
    #[arg(long, value_name = "FILE", default_value = TRUST)]
    pub trust: PathBuf,
}

/// `tasker key distrust`.
#[derive(Debug, Clone, Args)]
pub struct Distrust {
    /// Name of the key in the trust file
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The trust file of the server
    #[arg(long, value_name = "FILE", default_value = TRUST)]
    pub trust: PathBuf,
}

/// A name for files and for the trust file.
fn a_name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(format!("expected {NAME}")) }
}

pub(super) fn run(global: &Global, command: KeyCommand) -> Result<Code, Failure> {
    match command {
        KeyCommand::Create(args) => create(global, &args),
        KeyCommand::List(args) => list(global, &args),
        KeyCommand::Trust(args) => trust(&args),
        KeyCommand::Distrust(args) => distrust(&args),
    }
}

/// A key as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    /// What is signed with it.
    role: &'static str,
    key: KeyId,
    public: String,
}

fn create(global: &Global, args: &Create) -> Result<Code, Failure> {
    let path = |ending: &str| args.dir.join(format!("{}.{ending}", args.name));
    // Both files first: a key without its public half is of no use.
    let private = SecretFile::create(&path("key"))?;
    let public = SecretFile::create(&path("pub"))?.readable()?;
    let (key, pem) = SigningKey::create().map_err(setup)?;
    private.keep(pem.reveal().as_bytes())?;
    public.keep(key.public().pem().as_bytes())?;
    let shown = Shown {
        name: args.name.clone(),
        role: "none",
        key: key.public().id(),
        public: key.public().to_string(),
    };
    output::show(global.json, &shown, |_| {
        format!("created the key {} in {} and {}\n", shown.key, path("key").display(), path("pub").display())
    })?;
    Ok(Code::Ok)
}

fn list(global: &Global, args: &List) -> Result<Code, Failure> {
    let trust = Trust::read(&args.trust).map_err(setup)?;
    let server = |(name, key): (&String, &PublicKey)| Shown {
        name: name.clone(),
        role: "server",
        key: key.id(),
        public: key.to_string(),
    };
    let shown: Vec<Shown> = trust.servers.iter().map(server).collect();
    output::show(global.json, &shown, |screen| table(&shown, screen))?;
    Ok(Code::Ok)
}

fn table(keys: &[Shown], screen: Screen) -> String {
    use Narrow::{Drop, Keep};
    let mut table = Table::new([("NAME", Keep), ("ROLE", Keep), ("KEY", Keep), ("PUBLIC", Drop)]);
    for Shown { name, role, key, public } in keys {
        table.push([
            name.clone().into(),
            (*role).to_owned().into(),
            key.to_string().into(),
            public.clone().into(),
        ]);
    }
    table.text(screen)
}

fn trust(args: &TrustKey) -> Result<Code, Failure> {
    let shown = args.public.display();
    let text = fs::read_to_string(&args.public)
        .map_err(|error| Failure::Usage(format!("{shown} cannot be read: {error}")))?;
    let key = PublicKey::parse(&text).map_err(|error| Failure::Usage(format!("{shown}: {error}")))?;
    let stem = args.public.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = match &args.name {
        Some(name) => name.clone(),
        None => a_name(stem)
            .map_err(|error| Failure::Usage(format!("name the key with --name; `{stem}`: {error}")))?,
    };
    let mut trust = match (Trust::read(&args.trust), &args.environment) {
        (Ok(trust), None) => trust,
        (Ok(trust), Some(environment)) if trust.environment == *environment => trust,
        (Ok(trust), Some(environment)) => {
            return Err(Failure::Usage(format!(
                "{} is for the environment `{}`, not `{environment}`: a server belongs to one",
                args.trust.display(),
                trust.environment
            )));
        }
        (Err(TrustError::File { source, .. }), environment)
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            let Some(environment) = environment else {
                return Err(Failure::Usage(format!(
                    "{} does not exist yet: name the installation with --environment, as in its security.environment",
                    args.trust.display()
                )));
            };
            Trust::of(environment.clone())
        }
        (Err(error), _) => return Err(setup(error)),
    };
    if let Some((other, _)) = trust.servers.iter().find(|(other, held)| **held == key && **other != name) {
        return Err(Failure::Usage(format!("the key {} is trusted already, as `{other}`", key.id())));
    }
    if let Some(before) = trust.servers.insert(name.clone(), key).filter(|before| *before != key) {
        note(&format!("`{name}` was the key {} before", before.id()));
    }
    keep(&trust, &args.trust)?;
    note(&format!(
        "{} trusts the key {} of `{name}`; restart the endpoints of this server",
        args.trust.display(),
        key.id()
    ));
    Ok(Code::Ok)
}

fn distrust(args: &Distrust) -> Result<Code, Failure> {
    let mut trust = Trust::read(&args.trust).map_err(setup)?;
    let Some(key) = trust.servers.remove(&args.name) else {
        let known = trust.servers.keys().map(String::as_str);
        return Err(Failure::Usage(likeness::unknown("key", &args.name, "trusted", known).text));
    };
    keep(&trust, &args.trust)?;
    note(&format!(
        "{} no longer trusts the key {} of `{}`; restart the endpoints of this server",
        args.trust.display(),
        key.id(),
        args.name
    ));
    Ok(Code::Ok)
}

/// Writes a trust file in the place of the old one.
fn keep(trust: &Trust, path: &Path) -> Result<(), Failure> {
    SecretFile::replacing(path)?.readable()?.keep(trust.to_yaml().as_bytes()).map(drop)
}

fn setup(error: impl std::fmt::Display) -> Failure {
    Failure::Setup(error.to_string())
}
