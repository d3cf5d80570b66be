//! What a value may be: how it is read, what is expected instead, how it is shown.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ::config::{Value, ValueKind};

use super::{Secret, layers, size, span};
use crate::domain::json_text::{write_list, write_object};
use crate::domain::likeness::{did_you_mean, nearest, quoted};
use crate::domain::{BUILT_IN, Json, Labels, TaskType, json};
use crate::yaml::json_number;

/// The longest of most spans.
pub(super) const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A value as a layer gave it.
pub(super) struct Given<'a> {
    value: &'a Value,
    untyped: bool,
}

impl<'a> Given<'a> {
    pub(super) fn new(value: &'a Value) -> Self {
        Self { value, untyped: layers::untyped(value.origin().unwrap_or_default()) }
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.value.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    fn whole(&self) -> Option<i128> {
        match &self.value.kind {
            ValueKind::I64(number) => Some((*number).into()),
            ValueKind::U64(number) => Some((*number).into()),
            ValueKind::I128(number) => Some(*number),
            ValueKind::String(text) if self.untyped => text.parse().ok(),
            _ => None,
        }
    }

    fn truth(&self) -> Option<bool> {
        match &self.value.kind {
            ValueKind::Boolean(truth) => Some(*truth),
            ValueKind::String(text) if self.untyped => text.parse().ok(),
            _ => None,
        }
    }

    /// A text, a number or a truth value, as a text.
    fn scalar(&self) -> Option<String> {
        match &self.value.kind {
            ValueKind::Nil | ValueKind::Table(_) | ValueKind::Array(_) => None,
            scalar => Some(layers::number(self.value).map_or_else(|| scalar.to_string(), str::to_owned)),
        }
    }

    /// The texts of a list; one text with commas where the source knows no lists.
    fn texts(&self) -> Option<Vec<&'a str>> {
        match &self.value.kind {
            ValueKind::Array(items) => items.iter().map(|item| Given::new(item).text()).collect(),
            ValueKind::String(text) if self.untyped => Some(split_list(text).collect()),
            _ => None,
        }
    }

    /// What came, for people: never a secret, nor a text that may hold one.
    pub(super) fn describe(&self, secret: bool) -> String {
        if let Some(variable) = layers::placeholder(self.value) {
            return format!("the value of `{variable}`");
        }
        match &self.value.kind {
            ValueKind::Nil => "nothing".to_owned(),
            ValueKind::Table(_) => "a map".to_owned(),
            ValueKind::Array(items) if items.is_empty() => "an empty list".to_owned(),
            ValueKind::Array(_) if secret => "a list".to_owned(),
            ValueKind::Array(items) => {
                let mut shown: Vec<String> =
                    items.iter().take(5).map(|item| Given::new(item).describe(false)).collect();
                shown.extend((items.len() > shown.len()).then(|| "...".to_owned()));
                format!("a list of {}", shown.join(", "))
            }
            ValueKind::Boolean(_) if secret => "true or false".to_owned(),
            ValueKind::String(_) if secret => "another text".to_owned(),
            _ if secret => "a number".to_owned(),
            ValueKind::String(text) if text.is_empty() => "an empty text".to_owned(),
            ValueKind::String(text) if text.contains('@') => {
                "a text with `@`, not shown since it may hold a password".to_owned()
            }
            ValueKind::String(text) if text.chars().count() > 60 => {
                format!("a text of {} characters", text.chars().count())
            }
            ValueKind::String(text) => format!("`{}`", text.escape_debug()),
            other => format!("`{}`", layers::number(self.value).unwrap_or(&other.to_string())),
        }
    }
}

/// The items of a list written as one text with commas.
pub(super) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// A kind of value.
pub(super) trait Kind {
    type Value;
    /// Completes "expected …".
    fn expected(&self) -> String;
    fn parse(&self, given: &Given<'_>) -> Option<Self::Value>;
    /// What to say of a value that is not of this kind.
    fn refusal(&self, given: &Given<'_>) -> String {
        format!("expected {}, got {}", self.expected(), given.describe(self.is_secret()))
    }
    /// The value as `config show` prints it.
    fn show(&self, value: &Self::Value) -> serde_json::Value;
    /// Whether no error may tell the value.
    fn is_secret(&self) -> bool {
        false
    }
}

/// A whole number within bounds.
pub(super) struct Whole<T>(pub(super) T, pub(super) T);

impl<T: Copy + PartialOrd + std::fmt::Display + TryFrom<i128> + Into<serde_json::Value>> Kind for Whole<T> {
    type Value = T;
    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.0, self.1)
    }
    fn parse(&self, given: &Given<'_>) -> Option<T> {
        T::try_from(given.whole()?).ok().filter(|number| (self.0..=self.1).contains(number))
    }
    fn show(&self, value: &T) -> serde_json::Value {
        (*value).into()
    }
}

/// True or false.
pub(super) struct Truth;

impl Kind for Truth {
    type Value = bool;
    fn expected(&self) -> String {
        "true or false".to_owned()
    }
    fn parse(&self, given: &Given<'_>) -> Option<bool> {
        given.truth()
    }
    fn show(&self, value: &bool) -> serde_json::Value {
        (*value).into()
    }
}

/// A span of time within bounds.
pub(super) struct Span {
    pub(super) least: Duration,
    pub(super) most: Duration,
    /// Whether a bare number counts as seconds; only where the original had it so.
    pub(super) seconds: bool,
}

impl Span {
    pub(super) const fn up_to(most: Duration) -> Self {
        Self { least: Duration::from_millis(1), most, seconds: false }
    }
}

impl Kind for Span {
    type Value = Duration;
    fn expected(&self) -> String {
        let seconds = if self.seconds { ", or a number of seconds" } else { "" };
        format!("{}{seconds}, from {} to {}", span::FORM, span::format(self.least), span::format(self.most))
    }
    fn parse(&self, given: &Given<'_>) -> Option<Duration> {
        let bare = || {
            given
                .whole()
                .filter(|_| self.seconds)
                .and_then(|secs| u64::try_from(secs).ok())
                .map(Duration::from_secs)
        };
        let spelt = || given.text().and_then(|text| span::parse(text).ok());
        bare().or_else(spelt).filter(|span| (self.least..=self.most).contains(span))
    }
    fn show(&self, value: &Duration) -> serde_json::Value {
        span::format(*value).into()
    }
}

/// A size in bytes within bounds.
pub(super) struct Size(pub(super) u64, pub(super) u64);

impl Kind for Size {
    type Value = u64;
    fn expected(&self) -> String {
        format!("{}, from {} to {}", size::FORM, size::format(self.0), size::format(self.1))
    }
    fn parse(&self, given: &Given<'_>) -> Option<u64> {
        let spelt = || given.text().and_then(size::parse);
        given
            .whole()
            .and_then(|bytes| u64::try_from(bytes).ok())
            .or_else(spelt)
            .filter(|bytes| (self.0..=self.1).contains(bytes))
    }
    fn show(&self, value: &u64) -> serde_json::Value {
        size::format(*value).into()
    }
}

/// A text of a form.
pub(super) struct Text(pub(super) &'static str, pub(super) fn(&str) -> bool);

impl Kind for Text {
    type Value = String;
    fn expected(&self) -> String {
        self.0.to_owned()
    }
    fn parse(&self, given: &Given<'_>) -> Option<String> {
        given.text().filter(|text| (self.1)(text)).map(str::to_owned)
    }
    fn show(&self, value: &String) -> serde_json::Value {
        value.as_str().into()
    }
}

/// An IP address, or the name that every machine has for itself.
pub(super) struct Ip;

impl Kind for Ip {
    type Value = IpAddr;
    fn expected(&self) -> String {
        "an IP address such as `127.0.0.1` or `::`, or `localhost`".to_owned()
    }
    fn parse(&self, given: &Given<'_>) -> Option<IpAddr> {
        match given.text()? {
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            text => text.parse().ok(),
        }
    }
    fn refusal(&self, given: &Given<'_>) -> String {
        Host::refusal(&self.expected(), given)
    }
    fn show(&self, value: &IpAddr) -> serde_json::Value {
        value.to_string().into()
    }
}

/// The name or address of a host, without a port.
pub(super) struct Host;

impl Host {
    /// Whether a text is a host and its port: addresses of IPv6 have more colons.
    fn has_port(text: &str) -> bool {
        let (host, port) = text.rsplit_once(':').unwrap_or_default();
        !host.is_empty()
            && (!host.contains(':') || host.ends_with(']'))
            && port.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// What to say of an address with a port in it.
    fn refusal(expected: &str, given: &Given<'_>) -> String {
        let hint =
            given.text().filter(|text| Self::has_port(text)).map_or("", |_| ": put the port into `port`");
        format!("expected {expected}, got {}{hint}", given.describe(false))
    }
}

impl Kind for Host {
    type Value = String;
    fn expected(&self) -> String {
        "the name or address of a host".to_owned()
    }
    fn parse(&self, given: &Given<'_>) -> Option<String> {
        let formed = |text: &&str| {
            (1..=253).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'))
                && !Self::has_port(text)
        };
        given.text().filter(formed).map(str::to_owned)
    }
    fn refusal(&self, given: &Given<'_>) -> String {
        Self::refusal(&self.expected(), given)
    }
    fn show(&self, value: &String) -> serde_json::Value {
        value.as_str().into()
    }
}

/// What the log tells: levels, each for all or for a part of the program.
pub(super) struct LogFilter;

/// The levels of a log filter.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl LogFilter {
    /// A word that would be taken for a part of the program, of which nothing else would then be told.
    fn no_level(text: &str) -> Option<&str> {
        // Directives that name spans may hold commas, and are written by nobody in passing.
        let plain = !text.contains(['[', '{']);
        let level = |word: &str| {
            LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
                || matches!(word, "0" | "1" | "2" | "3" | "4" | "5")
        };
        let mut words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.find(|word| plain && !word.contains('=') && !level(word))
    }
}

impl Kind for LogFilter {
    type Value = String;
    fn expected(&self) -> String {
        "a log filter such as `info` or `info,tasker=debug`".to_owned()
    }
    fn parse(&self, given: &Given<'_>) -> Option<String> {
        let text = given.text()?;
        let known =
            tracing_subscriber::EnvFilter::builder().parse(text).is_ok() && Self::no_level(text).is_none();
        known.then(|| text.to_owned())
    }
    fn refusal(&self, given: &Given<'_>) -> String {
        let Some(word) = given.text().and_then(Self::no_level) else {
            return format!("expected {}, got {}", self.expected(), given.describe(false));
        };
        // Words of other programs, and slips.
        let meant = match word.to_ascii_lowercase().as_str() {
            "warning" => Some("warn"),
            "verbose" | "all" => Some("debug"),
            "fatal" | "critical" | "err" => Some("error"),
            "none" | "quiet" => Some("off"),
            slip => nearest(slip, LEVELS),
        };
        format!(
            "{} is not a log level ({}){}; a part of the program needs its level, such as `tasker=debug`",
            quoted(word),
            LEVELS.join(", "),
            did_you_mean(meant)
        )
    }
    fn show(&self, value: &String) -> serde_json::Value {
        value.as_str().into()
    }
}

/// One word out of a few.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Kind for Choice<T> {
    type Value = T;
    fn expected(&self) -> String {
        self.0.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
    }
    fn parse(&self, given: &Given<'_>) -> Option<T> {
        let text = given.text()?;
        self.0.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice)
    }
    fn show(&self, value: &T) -> serde_json::Value {
        self.0.iter().find(|(_, choice)| choice == value).map(|(word, _)| *word).unwrap_or_default().into()
    }
}

/// A list of texts of a form.
pub(super) struct Texts(pub(super) &'static str, pub(super) fn(&str) -> bool);

impl Kind for Texts {
    type Value = Vec<String>;
    fn expected(&self) -> String {
        format!("a list of {}", self.0)
    }
    fn parse(&self, given: &Given<'_>) -> Option<Vec<String>> {
        given.texts()?.into_iter().map(|text| (self.1)(text).then(|| text.to_owned())).collect()
    }
    fn show(&self, value: &Vec<String>) -> serde_json::Value {
        value.clone().into()
    }
}

/// A payload: JSON in a text, or what it says as a map, a list, a number or a truth value of YAML.
pub(super) struct Payload;

impl Kind for Payload {
    type Value = Json;
    fn expected(&self) -> String {
        "JSON in a text, such as `'{\"full\": true}'`, or a map or a list".to_owned()
    }
    fn parse(&self, given: &Given<'_>) -> Option<Json> {
        match &given.value.kind {
            ValueKind::Nil => None,
            ValueKind::String(text) if layers::number(given.value).is_none() => {
                serde_json::from_str(text).ok()
            }
            _ => serde_json::from_str(&payload_text(given.value).ok()?).ok(),
        }
    }
    fn refusal(&self, given: &Given<'_>) -> String {
        payload_text(given.value)
            .err()
            .unwrap_or_else(|| format!("expected {}, got {}", self.expected(), given.describe(false)))
    }
    fn show(&self, value: &Json) -> serde_json::Value {
        serde_json::from_str(value.get()).unwrap_or_default()
    }
}

/// The JSON text of a value, its numbers as they were written; or where there is one that JSON does not have.
fn payload_text(value: &Value) -> Result<String, String> {
    let mut text = String::new();
    write_payload(value, &mut text)?;
    Ok(text)
}

fn write_payload(value: &Value, to: &mut String) -> Result<(), String> {
    if let Some(number) = layers::number(value) {
        let place = || layers::place(value).map(|place| format!(" ({place})")).unwrap_or_default();
        *to += json_number(number).map_err(|refused| refused + &place())?;
        return Ok(());
    }
    match &value.kind {
        ValueKind::Array(items) => write_list(to, items, write_payload)?,
        ValueKind::Table(members) => {
            write_object(to, members.iter().collect::<BTreeMap<_, _>>(), write_payload)?;
        }
        ValueKind::String(text) => *to += json(text).get(),
        ValueKind::Nil => to.push_str("null"),
        other => *to += &other.to_string(),
    }
    Ok(())
}

/// The labels of an endpoint: a map, or `name=value` with commas where the source knows no maps.
pub(super) struct LabelMap;

impl Kind for LabelMap {
    type Value = Labels;
    fn expected(&self) -> String {
        format!(
            "a map of at most {} labels such as `site: berlin`, none of them called {}",
            Labels::MAX,
            BUILT_IN.join(", ")
        )
    }
    fn parse(&self, given: &Given<'_>) -> Option<Labels> {
        let pairs: Vec<(String, String)> = match (&given.value.kind, given.texts()) {
            (ValueKind::Table(table), _) => table
                .iter()
                .map(|(key, value)| Some((key.clone(), Given::new(value).scalar()?)))
                .collect::<Option<_>>()?,
            (_, Some(texts)) => {
                let pair =
                    |text: &str| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
                texts.into_iter().map(pair).collect::<Option<_>>()?
            }
            _ => return None,
        };
        Labels::of(pairs).ok()
    }
    fn refusal(&self, given: &Given<'_>) -> String {
        // The one that is wrong, where one is.
        let wrong = match &given.value.kind {
            ValueKind::Table(table) => {
                table.iter().collect::<BTreeMap<_, _>>().into_iter().find_map(|(key, value)| {
                    let Some(text) = Given::new(value).scalar() else {
                        return Some(format!(
                            "{}: expected a text, got {}",
                            quoted(key),
                            Given::new(value).describe(false)
                        ));
                    };
                    Labels::of([(key.clone(), text)]).err().map(|error| error.to_string())
                })
            }
            _ => None,
        };
        let wrong = wrong.unwrap_or_else(|| format!("got {}", given.describe(false)));
        format!("expected {}: {wrong}", self.expected())
    }
    fn show(&self, value: &Labels) -> serde_json::Value {
        value
            .iter()
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// A password.
pub(super) struct Hidden;

impl Kind for Hidden {
    type Value = Secret;
    fn expected(&self) -> String {
        "a text (a number needs quotes)".to_owned()
    }
    fn parse(&self, given: &Given<'_>) -> Option<Secret> {
        given.text().map(Secret::new)
    }
    fn show(&self, _: &Secret) -> serde_json::Value {
        "***".into()
    }
    fn is_secret(&self) -> bool {
        true
    }
}

/// The address of a database, which may hold a password.
pub(super) struct DatabaseUri;

impl Kind for DatabaseUri {
    type Value = Secret;
    fn expected(&self) -> String {
        "`mysql://user:password@host:port/database` (other characters than letters and digits in user and password percent-encoded) \
         or `sqlite:///path/to/file`"
            .to_owned()
    }
    fn parse(&self, given: &Given<'_>) -> Option<Secret> {
        let text = given.text()?;
        let formed = match text.split_once("://")? {
            // A `@` behind the host: what was taken for the host is a piece of the password.
            ("mysql", _) => reqwest::Url::parse(text)
                .is_ok_and(|url| url.has_host() && url.path().len() > 1 && !url.path().contains('@')),
            ("sqlite", file) => !file.is_empty(),
            _ => false,
        };
        formed.then(|| Secret::new(text))
    }
    fn refusal(&self, given: &Given<'_>) -> String {
        let described = given.describe(true);
        match given.text() {
            Some(text) if text.starts_with("mysql://") && text.contains('@') => format!(
                "cannot be told apart, in {described}: percent-encode the password, with `@` as `%40`, `/` as `%2F`, `:` as `%3A`, `#` as `%23`, \
                 `?` as `%3F` and `%` as `%25`; expected {}",
                self.expected()
            ),
            _ => format!("expected {}, got {described}", self.expected()),
        }
    }
    fn show(&self, value: &Secret) -> serde_json::Value {
        shown_uri(value.reveal()).into()
    }
    fn is_secret(&self) -> bool {
        true
    }
}

/// An address without its password and without the values behind `?`.
fn shown_uri(uri: &str) -> String {
    if uri.starts_with("sqlite:") {
        return uri.split_once('?').map_or(uri, |(file, _)| file).to_owned();
    }
    let Ok(mut url) = reqwest::Url::parse(uri) else { return "***".to_owned() };
    let hidden = url.password().is_none() || url.set_password(Some("***")).is_ok();
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    if hidden { url.to_string() } else { "***".to_owned() }
}

/// The address of an HTTP interface. Its user has keys of its own.
pub(super) struct HttpUrl;

impl Kind for HttpUrl {
    type Value = String;
    fn expected(&self) -> String {
        "an address such as `http://localhost:15672/api`, without user and password in it".to_owned()
    }
    fn parse(&self, given: &Given<'_>) -> Option<String> {
        let text = given.text()?;
        let url = reqwest::Url::parse(text).ok()?;
        let formed = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none();
        formed.then(|| text.trim_end_matches('/').to_owned())
    }
    fn show(&self, value: &String) -> serde_json::Value {
        value.as_str().into()
    }
}

/// The name of a task type.
pub(super) struct TypeName;

impl Kind for TypeName {
    type Value = TaskType;
    fn expected(&self) -> String {
        "the name of a task type: a letter followed by at most 63 letters, digits, `_` or `-`, and none of the reserved names".to_owned()
    }
    fn parse(&self, given: &Given<'_>) -> Option<TaskType> {
        given.text()?.parse().ok()
    }
    fn show(&self, value: &TaskType) -> serde_json::Value {
        value.as_str().into()
    }
}

/// A bare name stands for a map that has only the name.
pub(super) fn named(item: Value, key: &str) -> Value {
    match item.kind {
        ValueKind::Table(_) => item,
        _ => {
            let origin = item.origin().map(str::to_owned);
            Value::new(origin.as_ref(), ::config::Map::from_iter([(key.to_owned(), item)]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: &impl Kind, text: &str) -> Option<String> {
        let value = Value::new(None, text);
        let given = Given::new(&value);
        kind.parse(&given).is_none().then(|| kind.refusal(&given))
    }

    #[test]
    fn a_password_that_is_not_encoded_is_no_host() {
        for uri in [
            "mysql://u:p@ss/w:rd@127.0.0.1/t",
            "mysql://u:12/x@db/t",
            "mysql://u:p#w@db/t",
            "mysql://u:p?w@db/t",
        ] {
            let told = refused(&DatabaseUri, uri).expect(uri);
            assert!(told.contains("percent-encode the password") && !told.contains("12"), "{told}");
        }
        for uri in
            ["mysql://u:p%40ss%2Fw@127.0.0.1/t", "mysql://u@db/t?ssl-ca=/a@b.pem", "sqlite:///var/a@b.db"]
        {
            assert_eq!(refused(&DatabaseUri, uri), None, "{uri}");
        }
        assert!(
            refused(&DatabaseUri, "postgres://db").is_some_and(|told| told.starts_with("expected `mysql://"))
        );
    }

    #[test]
    fn a_port_has_a_key_of_its_own() {
        for host in ["127.0.0.1:26236", "mq.example:5672", "[::1]:5672"] {
            let told = refused(&Host, host).expect(host);
            assert!(told.ends_with(": put the port into `port`"), "{told}");
        }
        for host in ["127.0.0.1", "mq.example", "::1", "2001:db8::5672"] {
            assert_eq!(refused(&Host, host), None, "{host}");
        }
        assert!(refused(&Ip, "127.0.0.1:8888").is_some_and(|told| told.contains("`port`")));
    }

    #[test]
    fn a_word_that_is_no_level_is_no_filter() {
        for (filter, meant) in [
            ("inof", "did you mean info?"),
            ("warning", "did you mean warn?"),
            ("verbose", "did you mean debug?"),
            ("info,tasker", "`tasker=debug`"),
        ] {
            let told = refused(&LogFilter, filter).expect(filter);
            assert!(
                told.contains("is not a log level (off, error, warn, info, debug, trace)")
                    && told.contains(meant),
                "{told}"
            );
        }
        for filter in ["info", "WARN", "3", "info,tasker=debug", "tasker::store=trace,off"] {
            assert_eq!(refused(&LogFilter, filter), None, "{filter}");
        }
        assert!(refused(&LogFilter, "tasker=inof").is_some());
    }

    #[test]
    fn addresses_are_shown_without_secrets() {
        for (uri, shown) in [
            ("mysql://tasker:pw@db:3306/tasker", "mysql://tasker:***@db:3306/tasker"),
            ("mysql://tasker@db/tasker?ssl-key=x", "mysql://tasker@db/tasker?***"),
            ("sqlite:///var/lib/tasker.db?mode=rwc", "sqlite:///var/lib/tasker.db"),
            ("mysql://a b", "***"),
        ] {
            assert_eq!(shown_uri(uri), shown);
        }
    }
}
