//! `tasker key create | list | trust | certify | revoke | sign | distrust`: keys that sign messages to
//! endpoints.
//!
//! All of it works on files of this machine: neither API nor database is asked. The trust file is that of the
//! endpoints of this server.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, PossibleValue};
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use uuid::Uuid;

use super::choice::{Choice, choice};
use super::exit::Code;
use super::global::Global;
use super::input;
use super::output::{self, Failure, note, setup};
use super::secret_file::SecretFile;
use super::settings;
use super::table::{Narrow, Screen, Table};
use super::when::validity;
use crate::clock::Clock;
use crate::config::ConfigFile;
use crate::domain::{
    Certificate, EndpointName, EnvironmentName, Json, KeyId, Order, Ordered, Presence, Purpose, Recipients,
    Revocations, SIGNATURE, TaskType, Timestamp, json, likeness,
};
use crate::signing::{self, KeyError, NAME, PublicKey, ROOT, SigningKey, Trust, TrustError, is_name};

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
    /// Trust a key on this server: of an API process, of a person, or the root key
    ///
    /// The root key certifies keys of API processes. The key of a person signs tasks of the types that --type
    /// names; such tasks run only when as many persons have signed as --threshold says.
    ///
    /// Creates the trust file if it does not exist. Endpoints read the file when they start.
    #[command(
        after_help = "Examples:\n  tasker key trust server.pub --environment production\n  tasker key trust root.pub --root --environment production\n  tasker key trust alice.pub --type update --threshold 1"
    )]
    Trust(TrustKey),
    /// Certify a key with the root key, which is kept offline
    ///
    /// Servers that trust the root key trust the certified key until the certificate ends: of an API process for
    /// messages to endpoints, with `--for http` of a caller for HTTP tasks.
    #[command(
        after_help = "Examples:\n  tasker key certify api.pub --root-key root.key --environment prod --days 30\n  tasker key certify power.pub --for http --root-key root.key --environment prod"
    )]
    Certify(Certify),
    /// Revoke keys on all servers that trust the root key
    ///
    /// Adds the keys to a list, which the root key signs. API processes send the list to endpoints. Endpoints
    /// keep the newest list, and refuse what a key of it has signed. HTTP workers read the list from a file.
    #[command(
        after_help = "Example:\n  tasker key revoke api.pub --root-key root.key --environment prod --list r.json"
    )]
    Revoke(Revoke),
    /// Sign a payload, so that tasks with it run where the signatures of persons are needed
    ///
    /// Prints the payload with the signed order. Another person adds a signature with --order.
    #[command(
        after_help = "Examples:\n  tasker key sign update --payload 1 --key alice.key --environment prod > o.json\n  tasker key sign --order order.json --key bob.key > signed.json\n\nSubmit it with `submit --payload-file`. `submit --key` signs and submits at once."
    )]
    Sign(Sign),
    /// Stop trusting a key on this server
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
    /// The trust file of the server [default: endpoint.trust of the configuration]
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
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
    /// It is the root key
    #[arg(long, conflicts_with_all = ["name", "task_types"])]
    pub root: bool,
    /// It is the key of a person, who signs tasks of this type (repeatable)
    #[arg(short, long = "type", value_name = "TYPE")]
    pub task_types: Vec<TaskType>,
    /// How many persons must sign a task of these types [default: as before, else 1]
    #[arg(long, value_name = "N", requires = "task_types")]
    pub threshold: Option<usize>,
    /// Name of the installation, as in security.environment of its API processes; needed for a new trust file
    #[arg(long, value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
    /// The trust file of the server [default: endpoint.trust of the configuration]
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
}

/// `tasker key sign`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("what").args(["task_type", "order"]).required(true))]
pub struct Sign {
    /// Task type
    #[arg(value_name = "TYPE", requires = "environment")]
    pub task_type: Option<TaskType>,
    /// File with a signed payload, to which a signature is added; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["payload", "payload_file", "endpoints", "environment", "valid"])]
    pub order: Option<PathBuf>,
    /// Payload as JSON
    #[arg(long, value_name = "JSON")]
    pub payload: Option<String>,
    /// File that holds the payload as JSON; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    pub payload_file: Option<PathBuf>,
    /// Endpoints that may perform it, separated by commas or one at a time, at most 64 [default: all]
    #[arg(short, long, visible_alias = "endpoint", value_name = "NAMES", value_delimiter = ',')]
    pub endpoints: Vec<EndpointName>,
    /// File with the private key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Name of the installation, as in the trust files of its servers
    #[arg(long, value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
    /// How long tasks with it may be begun
    #[arg(long, value_name = "DURATION", value_parser = validity, default_value = "24h")]
    pub valid: Duration,
}

/// With which key `tasker submit` signs.
#[derive(Debug, Clone, Args)]
pub struct Hand {
    /// Sign the task with this private key, for a type that a person must sign (see `tasker key sign`): for
    /// the endpoints of --endpoints, or for all
    #[arg(long, value_name = "FILE", requires = "environment", conflicts_with_all = ["batch", "selectors", "groups", "exclude", "percent", "limit"])]
    pub key: Option<PathBuf>,
    /// With --key: name of the installation, as in the trust files of its servers
    #[arg(long, value_name = "NAME", requires = "key")]
    pub environment: Option<EnvironmentName>,
}

/// How long a task may be begun that `tasker submit` has signed, unless it says how long it lives.
const VALID: Duration = Duration::from_secs(24 * 3600);

impl Hand {
    /// The order of a submission that is to be signed. Without a signature it counts nowhere: what is only
    /// looked at is not signed.
    pub(super) fn order(
        &self,
        task_type: &TaskType,
        payload: Option<&Json>,
        endpoints: &[EndpointName],
        ttl: Option<Duration>,
        run_at: Option<Timestamp>,
    ) -> Result<Option<Ordered>, Failure> {
        let Some(environment) = self.environment.clone() else { return Ok(None) };
        let waits = run_at.map(|at| at.since(Clock::system().now())).unwrap_or_default();
        let order = order(environment, task_type.clone(), endpoints, waits + ttl.unwrap_or(VALID))?;
        Ok(Some(Ordered { order, payload: payload.cloned().unwrap_or_else(|| json(&"")) }))
    }

    /// The payload with that order, signed.
    pub(super) fn sign(&self, ordered: Ordered) -> Result<Json, Failure> {
        match &self.key {
            Some(key) => signed(key, ordered),
            None => Ok(json(&ordered)),
        }
    }
}

/// `tasker key certify`.
#[derive(Debug, Clone, Args)]
pub struct Certify {
    /// File with the public key
    #[arg(value_name = "PUB")]
    pub public: PathBuf,
    /// File with the private root key
    #[arg(long, value_name = "FILE")]
    pub root_key: PathBuf,
    /// Name of the installation, as in security.environment of its API processes
    #[arg(long, value_name = "NAME")]
    pub environment: EnvironmentName,
    /// What the key may sign
    #[arg(long = "for", value_name = "PURPOSE", default_value = "tasks", value_parser = choice::<Purpose>())]
    pub purpose: Purpose,
    /// For how many days from now on
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3660))]
    pub days: u32,
    /// With --for tasks: task type that may be signed with the key (repeatable) [default: all types]
    #[arg(short, long = "type", value_name = "TYPE")]
    pub task_types: Vec<TaskType>,
    /// File for the certificate, in the place of an older one [default: that of the key, ending in .cert]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

impl Choice for Purpose {
    const ALL: &[Self] = &Self::ALL;

    fn value(self) -> PossibleValue {
        let help = match self {
            Self::Tasks => "Messages of an API process to endpoints and workers",
            Self::Http => "HTTP tasks of a caller, for HTTP workers",
        };
        PossibleValue::new(self.as_str()).help(help)
    }
}

/// `tasker key revoke`.
#[derive(Debug, Clone, Args)]
pub struct Revoke {
    /// Files with public keys, or the ids of keys as `tasker key list` shows them
    #[arg(value_name = "KEY", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub keys: Vec<String>,
    /// File with the private root key
    #[arg(long, value_name = "FILE")]
    pub root_key: PathBuf,
    /// Name of the installation, as in the trust files of its servers
    #[arg(long, value_name = "NAME")]
    pub environment: EnvironmentName,
    /// The list: it is created, or the keys are added to it
    #[arg(long, value_name = "FILE")]
    pub list: PathBuf,
    /// Number of the list, if an earlier list was lost: a higher one [default: one more than before]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub serial: Option<u64>,
}

/// `tasker key distrust`.
#[derive(Debug, Clone, Args)]
pub struct Distrust {
    /// Name of the key in the trust file; `root` for the root key
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// The trust file of the server [default: endpoint.trust of the configuration]
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
}

/// A name for files and for the trust file.
fn a_name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(format!("expected {NAME}")) }
}

pub(super) fn run(global: &Global, command: KeyCommand) -> Result<Code, Failure> {
    match command {
        KeyCommand::Create(args) => create(global, &args),
        KeyCommand::List(args) => list(global, &args),
        KeyCommand::Trust(args) => trust(global, &args),
        KeyCommand::Sign(args) => sign(args),
        KeyCommand::Certify(args) => certify(&args),
        KeyCommand::Revoke(args) => revoke(&args),
        KeyCommand::Distrust(args) => distrust(global, &args),
    }
}

/// The trust file of this server: the one that is named, or that of the endpoints of the configuration.
fn trust_file(global: &Global, named: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(file) = named {
        return Ok(file.clone());
    }
    let file = global.named_file().unwrap_or(ConfigFile::Embedded);
    Ok(settings::read(file, &["endpoint.trust"])?.endpoint.trust)
}

/// A key as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    /// Whose it is.
    role: &'static str,
    /// The types whose tasks a person signs.
    #[serde(skip_serializing_if = "String::is_empty")]
    signs: String,
    key: KeyId,
    public: String,
}

fn create(global: &Global, args: &Create) -> Result<Code, Failure> {
    let path = |ending: &str| args.dir.join(format!("{}.{ending}", args.name));
    // Both files first: a key without its public half is of no use.
    let private = SecretFile::create(&path("key"), "--dir DIR")?;
    let public = SecretFile::create(&path("pub"), "--dir DIR")?.readable()?;
    let (key, pem) = SigningKey::create().map_err(setup)?;
    private.keep(pem.reveal().as_bytes())?;
    public.keep(key.public().pem().as_bytes())?;
    let shown = Shown {
        name: args.name.clone(),
        role: "none",
        signs: String::new(),
        key: key.public().id(),
        public: key.public().to_string(),
    };
    output::show(global.json, &shown, |_| {
        format!("created the key {} in {} and {}\n", shown.key, path("key").display(), path("pub").display())
    })?;
    Ok(Code::Ok)
}

fn list(global: &Global, args: &List) -> Result<Code, Failure> {
    let trust = Trust::read(&trust_file(global, args.trust.as_ref())?).map_err(setup)?;
    let shown = |name: &str, role: &'static str, key: &PublicKey| Shown {
        name: name.to_owned(),
        role,
        signs: String::new(),
        key: key.id(),
        public: key.to_string(),
    };
    let root = trust.root.iter().map(|key| shown(ROOT, "root", key));
    let servers = trust.servers.iter().map(|(name, key)| shown(name, "server", key));
    let persons = trust.keys.iter().map(|(name, key)| {
        let signs = trust.types.iter().filter(|(_, rule)| rule.signers.contains(name));
        let signs: Vec<&str> = signs.map(|(task_type, _)| task_type.as_str()).collect();
        Shown { signs: signs.join(","), ..shown(name, "person", key) }
    });
    let shown: Vec<Shown> = root.chain(servers).chain(persons).collect();
    output::show(global.json, &shown, |screen| table(&shown, screen))?;
    Ok(Code::Ok)
}

fn table(keys: &[Shown], screen: Screen) -> String {
    use Narrow::{Drop, Keep};
    let mut table =
        Table::new([("NAME", Keep), ("ROLE", Keep), ("SIGNS", Keep), ("KEY", Keep), ("PUBLIC", Drop)]);
    for Shown { name, role, signs, key, public } in keys {
        let (signs, key) = (if signs.is_empty() { "-" } else { signs.as_str() }, key.to_string());
        let words = [name.as_str(), role, signs, key.as_str(), public.as_str()];
        table.push(words.map(|word| word.to_owned().into()));
    }
    table.text(screen)
}

/// The public key in a file.
fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    let wrong = |error: String| Failure::Usage(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    PublicKey::parse(&text).map_err(|error| wrong(error.to_string()))
}

/// Warns of types that the named configuration does not have. Without one there is nothing to compare with.
fn warn_of_unknown(global: &Global, task_types: &[TaskType]) {
    let Some(Ok(config)) = global.named_file().map(|file| settings::read(file, &[])) else { return };
    for name in task_types.iter().filter(|name| config.policy(name).is_none()) {
        let known = config.task_types.iter().map(|policy| policy.name.as_str());
        let text = likeness::unknown("task type", name.as_str(), "configured", known).text;
        output::warn(format!("--type: {text}"));
    }
}

fn trust(global: &Global, args: &TrustKey) -> Result<Code, Failure> {
    let file = trust_file(global, args.trust.as_ref())?;
    let key = public_key(&args.public)?;
    let stem = args.public.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = match &args.name {
        Some(name) => name.clone(),
        None if args.root => ROOT.to_owned(),
        None => a_name(stem)
            .map_err(|error| Failure::Usage(format!("name the key with --name; `{stem}`: {error}")))?,
    };
    let mut trust = match (Trust::read(&file), &args.environment) {
        (Ok(trust), None) => trust,
        (Ok(trust), Some(environment)) if trust.environment == *environment => trust,
        (Ok(trust), Some(environment)) => {
            return Err(Failure::Usage(format!(
                "{} is for the environment `{}`, not `{environment}`: a server belongs to one",
                file.display(),
                trust.environment
            )));
        }
        (Err(TrustError::File { source, .. }), environment)
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            let Some(environment) = environment else {
                return Err(Failure::Usage(format!(
                    "{} does not exist yet: name the installation with --environment, as in its security.environment",
                    file.display()
                )));
            };
            Trust::of(environment.clone())
        }
        (Err(error), _) => return Err(setup(error)),
    };
    let before = match (args.root, args.task_types.is_empty()) {
        (true, _) => trust.root.replace(key),
        (false, true) => trust.servers.insert(name.clone(), key),
        (false, false) => trust.keys.insert(name.clone(), key),
    };
    warn_of_unknown(global, &args.task_types);
    for task_type in &args.task_types {
        let rule = trust.types.entry(task_type.clone()).or_default();
        if !rule.signers.contains(&name) {
            rule.signers.push(name.clone());
        }
        rule.threshold = args.threshold.or(rule.threshold);
    }
    if let Some(before) = before.filter(|before| *before != key) {
        note(&format!("`{name}` was the key {} before", before.id()));
    }
    keep(&trust, &file)?;
    note(&format!(
        "{} trusts the key {} of `{name}`; restart the endpoints of this server",
        file.display(),
        key.id()
    ));
    Ok(Code::Ok)
}

/// An order that nobody has signed.
fn order(
    environment: EnvironmentName,
    task_type: TaskType,
    endpoints: &[EndpointName],
    valid: Duration,
) -> Result<Order, Failure> {
    if endpoints.len() > Recipients::MOST {
        return Err(Failure::Usage(format!(
            "{} endpoints are named, and a signed task is for at most {} or for all: sign several",
            endpoints.len(),
            Recipients::MOST
        )));
    }
    let id = Uuid::new_v4();
    let to = if endpoints.is_empty() { Recipients::All } else { Recipients::of(id, endpoints) };
    let not_after = Timestamp::from_millis(Clock::system().now().after(valid).as_millis());
    Ok(Order { id, environment, task_type, not_after, to, signatures: Vec::new() })
}

/// The payload with one more signature.
fn signed(key: &Path, mut ordered: Ordered) -> Result<Json, Failure> {
    let key = SigningKey::read(key).map_err(setup)?;
    let signature = signing::sign_order(&key, &ordered.order, &ordered.payload);
    ordered.order.signatures.retain(|before| before.by != signature.by);
    ordered.order.signatures.push(signature);
    Ok(json(&ordered))
}

fn sign(args: Sign) -> Result<Code, Failure> {
    let ordered = match (args.order, args.task_type, args.environment) {
        (Some(file), ..) => {
            let payload = input::json("--order", None, Some(&file))?.unwrap_or_else(|| json(&""));
            Ordered::read(&payload).map_err(|error| {
                Failure::Usage(format!("{} is not a signed payload: {error}", input::name(&file)))
            })?
        }
        (None, Some(task_type), Some(environment)) => {
            let payload = input::json("--payload", args.payload.as_deref(), args.payload_file.as_deref())?;
            let order = order(environment, task_type, &args.endpoints, args.valid)?;
            Ordered { order, payload: payload.unwrap_or_else(|| json(&"")) }
        }
        _ => return Err(Failure::Usage("name the task type and --environment, or --order".to_owned())),
    };
    output::print(&format!("{}\n", signed(&args.key, ordered)?.get()))?;
    Ok(Code::Ok)
}

fn certify(args: &Certify) -> Result<Code, Failure> {
    let public = public_key(&args.public)?;
    let root = SigningKey::read(&args.root_key).map_err(setup)?;
    if public == *root.public() {
        return Err(Failure::Usage(format!(
            "{} is the root key itself: it certifies other keys, and signs no messages",
            args.public.display()
        )));
    }
    let purpose = args.purpose;
    if purpose == Purpose::Http && !args.task_types.is_empty() {
        return Err(Failure::Usage(
            "--type is for keys that sign tasks: leave it out with --for http".to_owned(),
        ));
    }
    let now = Clock::system().now();
    let not_after = now.after(Duration::from_secs(u64::from(args.days) * 24 * 3600));
    let blank = Certificate {
        public: *public.as_bytes(),
        purpose,
        types: args.task_types.clone(),
        // It counts at once also where the clock is behind this one.
        not_before: now.before(Presence::CLOCK_TOLERANCE),
        not_after,
        signature: [0; SIGNATURE],
    };
    let certificate = signing::certify(&root, &args.environment, blank);
    let path = args.out.clone().unwrap_or_else(|| args.public.with_extension("cert"));
    let text = serde_json::to_vec_pretty(&certificate).map_err(setup)?;
    SecretFile::replacing(&path, "--out FILE")?.readable()?.keep(&text)?;
    let next = match purpose {
        Purpose::Tasks => "name that file as security.certificate, and restart the API",
        Purpose::Http => "give that file to the caller",
    };
    note(&format!("the key {} is certified until {not_after} in {}: {next}", public.id(), path.display()));
    Ok(Code::Ok)
}

fn revoke(args: &Revoke) -> Result<Code, Failure> {
    let root = SigningKey::read(&args.root_key).map_err(setup)?;
    let list = args.list.display();
    let before = match signing::read_revocations(&args.list) {
        Ok(before) if signing::is_of_root(root.public(), &args.environment, &before) => Some(before),
        Ok(_) => {
            return Err(Failure::Usage(format!(
                "{list} is not a list of the key {} for `{}`: name another file, or the right root key and environment",
                root.public().id(),
                args.environment
            )));
        }
        Err(KeyError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(setup(error)),
    };
    let last = before.as_ref().map_or(0, |before| before.serial);
    let serial = args.serial.unwrap_or(last.saturating_add(1));
    if serial <= last {
        return Err(Failure::Usage(format!(
            "--serial is {serial}; expected more than {last}, the number of {list}: endpoints take no older list"
        )));
    }
    let mut keys = before.map(|before| before.keys).unwrap_or_default();
    for text in &args.keys {
        keys.insert(match text.parse() {
            Ok(id) => id,
            Err(_) => public_key(Path::new(text))?.id(),
        });
    }
    if keys.contains(&root.public().id()) {
        return Err(Failure::Usage(
            "the root key cannot revoke itself: `tasker key trust` another one on the servers".to_owned(),
        ));
    }
    if keys.len() > Revocations::MOST {
        return Err(Failure::Usage(format!(
            "{list} would have {} keys; expected at most {}: begin a new list, without the keys whose certificates have ended, and with a higher --serial",
            keys.len(),
            Revocations::MOST
        )));
    }
    let blank = Revocations { serial, keys, signature: [0; SIGNATURE] };
    let revocations = signing::revoke(&root, &args.environment, blank);
    let text = serde_json::to_vec_pretty(&revocations).map_err(setup)?;
    SecretFile::replacing(&args.list, "--list FILE")?.readable()?.keep(&text)?;
    note(&format!(
        "list {serial} in {list} revokes {} keys: name that file as security.revocations, and restart the API; for keys of callers, as http_worker.revocations of HTTP workers",
        revocations.keys.len()
    ));
    Ok(Code::Ok)
}

fn distrust(global: &Global, args: &Distrust) -> Result<Code, Failure> {
    let file = trust_file(global, args.trust.as_ref())?;
    let mut trust = Trust::read(&file).map_err(setup)?;
    let held = if args.name == ROOT { trust.root.take() } else { None };
    let held = held.or_else(|| trust.servers.remove(&args.name)).or_else(|| trust.keys.remove(&args.name));
    let Some(key) = held else {
        let names = trust.servers.keys().chain(trust.keys.keys()).map(String::as_str);
        let known = names.chain(trust.root.map(|_| ROOT));
        return Err(Failure::Usage(likeness::unknown("key", &args.name, "trusted", known).text));
    };
    for (task_type, rule) in trust.types.iter_mut().filter(|(_, rule)| rule.signers.contains(&args.name)) {
        rule.signers.retain(|name| *name != args.name);
        if rule.signers.is_empty() {
            return Err(Failure::Usage(format!(
                "nobody else signs tasks of `{task_type}`, and the signature of a server would be enough for them: trust another person first, or remove the type from {}",
                file.display()
            )));
        }
    }
    keep(&trust, &file)?;
    note(&format!(
        "{} no longer trusts the key {} of `{}`; restart the endpoints of this server",
        file.display(),
        key.id(),
        args.name
    ));
    Ok(Code::Ok)
}

/// Writes a trust file in the place of the old one, if endpoints can use it.
fn keep(trust: &Trust, path: &Path) -> Result<(), Failure> {
    let wrong = |reason| Failure::Usage(format!("{} would not be valid: {reason}", path.display()));
    Trust::parse(&trust.to_yaml()).map_err(wrong)?;
    SecretFile::replacing(path, "--trust FILE")?.readable()?.keep(trust.to_yaml().as_bytes()).map(drop)
}
