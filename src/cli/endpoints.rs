//! `tasker endpoints`: who is known, and who is to be forgotten.

use std::time::Duration;

use crate::client::Client;
use crate::clock::Clock;
use crate::config::span;
use crate::contract::{Endpoint, EndpointPage, ForgottenEndpoints};
use crate::domain::likeness::{self, listed};
use crate::domain::{EndpointName, TaskType};

use super::args::{Endpoints, EndpointsAction, Forget, Global};
use super::exit::Code;
use super::output::{self, Failure, note, show};
use super::tasks::{more, refused};
use super::{access, refusal, render};

/// What people read when there are no endpoints, and when none fits the filters.
const NONE: &str = "no endpoints: `tasker endpoint -e NAME` starts one";
const NONE_SUCH: &str = "no such endpoints: `tasker endpoints` without filters shows all";

pub(super) async fn run(global: &Global, args: Endpoints) -> Result<Code, Failure> {
    let client = access::client(global)?;
    if let Some(EndpointsAction::Forget(args)) = args.action {
        return forget(global, &client, args).await;
    }
    let wanted = |endpoint: &Endpoint| {
        let of_type = args
            .of_type
            .as_ref()
            .is_none_or(|of_type| endpoint.types.iter().any(|one| one.task_type == *of_type));
        of_type && !(args.gone && render::is_present(endpoint))
    };
    let filtered =
        args.of_type.is_some() || args.gone || args.selector.is_some() || args.page.cursor.is_some();
    let limit = args.page.limit as usize;
    let mut page = EndpointPage { endpoints: Vec::new(), next_cursor: args.page.cursor };
    loop {
        let next = client
            .endpoints(args.selector.as_ref(), Some(args.page.limit), page.next_cursor.as_deref())
            .await
            .map_err(|error| refused(global, error, None))?;
        let found: Vec<_> = next.endpoints.into_iter().filter(wanted).collect();
        if page.endpoints.len() + found.len() > limit {
            // The next page begins with these.
            break;
        }
        page.endpoints.extend(found);
        page.next_cursor = next.next_cursor;
        if page.next_cursor.is_none() || page.endpoints.len() == limit {
            break;
        }
    }
    if let (true, Some(of_type)) = (page.endpoints.is_empty(), &args.of_type) {
        known(&client, of_type).await?;
    }
    let none = page.endpoints.is_empty().then_some(if filtered { NONE_SUCH } else { NONE });
    output::list(global.json, &page, none, |screen| {
        render::endpoints(&page.endpoints, Clock::system().now(), screen)
    })?;
    more(global, page.next_cursor.as_deref());
    Ok(Code::Ok)
}

/// Refuses a type that the API does not have.
async fn known(client: &Client, of_type: &TaskType) -> Result<(), Failure> {
    // A token that is limited to task types may not ask for them.
    let Ok(index) = client.index().await else { return Ok(()) };
    if index.task_types.contains(of_type) {
        return Ok(());
    }
    let types = index.task_types.iter().map(TaskType::as_str);
    Err(Failure::Usage(likeness::unknown("task type", of_type.as_str(), "configured", types).text))
}

async fn forget(global: &Global, client: &Client, args: Forget) -> Result<Code, Failure> {
    if let Some(gone_for) = args.gone_for {
        return forget_gone(global, client, gone_for, args.dry_run, args.yes).await;
    }
    let Some(name) = args.name else { return Err(Failure::Usage("which endpoint?".to_owned())) };
    let forgotten = client.forget_endpoint(&name, args.force).await.map_err(refusal::of_forget)?;
    show(global.json, &forgotten, |_| format!("{} is forgotten\n", forgotten.name))?;
    owed(global, forgotten.open);
    Ok(Code::Ok)
}

/// Forgets all that have been away for so long; asks a person first.
async fn forget_gone(
    global: &Global,
    client: &Client,
    gone_for: Duration,
    dry_run: bool,
    yes: bool,
) -> Result<Code, Failure> {
    let asks = !yes && output::can_ask(global.json);
    if dry_run || asks {
        let gone = client.forget_endpoints(gone_for, true).await?;
        if dry_run {
            show(global.json, &gone, |_| names(&gone, "would be forgotten"))?;
            return Ok(Code::Ok);
        }
        if !gone.endpoints.is_empty() {
            ask(&gone, gone_for)?;
        }
    }
    let mut all = ForgottenEndpoints { endpoints: Vec::new(), open: 0, more: true };
    while all.more {
        let some = client.forget_endpoints(gone_for, false).await?;
        // Nobody left of those found: all have come back meanwhile.
        all.more = some.more && !some.endpoints.is_empty();
        all.open += some.open;
        all.endpoints.extend(some.endpoints);
    }
    show(global.json, &all, |_| names(&all, "forgotten"))?;
    owed(global, all.open);
    Ok(Code::Ok)
}

fn ask(gone: &ForgottenEndpoints, gone_for: Duration) -> Result<(), Failure> {
    let texts: Vec<&str> = gone.endpoints.iter().map(EndpointName::as_str).collect();
    let more = if gone.more { " and more" } else { "" };
    let question = format_args!(
        "Forget {}{more} endpoints, away for {} and longer ({})?",
        texts.len(),
        span::format(gone_for),
        listed(&texts)
    );
    match output::ask(question)? {
        true => Ok(()),
        false => Err(Failure::Usage("nothing was forgotten".to_owned())),
    }
}

/// Names, one a line, and how many there are.
fn names(gone: &ForgottenEndpoints, what: &str) -> String {
    let lines: String = gone.endpoints.iter().map(|name| format!("{name}\n")).collect();
    let more = if gone.more { " and more" } else { "" };
    format!("{lines}{}{more} {what}\n", gone.endpoints.len())
}

fn owed(global: &Global, open: u64) {
    if open > 0 && !global.json {
        note(&format!("responses still owed, which stay expected until their tasks end: {open}"));
    }
}
