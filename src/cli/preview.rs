//! Which endpoints a submission is for: told on request, and before many servers do something because a
//! person mistyped.

use std::fmt::Write as _;

use crate::contract::{LeftOutEndpoint, Preview};
use crate::domain::LeftOut;

use super::output::{self, Failure, note};
use super::render::count;
use super::table::{Cell, Colour, Narrow, Screen, Table};

/// The endpoints, those left out with the reason, and what there is to say besides.
pub(super) fn text(preview: &Preview, screen: Screen) -> String {
    let mut text = format!("{}\n", summary(preview));
    let mut table = Table::new([("ENDPOINT", Narrow::Keep), ("WOULD", Narrow::Keep)]);
    for name in &preview.endpoints {
        table.push([name.as_str().into(), Cell::new("perform it", Colour::Good)]);
    }
    for LeftOutEndpoint { name, reason } in &preview.left_out {
        table.push([name.as_str().into(), Cell::new(words(*reason), Colour::Open)]);
    }
    if !(preview.endpoints.is_empty() && preview.left_out.is_empty()) {
        text += &table.text(screen);
    }
    for warning in &preview.warnings {
        _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// One line with the numbers.
fn summary(preview: &Preview) -> String {
    let Preview { task_type, endpoints, left_out, unmatched, .. } = preview;
    let mut parts =
        vec![format!("{task_type}: {} would perform it", count(endpoints.len() as u64, "endpoint"))];
    if !left_out.is_empty() {
        parts.push(format!("{} would not", left_out.len()));
    }
    if *unmatched > 0 {
        parts.push(format!("{unmatched} of the type not meant"));
    }
    parts.join(", ")
}

const fn words(reason: LeftOut) -> &'static str {
    match reason {
        LeftOut::NotSubscribed => "not: it is stopped",
        LeftOut::NoHandler => "not: it has no handler for the type",
        LeftOut::Excluded => "not: it is excluded",
        LeftOut::NotSampled => "not: left out by --percent or --limit",
    }
}

/// Asks a person when the task is for more endpoints than the API's `api.confirm_above`.
pub(super) fn confirm(preview: &Preview) -> Result<(), Failure> {
    if preview.endpoints.len() <= preview.confirm_above as usize {
        return Ok(());
    }
    note(&format!("{} (--dry-run lists them; --yes does not ask)", summary(preview)));
    let endpoints = count(preview.endpoints.len() as u64, "endpoint");
    match output::ask(format_args!("Submit it to {endpoints}?"))? {
        true => Ok(()),
        false => Err(Failure::Usage("nothing was submitted".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_names_everybody_who_is_meant() {
        let name = |text: &str| text.parse().expect("a name");
        let preview = Preview {
            task_type: "worker".parse().expect("a type"),
            endpoints: vec![name("web1")],
            left_out: vec![LeftOutEndpoint { name: name("web2"), reason: LeftOut::NotSubscribed }],
            unmatched: 3,
            confirm_above: 1,
            warnings: vec!["endpoint \"web1\" takes no tasks now: disk full".to_owned()],
        };
        let expected = "\
worker: 1 endpoint would perform it, 1 would not, 3 of the type not meant
ENDPOINT  WOULD
web1      perform it
web2      not: it is stopped
warning: endpoint \"web1\" takes no tasks now: disk full
";
        assert_eq!(text(&preview, Screen::PLAIN), expected);
        assert!(confirm(&preview).is_ok(), "one is not above one");
    }
}
