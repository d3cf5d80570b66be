//! `tasker logs`: what the handlers of a task log, while they run with `--follow`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::client::{Client, TaskName};
use crate::contract::{LogPage, LogText, Responses, Task};
use crate::domain::EndpointName;

use super::access;
use super::args::{Global, Logs};
use super::exit::Code;
use super::output::{Failure, note, print, while_read};
use super::patience::{Patience, before_the_next};
use super::render;
use super::wait::{Interrupts, say_it_goes_on};

/// How long each question lies at the API.
const WAIT: Duration = Duration::from_secs(20);

/// How often is asked for the lines of many: each answer tells some anew.
const EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(global: &Global, args: Logs) -> Result<Code, Failure> {
    let client = access::client(global)?;
    let name = TaskName { task_type: args.task_type, id: args.id };
    let task = client.status(&name, None, Responses::None).await?.task;
    let mut reader = Reader {
        json: global.json,
        told: HashMap::new(),
        alone: args.of_endpoint.is_some() || task.counts.expected == 1,
    };
    let endpoint = args.of_endpoint.as_ref();
    if !args.follow {
        let told = read(&client, &task, endpoint, &mut reader).await?;
        if !told && !global.json {
            note(match task.status.is_final() {
                true => "tasker: no line was logged",
                false => "tasker: no line was logged, or none has come yet: `--follow` waits for more",
            });
        }
        return Ok(Code::Ok);
    }
    let mut interrupts = Interrupts::install()?;
    let followed = interrupts.unless_one(while_read(follow(&client, &task, endpoint, &mut reader))).await?;
    let code = followed.err().unwrap_or(Code::Ok);
    let (name, api) = (render::typed(&task), access::flags(global));
    say_it_goes_on(
        global.json,
        "task",
        code,
        &[format!("tasker watch {name}{api}"), format!("tasker cancel {name}{api}")],
    );
    Ok(code)
}

/// Reads what there is; says whether that was anything.
async fn read(
    client: &Client,
    task: &Task,
    endpoint: Option<&EndpointName>,
    reader: &mut Reader,
) -> Result<bool, Failure> {
    let (mut after, mut any) = (None, false);
    loop {
        let page =
            client.logs(&task.task_type, &task.id.to_string(), endpoint, after.as_deref(), None).await?;
        any |= !page.logs.is_empty();
        let last = page.logs.is_empty() || endpoint.is_some();
        reader.tell(&page)?;
        if last {
            return Ok(any);
        }
        after = Some(page.next);
    }
}

async fn follow(
    client: &Client,
    task: &Task,
    endpoint: Option<&EndpointName>,
    reader: &mut Reader,
) -> Result<(), Failure> {
    let (mut after, mut patience) = (None, Patience::new());
    loop {
        let asked = Instant::now();
        match client.logs(&task.task_type, &task.id.to_string(), endpoint, after.as_deref(), Some(WAIT)).await
        {
            Ok(page) => {
                patience.heard();
                reader.tell(&page)?;
                if page.ended {
                    return Ok(());
                }
                let told = endpoint.is_none() && !page.logs.is_empty();
                let pause = if told { EVERY } else { before_the_next(asked) };
                after = Some(page.next).filter(|next| !next.is_empty());
                tokio::time::sleep(pause).await;
            }
            Err(error) => {
                let Some(pause) = patience.pause(&error) else { return Err(error.into()) };
                tracing::debug!(%error, "cannot read logs");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Tells lines, each once.
struct Reader {
    json: bool,
    /// Bytes of the log of each endpoint that were told.
    told: HashMap<EndpointName, u64>,
    /// Whether all lines are of one endpoint, so that none is named.
    alone: bool,
}

impl Reader {
    fn tell(&mut self, page: &LogPage) -> Result<(), Failure> {
        for log in &page.logs {
            let new = self.fresh(log);
            if !new.is_empty() {
                print(&self.lines(log, &new))?;
            }
        }
        Ok(())
    }

    /// What of a text was not told yet.
    fn fresh(&mut self, log: &LogText) -> String {
        let told = self.told.entry(log.endpoint.clone()).or_default();
        let skip = usize::try_from(told.saturating_sub(log.begin)).unwrap_or(usize::MAX).min(log.text.len());
        *told = (*told).max(log.begin + log.text.len() as u64);
        log.text[log.text.ceil_char_boundary(skip)..].to_owned()
    }

    fn lines(&self, log: &LogText, new: &str) -> String {
        let line = |line: &str| match (self.json, self.alone) {
            (true, _) => serde_json::json!({"endpoint": log.endpoint, "line": line}).to_string() + "\n",
            (false, true) => render::visible(line) + "\n",
            (false, false) => format!("{}: {}\n", log.endpoint, render::visible(line)),
        };
        new.lines().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn each_line_is_told_once() {
        let log = |begin, text: &str| LogText {
            endpoint: "web1".parse().expect("a name"),
            begin,
            text: text.to_owned(),
            time: Timestamp::from_micros(0),
        };
        let mut reader = Reader { json: false, told: HashMap::new(), alone: false };
        let mut told = |log: &LogText| {
            let new = reader.fresh(log);
            reader.lines(log, &new)
        };
        assert_eq!(told(&log(0, "one\ntwo\n")), "web1: one\nweb1: two\n");
        assert_eq!(told(&log(0, "one\ntwo\nthree\n")), "web1: three\n");
        assert_eq!(told(&log(4, "two\nthree\n")), "");
        assert_eq!(told(&log(100, "\u{1b}[31mfour\n")), "web1: four\n");
    }
}
