//! What the manager is told by `flamenco-manager.yaml`, in today's spelling and in the one of the first
//! version: there spans of time are whole seconds under names that end in `_seconds`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::span;
use crate::config::{Secret, TlsFiles};
use crate::farm::{Audience, Direction, FailureLimits, ObjectId, Variable, VariableValue, Variables};

/// The file, in the working directory.
pub const FILE: &str = "flamenco-manager.yaml";

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; copy config/examples/flamenco/flamenco-manager.yaml and edit it, or name another file with --config", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not YAML, or a value is of another kind.
    #[error("{path}: {reason}", path = path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Why, without any part of the text.
        reason: String,
    },
    /// A value cannot be used.
    #[error("{path}: {key}: {reason}", path = path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which setting.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// How tasks come from the Server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// All at once, and then what is new.
    Depsgraph,
    /// Some at a time, as Servers before 2017 want it.
    Chunks,
}

/// When things are done that nobody configures. Tests are less patient.
#[derive(Debug, Clone)]
pub struct Times {
    /// After the start nothing times out for so long: workers could not call while the manager was away.
    pub grace: Duration,
    /// How often timeouts and silent workers are looked for.
    pub timeouts: Duration,
    /// How often workers are looked for that are to be removed.
    pub removals: Duration,
    /// When old tasks are first deleted, and how often.
    pub cleanup: (Duration, Duration),
    /// When sleep schedules are first looked at, and how often.
    pub sleep: (Duration, Duration),
    /// How often it is looked whether updates are to be pushed.
    pub push: Duration,
    /// The wait between tries to tell the Server of the start, and of changed task types.
    pub notify: (Duration, Duration),
    /// How long the Server may take to say whether a task has changed, for one question and for all of one
    /// request.
    pub check: (Duration, Duration),
    /// How long any other call of the Server may take.
    pub upstream: Duration,
    /// In which time each request of a worker is answered.
    pub answer: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            grace: seconds(300),
            timeouts: seconds(60),
            removals: seconds(30),
            cleanup: (seconds(360), seconds(600)),
            sleep: (seconds(10), seconds(60)),
            push: seconds(1),
            notify: (seconds(30), seconds(10)),
            check: (Duration::from_millis(1200), Duration::from_millis(1800)),
            upstream: seconds(30),
            answer: Duration::from_millis(2700),
        }
    }
}

/// What the manager is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What people call it.
    pub name: String,
    /// `production` or `develop`: only shown.
    pub mode: String,
    /// Where it listens.
    pub listen: String,
    /// Certificate and key, when it speaks HTTPS.
    pub tls: Option<TlsFiles>,
    /// The address that the Server tells workers.
    pub own_url: String,
    /// The Server.
    pub server: Url,
    /// What the Server calls this manager.
    pub manager_id: ObjectId,
    /// What the manager shows to the Server.
    pub manager_secret: Secret,
    /// The address of the database.
    pub database: Secret,
    /// Where the logs of tasks are kept.
    pub task_logs: PathBuf,
    /// How tasks are fetched.
    pub fetch: Fetch,
    /// How often.
    pub download_sleep: Duration,
    /// How long after a download for an idle worker the next one may follow; never when absent.
    pub recheck_throttle: Option<Duration>,
    /// How long updates wait at most.
    pub push_interval: Duration,
    /// So many updates do not wait, and go together at most.
    pub push_count: u32,
    /// How often the Server is asked for tasks to cancel when there is no update for it.
    pub cancel_interval: Duration,
    /// Whether pushes are compressed, as long as the Server takes it.
    pub compress_pushes: bool,
    /// A running task that no worker has shown for so long has failed.
    pub task_timeout: Duration,
    /// A worker that was silent for so long has timed out.
    pub worker_timeout: Duration,
    /// Tasks that nobody touched for so long are deleted.
    pub cleanup_age: Duration,
    /// Workers of these statuses that were silent for so long are deleted, if this is said.
    pub worker_cleanup: Option<(Duration, Vec<String>)>,
    /// How much may fail.
    pub failures: FailureLimits,
    /// What workers show to register, if that is not open to everybody.
    pub registration_secret: Option<Secret>,
    /// Whether people on other machines may look and act without being asked who they are.
    pub open_to_people: bool,
    /// Variables in the settings of commands.
    pub variables: Variables,
    /// When things are done that nobody configures.
    pub times: Times,
    /// What is odd about the file, to be logged.
    pub warnings: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Meta {
    version: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Begin {
    _meta: Meta,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct UserAuthentication {
    #[serde(rename = "disableSecurity")]
    disable_security: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawVariable {
    direction: String,
    values: Vec<RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawValue {
    audience: String,
    platform: String,
    platforms: Vec<String>,
    value: String,
}

/// The file as it is written. `V` is a variable in the layout of the file's version.
#[derive(Deserialize, Default)]
#[serde(default, bound = "V: Deserialize<'de> + Default")]
struct File<V> {
    mode: Option<String>,
    manager_name: Option<String>,
    listen: Option<String>,
    listen_https: Option<String>,
    own_url: Option<String>,
    flamenco: Option<String>,
    manager_id: Option<String>,
    manager_secret: Option<String>,
    tlskey: Option<String>,
    tlscert: Option<String>,
    acme_domain_name: Option<String>,
    database_url: Option<String>,
    database_path: Option<String>,
    task_logs_path: Option<String>,
    task_fetch: Option<String>,
    compress_pushes: bool,
    download_task_sleep: Option<String>,
    download_task_sleep_seconds: Option<i64>,
    download_task_recheck_throttle: Option<String>,
    download_task_recheck_throttle_seconds: Option<i64>,
    task_update_push_max_interval: Option<String>,
    task_update_push_max_interval_seconds: Option<i64>,
    task_update_push_max_count: Option<i64>,
    cancel_task_fetch_max_interval: Option<String>,
    cancel_task_fetch_max_interval_seconds: Option<i64>,
    active_task_timeout_interval: Option<String>,
    active_task_timeout_interval_seconds: Option<i64>,
    active_worker_timeout_interval: Option<String>,
    active_worker_timeout_interval_seconds: Option<i64>,
    task_cleanup_max_age: Option<String>,
    worker_cleanup_max_age: Option<String>,
    worker_cleanup_status: Option<Vec<String>>,
    blacklist_threshold: Option<i64>,
    task_fail_after_softfail_count: Option<i64>,
    worker_registration_secret: Option<String>,
    user_authentication: UserAuthentication,
    variables: BTreeMap<String, V>,
    path_replacement: BTreeMap<String, BTreeMap<String, String>>,
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = fs::read_to_string(path)
            .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Reads a text as if it were a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, SettingsError> {
        let begin: Begin = yaml(path, text)?;
        let mut warnings = Vec::new();
        if begin._meta.version >= 2 {
            let mut file: File<RawVariable> = yaml(path, text)?;
            let variables = current_variables(std::mem::take(&mut file.variables), &mut warnings);
            return Reader { path, file }.settings(variables, warnings);
        }
        let mut file: File<BTreeMap<String, String>> = yaml(path, text)?;
        let (plain, paths) =
            (std::mem::take(&mut file.variables), std::mem::take(&mut file.path_replacement));
        let reader = Reader { path, file };
        if let Some(both) = plain.keys().find(|name| paths.contains_key(*name)) {
            return Err(
                reader.wrong("variables", format!("{both:?} is in path_replacement too; keep one of them"))
            );
        }
        let mut variables = first_variables(plain, Direction::Oneway);
        variables.extend(first_variables(paths, Direction::Twoway));
        reader.settings(Variables(variables), warnings)
    }
}

fn yaml<T: for<'de> Deserialize<'de>>(path: &Path, text: &str) -> Result<T, SettingsError> {
    let options = serde_saphyr::options! {
        // A snippet would show the lines around an error, and secrets stand in lines.
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: 32, max_nodes: 20_000, max_aliases: 100 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map(|at| format!(" in line {} or just above", at.line())).unwrap_or_default();
        let reason =
            format!("a value is of another kind than expected, or the YAML is not valid{line}: look at quotes, indentation and colons");
        SettingsError::Syntax { path: path.to_owned(), reason }
    })
}

/// Variables as the second version of the file has them. What cannot be used is told of and left out.
fn current_variables(raw: BTreeMap<String, RawVariable>, warnings: &mut Vec<String>) -> Variables {
    let mut variables = Variables::default();
    for (name, raw) in raw {
        let direction = match &*raw.direction {
            "oneway" => Direction::Oneway,
            "twoway" => Direction::Twoway,
            other => {
                warnings.push(format!("variables.{name}: unknown direction {other:?} (expected: oneway, twoway); it is treated as oneway"));
                Direction::Oneway
            }
        };
        let mut values = Vec::new();
        for value in raw.values {
            let audience = match &*value.audience {
                "" | "all" => Audience::All,
                "workers" => Audience::Workers,
                "users" => Audience::Users,
                other => {
                    warnings.push(format!(
                        "variables.{name}: unknown audience {other:?} (expected: all, workers, users); the value is ignored"
                    ));
                    continue;
                }
            };
            let platforms: Vec<String> = Some(value.platform)
                .into_iter()
                .chain(value.platforms)
                .filter(|name| !name.is_empty())
                .collect();
            if platforms.is_empty() {
                warnings.push(format!("variables.{name}: a value without a platform is ignored"));
            }
            let text = tidied(&value.value, direction);
            if direction == Direction::Twoway && text.contains('\\') {
                warnings.push(format!(
                    "variables.{name}: {text:?} has a backslash; paths are compared with forward slashes"
                ));
            }
            values.extend(platforms.into_iter().map(|platform| VariableValue {
                audience,
                platform,
                value: text.clone(),
            }));
        }
        variables.0.insert(name, Variable { direction, values });
    }
    variables
}

/// Variables as the first version of the file has them.
fn first_variables(
    raw: BTreeMap<String, BTreeMap<String, String>>,
    direction: Direction,
) -> BTreeMap<String, Variable> {
    let value = |(platform, value): (String, String)| VariableValue {
        audience: Audience::All,
        platform,
        value: tidied(&value, direction),
    };
    raw.into_iter()
        .map(|(name, values)| (name, Variable { direction, values: values.into_iter().map(value).collect() }))
        .collect()
}

fn tidied(value: &str, direction: Direction) -> String {
    match direction {
        Direction::Oneway => value.to_owned(),
        Direction::Twoway => value.trim_end_matches('/').to_owned(),
    }
}

struct Reader<'a, V> {
    path: &'a Path,
    file: File<V>,
}

impl<V> Reader<'_, V> {
    fn wrong(&self, key: &'static str, reason: impl Into<String>) -> SettingsError {
        SettingsError::Value { path: self.path.to_owned(), key, reason: reason.into() }
    }

    /// A span in one of its two spellings; `None` for a negative one.
    fn signed(
        &self,
        key: &'static str,
        text: Option<&String>,
        seconds: Option<i64>,
        default: u64,
    ) -> Result<Option<Duration>, SettingsError> {
        match (text, seconds) {
            (Some(_), Some(_)) => {
                Err(self.wrong(key, format!("it is given twice, also as {key}_seconds; keep one of them")))
            }
            (Some(text), None) => span::parse(text).map_err(|reason| self.wrong(key, reason)),
            (None, Some(seconds)) => Ok(u64::try_from(seconds).ok().map(Duration::from_secs)),
            (None, None) => Ok(Some(Duration::from_secs(default))),
        }
    }

    fn span(
        &self,
        key: &'static str,
        text: Option<&String>,
        seconds: Option<i64>,
        default: u64,
    ) -> Result<Duration, SettingsError> {
        let negative = || self.wrong(key, "expected a span of time that is not negative");
        self.signed(key, text, seconds, default)?.ok_or_else(negative)
    }

    fn count(&self, key: &'static str, value: Option<i64>, default: u32) -> Result<u32, SettingsError> {
        let Some(value) = value else { return Ok(default) };
        let wrong = || self.wrong(key, format!("expected a number from 1 to 1000000, got {value}"));
        u32::try_from(value).ok().filter(|count| (1..=1_000_000).contains(count)).ok_or_else(wrong)
    }

    fn settings(self, variables: Variables, mut warnings: Vec<String>) -> Result<Settings, SettingsError> {
        let file = &self.file;
        let given = |text: &Option<String>| {
            text.as_ref().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let required = |key, text: &Option<String>| {
            given(text).ok_or_else(|| {
                self.wrong(key, "it is needed: create a manager on the Server and copy what it shows")
            })
        };
        let mode = given(&file.mode).unwrap_or_else(|| "production".to_owned());
        if !["production", "develop"].contains(&&*mode) {
            return Err(self.wrong("mode", format!("unknown mode {mode:?} (expected: production, develop)")));
        }
        let manager_id = required("manager_id", &file.manager_id)?;
        let manager_id = manager_id
            .parse()
            .map_err(|error| self.wrong("manager_id", format!("{error}, got {manager_id:?}")))?;
        let server = given(&file.flamenco).unwrap_or_else(|| "https://cloud.blender.org/".to_owned());
        let http = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        let server = Url::parse(&server).ok().filter(http).ok_or_else(|| {
            self.wrong("flamenco", "expected the address of the Server, such as https://flamenco.example/")
        })?;
        let tls = match (given(&file.tlscert), given(&file.tlskey)) {
            (Some(certificate), Some(key)) => {
                Some(TlsFiles { certificate: certificate.into(), key: key.into() })
            }
            (None, None) => None,
            _ => return Err(self.wrong("tlscert", "tlscert and tlskey are needed together")),
        };
        if given(&file.acme_domain_name).is_some() {
            warnings.push(
                "acme_domain_name: certificates are not fetched; name one with tlscert and tlskey".to_owned(),
            );
        }
        let listen = match tls {
            Some(_) => given(&file.listen_https)
                .or_else(|| given(&file.listen))
                .unwrap_or_else(|| ":8433".to_owned()),
            None => given(&file.listen).unwrap_or_else(|| ":8080".to_owned()),
        };
        let listen = if listen.starts_with(':') { format!("0.0.0.0{listen}") } else { listen };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let own_url = given(&file.own_url).map(|url| match url.split_once("://") {
            Some((_, rest)) => format!("{scheme}://{rest}"),
            None => url,
        });
        let fetch = match given(&file.task_fetch).as_deref() {
            None | Some("depsgraph") => Fetch::Depsgraph,
            Some("chunks") => Fetch::Chunks,
            Some(other) => {
                return Err(
                    self.wrong("task_fetch", format!("unknown way {other:?} (expected: depsgraph, chunks)"))
                );
            }
        };
        let database = match given(&file.database_url) {
            Some(url) if url.starts_with("mongodb") => {
                warnings.push(
                    "database_url: MongoDB is not used; tasks are kept in SQLite, see docs/flamenco.md"
                        .to_owned(),
                );
                None
            }
            other => other,
        };
        if given(&file.database_path).is_some() {
            warnings.push("database_path is not used; database_url says where tasks are kept".to_owned());
        }
        let worker_age =
            self.span("worker_cleanup_max_age", file.worker_cleanup_max_age.as_ref(), None, 0)?;
        let worker_statuses =
            file.worker_cleanup_status.clone().unwrap_or_else(|| vec!["offline".to_owned()]);
        Ok(Settings {
            name: given(&file.manager_name).unwrap_or_else(|| "Flamenco Manager".to_owned()),
            mode,
            own_url: own_url
                .unwrap_or_else(|| format!("{scheme}://{}/", listen.replacen("0.0.0.0", "localhost", 1))),
            listen,
            tls,
            server,
            manager_id,
            manager_secret: Secret::new(required("manager_secret", &file.manager_secret)?),
            database: Secret::new(database.unwrap_or_else(|| "sqlite://flamenco-manager.sqlite".to_owned())),
            task_logs: given(&file.task_logs_path).unwrap_or_else(|| "./task-logs".to_owned()).into(),
            fetch,
            // Without any pause the Server would be asked all the time.
            download_sleep: self
                .span(
                    "download_task_sleep",
                    file.download_task_sleep.as_ref(),
                    file.download_task_sleep_seconds,
                    600,
                )?
                .max(Duration::from_secs(1)),
            recheck_throttle: self.signed(
                "download_task_recheck_throttle",
                file.download_task_recheck_throttle.as_ref(),
                file.download_task_recheck_throttle_seconds,
                10,
            )?,
            push_interval: self.span(
                "task_update_push_max_interval",
                file.task_update_push_max_interval.as_ref(),
                file.task_update_push_max_interval_seconds,
                5,
            )?,
            push_count: self.count("task_update_push_max_count", file.task_update_push_max_count, 3000)?,
            cancel_interval: self.span(
                "cancel_task_fetch_max_interval",
                file.cancel_task_fetch_max_interval.as_ref(),
                file.cancel_task_fetch_max_interval_seconds,
                10,
            )?,
            compress_pushes: file.compress_pushes,
            task_timeout: self.span(
                "active_task_timeout_interval",
                file.active_task_timeout_interval.as_ref(),
                file.active_task_timeout_interval_seconds,
                600,
            )?,
            worker_timeout: self.span(
                "active_worker_timeout_interval",
                file.active_worker_timeout_interval.as_ref(),
                file.active_worker_timeout_interval_seconds,
                60,
            )?,
            cleanup_age: self.span(
                "task_cleanup_max_age",
                file.task_cleanup_max_age.as_ref(),
                None,
                14 * 24 * 3600,
            )?,
            worker_cleanup: (!worker_age.is_zero() && !worker_statuses.is_empty())
                .then_some((worker_age, worker_statuses)),
            failures: FailureLimits {
                blacklist_threshold: self.count("blacklist_threshold", file.blacklist_threshold, 3)?,
                task_fail_after: self.count(
                    "task_fail_after_softfail_count",
                    file.task_fail_after_softfail_count,
                    3,
                )?,
            },
            registration_secret: given(&file.worker_registration_secret).map(Secret::new),
            open_to_people: file.user_authentication.disable_security,
            variables,
            times: Times::default(),
            warnings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: &str =
        "manager_id: 123456789012345678901234\nmanager_secret: 0123\nflamenco: http://127.0.0.1:1/\n";

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(Path::new(FILE), &format!("{NEEDED}{text}")).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_flamenco_2() {
        let settings = parse("").expect("what is needed");
        assert_eq!(settings.manager_id.to_string(), "123456789012345678901234");
        assert_eq!(settings.manager_secret.reveal(), "0123");
        assert_eq!(
            (settings.push_count, settings.push_interval, settings.cancel_interval),
            (3000, Duration::from_secs(5), Duration::from_secs(10))
        );
        assert_eq!(
            (settings.task_timeout, settings.worker_timeout),
            (Duration::from_secs(600), Duration::from_secs(60))
        );
        assert_eq!(
            (settings.listen.as_str(), settings.own_url.as_str()),
            ("0.0.0.0:8080", "http://localhost:8080/")
        );
        assert!(
            settings.warnings.is_empty() && settings.worker_cleanup.is_none() && !settings.open_to_people
        );
    }

    #[test]
    fn both_spellings_of_each_span_are_read() {
        let names = [
            "download_task_sleep",
            "download_task_recheck_throttle",
            "task_update_push_max_interval",
            "cancel_task_fetch_max_interval",
            "active_task_timeout_interval",
            "active_worker_timeout_interval",
        ];
        for name in names {
            let read = |text: &str| {
                let settings = parse(text).expect(text);
                let spans = [
                    settings.download_sleep,
                    settings.recheck_throttle.expect("a span"),
                    settings.push_interval,
                    settings.cancel_interval,
                    settings.task_timeout,
                    settings.worker_timeout,
                ];
                spans.into_iter().zip(names).find(|(_, other)| *other == name).map(|(span, _)| span)
            };
            assert_eq!(read(&format!("{name}: 1m17s")), Some(Duration::from_secs(77)), "{name}");
            assert_eq!(read(&format!("{name}_seconds: 78")), Some(Duration::from_secs(78)), "{name}");
            let twice = parse(&format!("{name}: 1m\n{name}_seconds: 60")).expect_err("twice");
            assert!(twice.contains(name) && twice.contains("twice"), "{twice}");
        }
        assert_eq!(parse("download_task_recheck_throttle: -1s").expect("off").recheck_throttle, None);
        assert_eq!(parse("download_task_recheck_throttle_seconds: -1").expect("off").recheck_throttle, None);
    }

    #[test]
    fn variables_of_both_versions_mean_the_same() {
        let first = "variables: {blender: {linux: /opt/blender}}\npath_replacement: {render: {linux: /render/, windows: 'R:'}}\n";
        let second = "_meta: {version: 2}\nvariables:\n  blender: {direction: oneway, values: [{platform: linux, value: /opt/blender}]}\n  \
                      render: {direction: twoway, values: [{audience: all, platforms: [linux], value: /render/}, {platform: windows, value: 'R:'}]}\n";
        assert_eq!(parse(first).expect("the first").variables, parse(second).expect("the second").variables);
        let twice =
            parse("variables: {a: {linux: b}}\npath_replacement: {a: {linux: b}}").expect_err("twice");
        assert!(twice.contains("path_replacement"), "{twice}");
        let odd = parse("_meta: {version: 2}\nvariables: {a: {direction: up, values: [{audience: x, platform: linux}, {value: y}]}}")
            .expect("told of");
        assert_eq!(odd.warnings.len(), 3, "{:?}", odd.warnings);
    }

    #[test]
    fn says_what_is_wrong_and_shows_no_secret() {
        for (text, expected) in [
            ("mode: fast", "mode: unknown mode \"fast\" (expected: production, develop)"),
            ("task_fetch: all", "task_fetch: unknown way"),
            ("blacklist_threshold: 0", "blacklist_threshold: expected a number from 1"),
            ("tlskey: a.pem", "tlscert and tlskey are needed together"),
            ("download_task_sleep: soon", "download_task_sleep: expected a span"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
        for (text, key) in [
            ("manager_id: a\nmanager_secret: s3cr3t", "manager_id"),
            ("manager_id: 5e90aa11bb22cc33dd44ee00", "manager_secret"),
        ] {
            let error = Settings::parse(Path::new(FILE), text).expect_err(text).to_string();
            assert!(error.contains(key) && !error.contains("s3cr3t"), "{error}");
        }
        let broken =
            Settings::parse(Path::new(FILE), "manager_secret: [s3cr3t").expect_err("no YAML").to_string();
        assert!(!broken.contains("s3cr3t"), "{broken}");
    }

    #[test]
    fn unknown_settings_of_other_versions_are_left_alone() {
        assert!(parse("shaman: {enabled: true}\nssdp_discovery: true\nwebsetup: {}\ndatabase_url: mongodb://localhost/db").is_ok());
    }
}
