//! `tasker watch`: a task, or all that are open, on a screen that updates in place; in lines where there is
//! no screen.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::client::{Client, ClientError, Event, Events, Query, TaskName};
use crate::clock::Clock;
use crate::contract::{LiveTask, LiveVector, Responses, Task};
use crate::domain::{Counts, EndpointName, PartState, States, TaskId, TaskStatus, Timestamp, decode_changes};

use super::args::{Global, Watch};
use super::exit::{Code, verdict};
use super::output::{Failure, print, while_read};
use super::patience::Patience;
use super::render;
use super::table::{Cell, Colour, Screen, line};
use super::wait::{Interrupts, say_it_goes_on};
use super::{access, tasks};

/// How often open tasks are asked for.
const EVERY: Duration = Duration::from_secs(2);

/// Open tasks that are shown where the screen has room for them.
const MOST: u32 = 200;

/// How often a line tells of a task where there is no screen.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Endpoints that are named for a state at most.
const NAMES: usize = 8;

pub(super) async fn run(global: &Global, args: Watch) -> Result<Code, Failure> {
    let client = access::client(global)?;
    let (task_type, id) = match &args.names[..] {
        [] => return open(global, &client).await,
        [task_type, id] => {
            let read = task_type.parse().map_err(|error| Failure::Usage(format!("`{task_type}`: {error}")));
            (Some(read?), id)
        }
        [id, ..] => (None, id),
    };
    one(global, &client, &TaskName { task_type, id: id.clone() }).await
}

/// Watches a task until it is settled; shows what became of it then.
async fn one(global: &Global, client: &Client, name: &TaskName) -> Result<Code, Failure> {
    let task = client.status(name, None, Responses::None).await?.task;
    let mut interrupts = Interrupts::install()?;
    let mut view = View::of(task);
    let outcome = interrupts.unless_one(while_read(follow(global, client, &mut view))).await?;
    let code = match outcome {
        Ok(code) => {
            tasks::show_settled(global, client, &TaskName::of(&view.task)).await?;
            code
        }
        Err(code) => code,
    };
    let (name, api) = (render::typed(&view.task), access::flags(global));
    say_it_goes_on(
        global.json,
        "task",
        code,
        &[format!("tasker watch {name}{api}"), format!("tasker cancel {name}{api}")],
    );
    Ok(code)
}

async fn follow(global: &Global, client: &Client, view: &mut View) -> Result<Code, Failure> {
    let mut stage = Stage::new(global.json);
    let watch = format!("task:{}", view.task.id);
    let (mut last, mut patience) = (None, Patience::new());
    let mut events: Option<Events> = None;
    loop {
        if let Some(code) = verdict(&view.task) {
            stage.clear()?;
            return Ok(code);
        }
        let next = match &mut events {
            _ if view.lacks_names() => view.name(client).await.map(|()| Next::Named),
            Some(events) => events.next().await.map(Next::Event),
            None => client.events(&watch, last.as_deref()).await.map(|opened| {
                events = Some(opened);
                Next::Opened
            }),
        };
        match next {
            Ok(Next::Event(event)) => {
                patience.heard();
                last = events.as_ref().and_then(|events| events.last().map(str::to_owned));
                if !view.take(&event)? {
                    // What cannot be followed is begun anew.
                    (events, last) = (None, None);
                }
                if !view.lacks_names() {
                    stage.show(view)?;
                }
            }
            Ok(Next::Named) => stage.show(view)?,
            Ok(Next::Opened) => {}
            Err(error) => {
                let Some(pause) = patience.pause(&error) else { return Err(error.into()) };
                events = None;
                stage.away(view, &error)?;
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// What the API has answered.
enum Next {
    Opened,
    Event(Event),
    Named,
}

/// A task as it was told.
struct View {
    task: Task,
    /// Of the endpoints that the states are of.
    generation: String,
    states: States,
    names: Vec<EndpointName>,
    /// Of the endpoints that the names are of.
    named: String,
}

impl View {
    fn of(task: Task) -> Self {
        let (generation, named) = (String::new(), String::new());
        Self { task, generation, states: States::default(), names: Vec::new(), named }
    }

    /// Takes in an event; false where it does not follow on what was told before.
    fn take(&mut self, event: &Event) -> Result<bool, Failure> {
        match event.name.as_str() {
            "task" => {}
            "gone" => return Err(Failure::Setup(format!("the task {} was forgotten", self.task.id))),
            _ => return Ok(true),
        }
        let Ok(told) = event.read::<LiveTask>() else { return Ok(false) };
        let followed = self.take_vector(&told.vector);
        let LiveTask { status, counts, published_at, finished_at, .. } = told;
        self.task = Task { status, counts, published_at, finished_at, ..self.task.clone() };
        if followed {
            self.generation = told.vector.generation;
        }
        Ok(followed)
    }

    /// Whether it is not known whom the states are of.
    fn lacks_names(&self) -> bool {
        self.generation != self.named
    }

    /// Asks for the names of those whom the states are of.
    async fn name(&mut self, client: &Client) -> Result<(), ClientError> {
        self.names = client.names(&self.task.task_type, &self.task.id.to_string()).await?.names;
        self.named.clone_from(&self.generation);
        Ok(())
    }

    fn take_vector(&mut self, vector: &LiveVector) -> bool {
        let bytes = |text: &Option<String>| text.as_ref().and_then(|text| STANDARD.decode(text).ok());
        if let Some(states) = bytes(&vector.states).and_then(|bytes| States::from_bytes(&bytes, vector.count))
        {
            self.states = states;
            return true;
        }
        let changes = bytes(&vector.changes).and_then(|bytes| decode_changes(&bytes, self.states.len()).ok());
        let follows = vector.count == self.states.len();
        if let Some(changes) = changes.filter(|_| follows) {
            self.states.apply(&changes);
            return true;
        }
        false
    }

    /// The endpoints in each state that there are some in, in the order of the states.
    fn by_state(&self) -> BTreeMap<u8, Vec<&EndpointName>> {
        let mut by_state: BTreeMap<u8, Vec<&EndpointName>> = BTreeMap::new();
        // Until the names are known, those who are shown are those that there are names for.
        for (code, name) in self.states.iter().zip(&self.names) {
            by_state.entry(code).or_default().push(name);
        }
        by_state
    }

    /// The task on a screen.
    fn picture(&self, now: Timestamp, screen: Screen) -> String {
        let mut text = render::heading(&self.task, screen) + "\n";
        for (code, names) in self.by_state() {
            let Some(state) = PartState::from_code(code) else { continue };
            let (count, word) = (names.len().to_string(), state.as_str());
            // Those who did as they should are no news.
            let told = if state == PartState::Ok { String::new() } else { named(&names) };
            text += &line(
                &[
                    format!("{count:>7} ").into(),
                    Cell::new(format!("{word:<11}"), colour(state)),
                    told.into(),
                ],
                screen,
            );
        }
        text + &render::summary(&self.task, now) + "\n"
    }
}

fn named(names: &[&EndpointName]) -> String {
    let mut sorted: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    sorted.sort_by(|one, other| render::natural(one, other));
    let more = if names.len() > NAMES { format!(" and {} more", names.len() - NAMES) } else { String::new() };
    sorted.truncate(NAMES);
    sorted.join(", ") + &more
}

const fn colour(state: PartState) -> Colour {
    match state {
        PartState::Ok => Colour::Good,
        PartState::Failed
        | PartState::Lost
        | PartState::TimeLimit
        | PartState::Vanished
        | PartState::Expired => Colour::Bad,
        PartState::Retry | PartState::Canceled | PartState::Held | PartState::Skipped => Colour::Open,
        PartState::NotPart
        | PartState::Waiting
        | PartState::Sent
        | PartState::Received
        | PartState::Running => Colour::Plain,
    }
}

/// Watches the tasks that have not ended, until interrupted.
async fn open(global: &Global, client: &Client) -> Result<Code, Failure> {
    let mut interrupts = Interrupts::install()?;
    let outcome = interrupts.unless_one(while_read(follow_open(global, client))).await?;
    match outcome {
        Ok(never) => match never {},
        // A person has seen enough.
        Err(Code::Interrupted) => Ok(Code::Ok),
        Err(code) => Ok(code),
    }
}

async fn follow_open(global: &Global, client: &Client) -> Result<std::convert::Infallible, Failure> {
    let status = TaskStatus::ALL.into_iter().filter(|status| !status.is_final()).collect();
    let mut stage = Stage::new(global.json);
    let mut known = BTreeMap::new();
    let mut patience = Patience::new();
    let query = Query { status, limit: Some(MOST), ..Query::default() };
    loop {
        match client.list(None, &query).await {
            Ok(page) => {
                patience.heard();
                let over = stage.show_open(&page.tasks, page.next_cursor.is_some(), &mut known)?;
                for id in over {
                    let name = TaskName { task_type: None, id: id.to_string() };
                    // One that was forgotten meanwhile, or that cannot be asked for now, is not told of.
                    if let Ok(report) = client.status(&name, None, Responses::None).await
                        && report.task.status.is_final()
                    {
                        stage.tell(&report.task, Clock::system().now())?;
                    }
                }
            }
            Err(error) => {
                let Some(pause) = patience.pause(&error) else { return Err(error.into()) };
                tracing::debug!(%error, "cannot list open tasks");
                tokio::time::sleep(pause).await;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What is told of a task to programs.
#[derive(Serialize)]
struct Line<'a> {
    id: TaskId,
    #[serde(rename = "type")]
    task_type: &'a str,
    identifier: &'a str,
    status: TaskStatus,
    #[serde(flatten)]
    counts: Counts,
}

/// Where a picture is shown: drawn over the one before, or told in lines.
struct Stage {
    kind: Kind,
    /// Lines of the picture that is there.
    drawn: usize,
    told: Option<(Instant, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Screen,
    Lines,
    Json,
}

impl Stage {
    fn new(json: bool) -> Self {
        let kind = match (json, io::stdout().is_terminal()) {
            (true, _) => Kind::Json,
            (false, true) => Kind::Screen,
            (false, false) => Kind::Lines,
        };
        Self { kind, drawn: 0, told: None }
    }

    fn show(&mut self, view: &View) -> Result<(), Failure> {
        let now = Clock::system().now();
        match self.kind {
            Kind::Screen => self.draw(&view.picture(now, Screen::of_output())),
            Kind::Lines => {
                let standing = self.standing(&view.task);
                let due = self
                    .told
                    .as_ref()
                    .is_none_or(|(at, told)| at.elapsed() >= LINE_EVERY && *told != standing);
                if due {
                    self.told = Some((Instant::now(), standing));
                    print(&format!(
                        "{} {}: {}\n",
                        render::clock(now),
                        view.task.status.as_str(),
                        render::summary(&view.task, now)
                    ))?;
                }
                Ok(())
            }
            Kind::Json => print_line(&view.task),
        }
    }

    fn away(&mut self, view: &View, error: &ClientError) -> Result<(), Failure> {
        let now = Clock::system().now();
        match self.kind {
            Kind::Screen => {
                let away = Screen::of_output().paint("the API does not answer, trying again", Colour::Open);
                self.draw(&format!("{}{away}\n", view.picture(now, Screen::of_output())))
            }
            Kind::Lines => print(&format!("{} {error}; trying again\n", render::clock(now))),
            Kind::Json => Ok(()),
        }
    }

    fn show_open(
        &mut self,
        open: &[Task],
        more: bool,
        known: &mut BTreeMap<TaskId, String>,
    ) -> Result<Vec<TaskId>, Failure> {
        let now = Clock::system().now();
        if self.kind == Kind::Screen {
            let rest =
                if more { "there are more: `tasker list --status CREATED,SENT,INCOMPLETE`\n" } else { "" };
            let none = if open.is_empty() { "no open tasks\n" } else { "" };
            self.draw(&format!("{}{none}{rest}", render::tasks(open, now, false, Screen::of_output())))?;
            return Ok(Vec::new());
        }
        let before = std::mem::take(known);
        for task in open {
            let standing = self.standing(task);
            if before.get(&task.id) != Some(&standing) {
                self.tell(task, now)?;
            }
            known.insert(task.id, standing);
        }
        // Those that do not stand in the list any more have ended, or there is no room for them.
        Ok(before.into_keys().filter(|id| !known.contains_key(id)).collect())
    }

    /// What is told of a task, without the time that has passed: that alone is no news.
    fn standing(&self, task: &Task) -> String {
        match self.kind {
            Kind::Json => format!("{} {:?}", task.status.as_str(), task.counts),
            _ => format!("{} {}", task.status.as_str(), render::summary(task, task.start_time)),
        }
    }

    fn tell(&self, task: &Task, now: Timestamp) -> Result<(), Failure> {
        if self.kind == Kind::Json {
            return print_line(task);
        }
        print(&format!(
            "{} {}, {}\n",
            render::clock(now),
            render::heading(task, Screen::PLAIN),
            render::summary(task, now)
        ))
    }

    /// Draws a picture over the one before. What does not fit on the screen is left out: what has scrolled
    /// away cannot be drawn anew.
    fn draw(&mut self, picture: &str) -> Result<(), Failure> {
        let room = Screen::lines_of_output().map_or(usize::MAX, |lines| lines.saturating_sub(1).max(1));
        let lines: Vec<&str> = picture.lines().collect();
        let kept = match lines.split_last() {
            // The last line says how all of it stands.
            Some((last, others)) if lines.len() > room => others
                .iter()
                .take(room.saturating_sub(2))
                .copied()
                .chain(["  ...", *last])
                .collect::<Vec<_>>(),
            _ => lines,
        };
        let text: String = kept.iter().flat_map(|line| [*line, "\n"]).collect();
        let over = erase(self.drawn);
        self.drawn = kept.len();
        print(&format!("{over}{text}"))
    }

    fn clear(&mut self) -> Result<(), Failure> {
        let drawn = std::mem::take(&mut self.drawn);
        if drawn > 0 { print(&erase(drawn)) } else { Ok(()) }
    }
}

/// Goes so many lines up and erases from there on.
fn erase(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}F\x1b[J") }
}

fn print_line(task: &Task) -> Result<(), Failure> {
    let Task { id, status, counts, .. } = task;
    let (task_type, identifier) = (task.task_type.as_str(), task.identifier.as_str());
    let line = Line { id: *id, task_type, identifier, status: *status, counts: *counts };
    print(&(serde_json::to_string(&line).unwrap_or_default() + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples::task;

    fn view() -> View {
        let names =
            (1..=12).map(|number| format!("web{number}").parse().expect("a name")).collect::<Vec<_>>();
        let states = [6, 6, 7, 4, 3, 3, 3, 3, 3, 3, 3, 3].into_iter().collect();
        let counts = Counts { expected: 12, received: 12, finished: 3, failed: 1, ..Counts::default() };
        View { states, names, ..View::of(Task { counts, ..task() }) }
    }

    #[test]
    fn a_task_is_shown_by_states() {
        let picture = view().picture(task().start_time, Screen::PLAIN);
        let lines: Vec<&str> = picture.lines().skip(1).map(str::trim_end).collect();
        assert_eq!(
            lines[..4],
            [
                "      8 received   web5, web6, web7, web8, web9, web10, web11, web12",
                "      1 running    web4",
                "      2 ok",
                "      1 failed     web3",
            ]
        );
        assert!(lines[4].starts_with("3 of 12 endpoints finished, 1 failed"), "{picture}");
    }

    #[test]
    fn changes_are_followed_and_nothing_else() {
        let mut view = view();
        let vector = |states: Option<&str>, changes: Option<&str>, count| LiveVector {
            generation: String::new(),
            count,
            states: states.map(str::to_owned),
            changes: changes.map(str::to_owned),
        };
        // The third one is `ok`: two places lie before it.
        assert!(view.take_vector(&vector(None, Some("Jg=="), 12)));
        assert_eq!(view.states.get(2), Some(PartState::Ok.code()));
        assert!(!view.take_vector(&vector(None, Some("Jg=="), 11)), "another vector");
        assert!(!view.take_vector(&vector(None, None, 12)));
        assert!(view.take_vector(&vector(Some("Zg=="), None, 2)));
        assert_eq!(view.states.iter().collect::<Vec<_>>(), [6, 6]);
    }

    #[test]
    fn a_picture_is_drawn_over_the_one_before() {
        assert_eq!((erase(0), erase(3)), (String::new(), "\x1b[3F\x1b[J".to_owned()));
    }
}
