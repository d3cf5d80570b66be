//! `tasker submit --batch`: many submissions, one on each line of a file.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde_json::value::RawValue;

use crate::client::Client;
use crate::contract::{BatchAnswer, BatchVerdict};

use super::access;
use super::exit::Code;
use super::global::Global;
use super::input;
use super::output::{self, Failure, note, print, print_json};

/// Submissions in one request, as many as the API takes.
const MOST: usize = 1000;

/// Bytes of one request beyond its last submission.
const BYTES: usize = 4 << 20;

/// What came of all lines so far.
#[derive(Debug, Default)]
struct Sum {
    new: usize,
    before: usize,
    refused: usize,
}

pub(super) async fn submit(global: &Global, file: &Path) -> Result<Code, Failure> {
    let name = input::name(file);
    let unreadable = |error: io::Error| input::unreadable(file, &error);
    let lines: Box<dyn BufRead + Send> = match file == Path::new("-") {
        true => Box::new(BufReader::new(io::stdin())),
        false => Box::new(BufReader::new(File::open(file).map_err(unreadable)?)),
    };
    let client = access::client(global)?;
    let (mut batch, mut bytes, mut sum) = (Vec::new(), 0, Sum::default());
    for (at, line) in lines.lines().enumerate() {
        let line = line.map_err(unreadable)?;
        if line.trim().is_empty() {
            continue;
        }
        let line = RawValue::from_string(line.trim().to_owned()).map_err(|error| {
            Failure::Usage(format!("{name}, line {}: not JSON: {error}{}", at + 1, sum.so_far()))
        })?;
        bytes += line.get().len();
        batch.push((at + 1, line));
        if batch.len() == MOST || bytes >= BYTES {
            sum.send(global, &client, &batch).await?;
            (batch, bytes) = (Vec::new(), 0);
        }
    }
    if !batch.is_empty() {
        sum.send(global, &client, &batch).await?;
    }
    if !global.json {
        print(&format!(
            "submitted: {}, submitted before: {}, refused: {}\n",
            sum.new, sum.before, sum.refused
        ))?;
    }
    Ok(if sum.refused == 0 { Code::Ok } else { Code::Failure })
}

fn texts(batch: &[(usize, Box<RawValue>)]) -> Vec<&RawValue> {
    batch.iter().map(|(_, line)| &**line).collect()
}

impl Sum {
    /// Submits some lines and adds what came of them. An error says how many were sent before.
    async fn send(
        &mut self,
        global: &Global,
        client: &Client,
        batch: &[(usize, Box<RawValue>)],
    ) -> Result<(), Failure> {
        let halfway = |error| Failure::Halfway { error, so_far: self.so_far() };
        let answer = client.submit_many(&texts(batch)).await.map_err(halfway)?;
        self.add(global, batch, answer)
    }

    /// Adds what came of some lines. People are told of those that were refused, programs of each.
    fn add(
        &mut self,
        global: &Global,
        batch: &[(usize, Box<RawValue>)],
        answer: BatchAnswer,
    ) -> Result<(), Failure> {
        for warning in &answer.warnings {
            output::warn(warning);
        }
        for ((line, _), verdict) in batch.iter().zip(answer.results) {
            let BatchVerdict { status, problem, .. } = &verdict;
            match (status, problem) {
                (_, Some(problem)) => {
                    self.refused += 1;
                    if !global.json {
                        note(&format!("tasker: line {line}: {problem}"));
                    }
                }
                (200, None) => self.before += 1,
                (_, None) => self.new += 1,
            }
            if global.json {
                print_json(&verdict)?;
            }
        }
        Ok(())
    }

    /// What an error in the middle has to add.
    fn so_far(&self) -> String {
        match self.new + self.before + self.refused {
            0 => String::new(),
            lines => {
                format!(" ({lines} submissions before it were sent; the same file may be submitted again)")
            }
        }
    }
}
