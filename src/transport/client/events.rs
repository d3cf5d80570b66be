//! Events of the API as they come.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::{Method, Response};
use serde::de::DeserializeOwned;

use super::Client;
use super::error::ClientError;

/// A stream on which nothing comes for so long is cut: the API says every 15 s that it is there.
const SILENCE: Duration = Duration::from_secs(40);

/// Bytes of one event at most.
const LONGEST: usize = 8 << 20;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it tells of, such as `task`.
    pub name: String,
    /// JSON.
    pub data: String,
}

impl Event {
    /// Its data as a value.
    ///
    /// # Errors
    /// When they have another form.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.data)
    }
}

/// An open stream of events.
#[derive(Debug)]
pub struct Events {
    client: Client,
    answer: Response,
    text: Text,
    /// The id of the last events that were given out.
    last: Option<String>,
}

impl Client {
    /// Watches things such as `task:ID`, after the event with the id `last` if that is known.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn events(&self, watch: &str, last: Option<&str>) -> Result<Events, ClientError> {
        let mut request = self.request(Method::GET, &["events"])?.query(&[("watch", watch)]);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        // The head has to come soon; the rest takes its time.
        let sent = tokio::time::timeout(SILENCE, request.send()).await.map_err(|_| self.silent())?;
        let answer = self.admitted(sent.map_err(|error| self.failure(&error))?).await?;
        Ok(Events { client: self.clone(), answer, text: Text::default(), last: last.map(str::to_owned) })
    }

    fn silent(&self) -> ClientError {
        ClientError::Lost { url: self.url(), reason: format!("nothing came for {} s", SILENCE.as_secs()) }
    }
}

impl Events {
    /// The next event. May be dropped and called again.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Lost`] at the end of the stream, also when the API is stopped.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some((event, id)) = self.text.events.pop_front() {
                self.last = id.or(self.last.take());
                return Ok(event);
            }
            let chunk =
                tokio::time::timeout(SILENCE, self.answer.chunk()).await.map_err(|_| self.client.silent())?;
            let lost = |reason: &str| ClientError::Lost { url: self.client.url(), reason: reason.to_owned() };
            match chunk.map_err(|error| self.client.failure(&error))? {
                Some(chunk) if self.text.rest.len() + chunk.len() > LONGEST => {
                    return Err(lost("an event is too long"));
                }
                Some(chunk) => self.text.push(&chunk),
                None => return Err(lost("the stream of events has ended")),
            }
        }
    }

    /// Where to go on after a cut.
    pub fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }
}

/// What has come, taken apart.
#[derive(Debug, Default)]
struct Text {
    rest: Vec<u8>,
    events: VecDeque<(Event, Option<String>)>,
}

impl Text {
    fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = self.rest.drain(..end + 2).collect();
            self.events.extend(event(&String::from_utf8_lossy(&block)));
        }
    }
}

/// The event in a block of lines with its id; none in one without data, such as a sign of life.
fn event(block: &str) -> Option<(Event, Option<String>)> {
    let field = |wanted: &str| {
        let lines = block.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| *name == wanted);
        lines.map(|(_, value)| value.strip_prefix(' ').unwrap_or(value).to_owned()).next_back()
    };
    Some((Event { data: field("data")?, name: field("event")? }, field("id")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = "retry: 1000\n\nevent: task\ndata: {\"a\": 1}\n\n: alive\n\nevent: queues\ndata: {\"b\":\"ä\"}\nid: ab-7\n\n";
        for size in 1..text.len() {
            let mut read = Text::default();
            text.as_bytes().chunks(size).for_each(|chunk| read.push(chunk));
            let event = |name: &str, data: &str| Event { name: name.to_owned(), data: data.to_owned() };
            let expected = [
                (event("task", "{\"a\": 1}"), None),
                (event("queues", "{\"b\":\"ä\"}"), Some("ab-7".to_owned())),
            ];
            assert_eq!(Vec::from(read.events), expected, "{size}");
            assert!(read.rest.is_empty());
        }
    }
}
