//! A request as people see it: its steps one below the other, each with its jobs. Pure: values in, text out.

use std::fmt::Write;

use crate::contract::{Job, Request, RequestStep};
use crate::domain::{JobStatus, RequestStatus, Timestamp, When};

use super::render::{age, clock, last_line_first, seconds, visible};
use super::table::{Cell, Colour, Narrow, Screen, Table, line, width};

/// Jobs of a step that are shown one by one; of more, those that went well or wait are counted.
const EACH: usize = 12;

/// How the last attempt of a job stands, in a sign, a few words, and its error.
struct Standing {
    sign: Cell,
    words: Cell,
    message: String,
}

/// How many jobs of a request stand how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) all: usize,
    pub(super) completed: usize,
    failed: usize,
    running: usize,
    retried: usize,
    canceled: usize,
}

impl Sum {
    pub(super) fn of(request: &Request) -> Self {
        let mut sum = Self::default();
        for (place, step) in request.steps.iter().enumerate() {
            for name in &step.jobs {
                sum.all += 1;
                let attempts = attempts(request, place, name);
                match attempts.last().map(|job| job.status) {
                    Some(JobStatus::Completed) => sum.completed += 1,
                    Some(JobStatus::Failed) => sum.failed += 1,
                    Some(JobStatus::Canceled) => sum.canceled += 1,
                    Some(JobStatus::Retry) => sum.retried += 1,
                    Some(JobStatus::New | JobStatus::Inprogress) if attempts.len() > 1 => sum.retried += 1,
                    Some(JobStatus::New | JobStatus::Inprogress) => sum.running += 1,
                    None => {}
                }
            }
        }
        sum
    }

    /// Jobs that have ended.
    pub(super) const fn ended(&self) -> usize {
        self.completed + self.failed + self.canceled
    }
}

/// Status, action and token of a request.
pub(super) fn heading(request: &Request, screen: Screen) -> String {
    let status = screen.paint(request.status.as_str(), colour(request.status));
    format!("{status} {} (request {})", visible(&request.action), visible(&request.token))
}

fn colour(status: RequestStatus) -> Colour {
    match status {
        RequestStatus::Completed => Colour::Good,
        RequestStatus::Failed => Colour::Bad,
        RequestStatus::Canceled => Colour::Open,
        RequestStatus::Queuing | RequestStatus::Inprogress => Colour::Plain,
    }
}

/// How a request stands, in a line: `step 2 of 2, 3 of 4 jobs completed, 1 failed, in 5.0 s`.
pub(super) fn summary(request: &Request, now: Timestamp) -> String {
    let sum = Sum::of(request);
    let steps = request.steps.len();
    let head = match request.status {
        RequestStatus::Inprogress => format!("step {} of {steps}, ", begun(request)),
        _ => String::new(),
    };
    let mut text = format!(
        "{head}{} of {} {} completed",
        sum.completed,
        sum.all,
        if sum.all == 1 { "job" } else { "jobs" }
    );
    let counts = [
        (sum.failed, "failed"),
        (sum.running, "in progress"),
        (sum.retried, "waiting for a retry"),
        (sum.canceled, "canceled"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        _ = write!(text, ", {count} {what}");
    }
    let (time, word) = request.completed.map_or((now, "after"), |end| (end, "in"));
    _ = write!(text, ", {word} {}", seconds(time.since(request.created)));
    text
}

/// A request with its steps and jobs; with `whole`, also each job of a long step, earlier attempts, params
/// and extras.
pub(super) fn picture(request: &Request, now: Timestamp, whole: bool, screen: Screen) -> String {
    let mut text = heading(request, screen) + "\n";
    text += &steps(request, now, whole, screen);
    if let Some(error) = &request.error {
        _ = writeln!(text, "{}", screen.paint(&visible(error), Colour::Bad));
    }
    if whole {
        _ = writeln!(
            text,
            "params  {}\nextras  {}",
            visible(request.params.get()),
            visible(request.extras.get())
        );
    }
    text + &summary(request, now) + "\n"
}

/// The steps with their jobs, an arrow from each step to the next.
pub(super) fn steps(request: &Request, now: Timestamp, whole: bool, screen: Screen) -> String {
    let names = request.steps.iter().flat_map(|step| &step.jobs).map(|name| width(&visible(name)));
    let widest = names.max().unwrap_or_default();
    let mut text = String::new();
    for (place, step) in request.steps.iter().enumerate() {
        let last = place + 1 == request.steps.len();
        let rail = if last { "  " } else { "│ " };
        let name = visible(&step.name) + when(step);
        text += &line(&[sign_of_step(request, place), format!(" {name}").into()], screen);
        let mut counted: Vec<(Cell, usize)> = Vec::new();
        for name in &step.jobs {
            let attempts = attempts(request, place, name);
            let standing = standing(&attempts, request.status.is_final(), now);
            let quiet =
                attempts.last().is_none_or(|job| matches!(job.status, JobStatus::Completed | JobStatus::New));
            if !whole && step.jobs.len() > EACH && quiet {
                let words = attempts.last().map_or("waiting", |job| job.status.as_str());
                match counted.iter_mut().find(|(cell, _)| cell.text == words) {
                    Some((_, count)) => *count += 1,
                    None => counted.push((Cell::new(words, standing.words.colour), 1)),
                }
                continue;
            }
            let name = visible(name);
            let blanks = " ".repeat(widest - width(&name) + 2);
            let message =
                if standing.message.is_empty() { String::new() } else { format!("  {}", standing.message) };
            text += &line(
                &[
                    rail.into(),
                    standing.sign,
                    format!(" {name}{blanks}").into(),
                    standing.words,
                    message.into(),
                ],
                screen,
            );
            let earlier = attempts.split_last().map_or(&[][..], |(_, earlier)| earlier);
            for attempt in earlier.iter().filter(|_| whole) {
                let error = attempt.error.as_deref().map(last_line_first).unwrap_or_default();
                let at = attempt.completed.map(clock).unwrap_or_default();
                let told = format!(
                    "{rail}    try {}  {}  {at}  {}",
                    attempt.attempt,
                    attempt.status.as_str(),
                    visible(&error)
                );
                text += &line(&[told.into()], screen);
            }
        }
        for (what, count) in counted {
            let told = format!("{count} more: {}", what.text);
            text += &line(&[format!("{rail}  ").into(), Cell::new(told, what.colour)], screen);
        }
        if !last {
            text += "▼\n";
        }
    }
    text
}

/// In which case a step runs, where it is not the usual one.
const fn when(step: &RequestStep) -> &'static str {
    match step.when {
        When::AllOk => "",
        When::AllDone => " (all_done)",
        When::AnyFailed => " (any_failed)",
    }
}

/// The attempts of a job, oldest first.
fn attempts<'a>(request: &'a Request, place: usize, name: &str) -> Vec<&'a Job> {
    let jobs = request.jobs.iter().flatten();
    let mut attempts: Vec<_> = jobs.filter(|job| job.step as usize == place && job.name == name).collect();
    attempts.sort_by_key(|job| job.attempt);
    attempts
}

/// How a step stands: as the worst of its jobs.
fn sign_of_step(request: &Request, place: usize) -> Cell {
    let last = |name: &String| attempts(request, place, name).last().map(|job| job.status);
    let states: Vec<_> = request.steps[place].jobs.iter().filter_map(last).collect();
    let any = |wanted: &[JobStatus]| states.iter().any(|status| wanted.contains(status));
    if states.is_empty() {
        Cell::from("·")
    } else if any(&[JobStatus::New, JobStatus::Inprogress, JobStatus::Retry]) && !request.status.is_final() {
        Cell::from("▶")
    } else if any(&[JobStatus::Failed, JobStatus::Retry]) {
        Cell::new("✗", Colour::Bad)
    } else if any(&[JobStatus::Canceled, JobStatus::New, JobStatus::Inprogress]) {
        Cell::new("–", Colour::Open)
    } else {
        Cell::new("✓", Colour::Good)
    }
}

fn standing(attempts: &[&Job], over: bool, now: Timestamp) -> Standing {
    let Some((last, earlier)) = attempts.split_last() else {
        return Standing {
            sign: "·".into(),
            words: if over { "not run" } else { "" }.into(),
            message: String::new(),
        };
    };
    let again = if last.attempt > 1 { format!(" at try {}", last.attempt) } else { String::new() };
    let took = |end: Timestamp| seconds(end.since(last.created));
    let (sign, colour, words) = match last.status {
        JobStatus::New => match last.due_at.filter(|due| *due > now) {
            Some(due) => ("↻", Colour::Open, format!("try {} in {}", last.attempt, age(due.since(now)))),
            None => ("·", Colour::Plain, format!("new{again}")),
        },
        JobStatus::Inprogress => ("▶", Colour::Plain, format!("in progress{again} for {}", took(now))),
        JobStatus::Completed => {
            let within = last.completed.map(|end| format!(" in {}", took(end))).unwrap_or_default();
            ("✓", Colour::Good, format!("completed{again}{within}"))
        }
        JobStatus::Failed => ("✗", Colour::Bad, format!("failed{again}")),
        JobStatus::Retry => ("↻", Colour::Open, format!("retry{again}")),
        JobStatus::Canceled => ("–", Colour::Open, "canceled".to_owned()),
    };
    // While it is tried again, the error of the attempt before says why.
    let open = matches!(last.status, JobStatus::New | JobStatus::Inprogress);
    let error = last.error.as_deref().or_else(|| earlier.last().filter(|_| open)?.error.as_deref());
    let message = error.map(|error| visible(&last_line_first(error))).unwrap_or_default();
    Standing { sign: Cell::new(sign, colour), words: Cell::new(words, colour), message }
}

/// How many steps of a request have begun, or were left out before one that has.
fn begun(request: &Request) -> usize {
    match request.status {
        RequestStatus::Queuing => 0,
        RequestStatus::Completed => request.steps.len(),
        RequestStatus::Inprogress | RequestStatus::Failed | RequestStatus::Canceled => {
            (request.step as usize + 1).min(request.steps.len())
        }
    }
}

/// Requests, one a line.
pub(super) fn requests(requests: &[Request], now: Timestamp, screen: Screen) -> String {
    use Narrow::{Drop, Keep};
    let columns = [
        ("STATUS", Keep),
        ("ACTION", Keep),
        ("CREATED", Drop),
        ("AGE", Keep),
        ("STEP", Keep),
        ("NAME", Drop),
        ("REQUEST", Keep),
    ];
    let mut table = Table::new(columns);
    for request in requests {
        table.push([
            Cell::new(request.status.as_str(), colour(request.status)),
            visible(&request.action).into(),
            clock(request.created).into(),
            age(now.since(request.created)).into(),
            format!("{}/{}", begun(request), request.steps.len()).into(),
            visible(request.request_token.as_deref().unwrap_or_default()).into(),
            visible(&request.token).into(),
        ]);
    }
    table.text(screen)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::examples;

    fn after(seconds: u64) -> Timestamp {
        examples::request().created.after(Duration::from_secs(seconds))
    }

    #[test]
    fn steps_and_jobs_are_drawn() {
        assert_eq!(
            picture(&examples::request(), after(9), false, Screen::PLAIN),
            "\
Inprogress retrieve_user (request 5c1f7e1e-0f1c-4d6a-9a53-0c4d0b1f3f77)
✓ service1_retrieve_user
│ ✓ service1GetUser     completed in 1.0 s
▼
▶ delete_user_accounts
│ ✓ service1DeleteUser  completed in 1.0 s
│ ↻ service2DeleteUser  try 2 in 6s  DELETE http://127.0.0.1:9002/users/333: 503
│ ▶ service3DeleteUser  in progress for 7.0 s
▼
· tell (any_failed)
  · mail
step 2 of 3, 2 of 5 jobs completed, 1 in progress, 1 waiting for a retry, after 9.0 s
"
        );
    }

    #[test]
    fn the_whole_story_has_each_attempt() {
        let text = picture(&examples::request(), after(9), true, Screen::PLAIN);
        for wanted in [
            "│     try 1  retry  2024-07-12 10:00:05Z  DELETE http://127.0.0.1:9002/users/333: 503\n",
            "\nextras  {\"email\":\"a@b\"}\n",
        ] {
            assert!(text.contains(wanted), "no {wanted:?} in {text}");
        }
    }

    #[test]
    fn a_long_step_is_counted() {
        let names: Vec<String> = (0..40).map(|number| format!("job{number}")).collect();
        let first = examples::request().jobs.into_iter().flatten().next().expect("a job");
        let job = |name: &String, status| Job {
            name: name.clone(),
            status,
            step: 0,
            error: Some("no room".to_owned()),
            ..first.clone()
        };
        let jobs = names.iter().enumerate().map(|(place, name)| match place {
            7 => job(name, JobStatus::Failed),
            30.. => job(name, JobStatus::New),
            _ => job(name, JobStatus::Completed),
        });
        let steps = vec![RequestStep { name: "many".to_owned(), jobs: names.clone(), when: When::AllOk }];
        let request = Request { jobs: Some(jobs.collect()), steps, ..examples::request() };
        let text = picture(&request, after(9), false, Screen::PLAIN);
        assert!(
            text.contains("  ✗ job7   failed  no room\n    29 more: completed\n    10 more: new\n"),
            "{text}"
        );
        assert_eq!(
            picture(&request, after(9), true, Screen::PLAIN)
                .lines()
                .filter(|line| line.contains("job"))
                .count(),
            41
        );
    }

    #[test]
    fn a_request_fits_the_screen_and_has_its_colours() {
        let narrow = picture(&examples::request(), after(9), false, Screen::of_width(40));
        assert!(
            narrow.lines().skip(1).all(|line| width(line) <= 40 || line.starts_with("step ")),
            "{narrow}"
        );
        assert!(narrow.contains("│ ↻ service2DeleteUser  try 2 in 6s  DE…\n"), "{narrow}");
        let painted = picture(&examples::request(), after(9), false, Screen::COLOURED);
        assert!(painted.contains("\x1b[32m✓\x1b[0m service1_retrieve_user"), "{painted}");
        let failed = Request {
            status: RequestStatus::Failed,
            error: Some("no\u{1b}[2J".to_owned()),
            ..examples::request()
        };
        let text = picture(&failed, after(9), false, Screen::COLOURED);
        assert!(
            text.contains("\x1b[31mFailed\x1b[0m") && text.contains("\x1b[31mno\\u{1b}[2J\x1b[0m\n"),
            "{text}"
        );
        assert!(text.contains("mail                not run"), "{text}");
    }

    #[test]
    fn lists_requests() {
        assert_eq!(
            requests(&[examples::request()], after(125), Screen::PLAIN),
            "\
STATUS      ACTION         CREATED               AGE   STEP  NAME  REQUEST
Inprogress  retrieve_user  2024-07-12 10:00:00Z  2m5s  2/3         5c1f7e1e-0f1c-4d6a-9a53-0c4d0b1f3f77
"
        );
    }
}
