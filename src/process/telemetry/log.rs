//! Logs go to stderr: one line an event, for people or as JSON. stdout belongs to data.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat};

/// A part that says less than the filter lets through, unless the filter names it: the word that names it,
/// and the directive.
pub type Quieter = (&'static str, &'static str);

/// The HTTP server tells of each of its threads, and the AMQP library of each error that we log with its
/// context.
const LIBRARIES: [Quieter; 3] =
    [("actix", "actix_server=warn"), ("actix", "actix_http=off"), ("lapin", "lapin=off")];

/// Whether the environment lets a terminal have colors: `NO_COLOR` is empty or unset, and `TERM` names a
/// terminal that is not dumb.
#[must_use]
pub fn colors_wanted() -> bool {
    let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !forbidden && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Starts logging for this process. `RUST_LOG` wins over the configured filter, as everywhere in Rust.
///
/// # Errors
/// When the filter cannot be read.
pub fn start_logging(log: &Log, quieter: &[Quieter]) -> Result<(), String> {
    let (source, text) = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => ("RUST_LOG", text),
        _ => ("log.filter", log.filter.clone()),
    };
    let mut filter = EnvFilter::try_new(&text).map_err(|error| format!("{source}: {error}"))?;
    for (part, quiet) in LIBRARIES.iter().chain(quieter) {
        if let (false, Ok(directive)) = (text.contains(part), quiet.parse()) {
            filter = filter.add_directive(directive);
        }
    }
    let builder =
        fmt::Subscriber::builder().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Otherwise a line that cannot be written is told of on stderr, where it cannot be written either, and
    // that is a panic in whatever part logged it.
    let builder = builder.log_internal_errors(false);
    let ansi = std::io::stderr().is_terminal() && colors_wanted();
    // A second start in one process (tests) keeps the first one's subscriber.
    let _ = match log.format {
        LogFormat::Text => tracing::subscriber::set_global_default(builder.with_ansi(ansi).finish()),
        LogFormat::Json => {
            tracing::subscriber::set_global_default(builder.json().flatten_event(true).finish())
        }
    };
    Ok(())
}
