//! What endpoints did with tasks.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::domain::{
    self, AnswerDigest, AttemptError, EndpointName, Json, LateAnswer, ResponseStatus, TaskId, Timestamp,
};

/// What one endpoint did with the task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskResponse {
    /// The task's id, `/`, the endpoint.
    #[schema(value_type = String)]
    pub id: ResponseId,
    /// The task.
    #[schema(value_type = uuid::Uuid)]
    pub task_id: TaskId,
    /// Who answers.
    #[schema(value_type = String)]
    pub endpoint: EndpointName,
    /// Where it stands.
    pub status: ResponseStatus,
    /// 0 for success; null until finished.
    #[schema(required = true)]
    pub errnr: Option<i32>,
    /// What went wrong, empty on success.
    #[serde(default)]
    #[schema(required = true)]
    pub errmsg: String,
    /// What the handler answered.
    #[schema(value_type = Option<serde_json::Value>, required = true)]
    pub payload: Option<Json>,
    /// The attempt that decided, from 1; 0 before the first.
    #[serde(default)]
    #[schema(required = true)]
    pub attempt: u32,
    /// What earlier attempts died of.
    #[serde(default)]
    #[schema(required = true)]
    pub attempts: Vec<AttemptError>,
    /// Percent done as the handler last said.
    #[schema(required = true)]
    pub progress: Option<u8>,
    /// The last lines the handler logged.
    #[schema(required = true)]
    pub log: Option<String>,
    /// When it was learnt that the endpoint has the task.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub start_time: Option<Timestamp>,
    /// When anything here last changed.
    #[schema(value_type = String, format = DateTime)]
    pub last_modified_time: Timestamp,
    /// Whether the endpoint has received it, has not finished it and is not there any more. It is asked when
    /// it returns; if it does not until the task expires, the response fails with 69.
    #[serde(default)]
    #[schema(required = true)]
    pub vanished: bool,
    /// Another answer, which came after the end and changed nothing; only the first is kept.
    #[schema(required = true)]
    pub late: Option<LateAnswer>,
    /// The group of equal answers that this one belongs to, as in `GET /{type}/{id}/answers`; null until
    /// there is an answer.
    #[serde(default)]
    #[schema(value_type = Option<String>, required = true)]
    pub answer: Option<AnswerDigest>,
}

/// A page of responses.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ResponsePage {
    /// The responses, by endpoint.
    pub responses: Vec<TaskResponse>,
    /// Where to go on; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// The name of a response: `<task id>/<endpoint>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseId {
    /// The task.
    pub task: TaskId,
    /// Who answers.
    pub endpoint: EndpointName,
}

impl fmt::Display for ResponseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.task, self.endpoint)
    }
}

impl Serialize for ResponseId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ResponseId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let id = text.split_once('/').and_then(|(task, endpoint)| {
            Some(Self { task: task.parse().ok()?, endpoint: endpoint.parse().ok()? })
        });
        id.ok_or_else(|| {
            D::Error::custom(format!("{text:?} is not the id of a response: expected `<task id>/<endpoint>`"))
        })
    }
}

impl From<domain::Response> for TaskResponse {
    fn from(response: domain::Response) -> Self {
        Self {
            id: ResponseId { task: response.task_id, endpoint: response.endpoint.clone() },
            task_id: response.task_id,
            endpoint: response.endpoint,
            status: response.status,
            errnr: response.errnr,
            errmsg: response.errmsg,
            payload: response.payload,
            attempt: response.attempt,
            attempts: response.attempts,
            progress: response.progress,
            log: response.log,
            start_time: response.start_time,
            last_modified_time: response.last_modified_time,
            vanished: response.vanished,
            late: response.late,
            answer: response.answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples;
    use super::*;
    use crate::domain::json;

    #[test]
    fn a_response_has_the_members_of_the_contract() {
        let response = TaskResponse {
            payload: Some(json(&"x")),
            attempt: 2,
            attempts: vec![AttemptError { attempt: 1, errnr: 75, errmsg: "busy".to_owned() }],
            progress: Some(80),
            start_time: None,
            last_modified_time: Timestamp::from_micros(0),
            ..examples::response()
        };
        let text = concat!(
            r#"{"id":"0190a6c8-5f5e-7c3a-8000-000000000001/console1","task_id":"0190a6c8-5f5e-7c3a-8000-000000000001","#,
            r#""endpoint":"console1","status":"FINISHED","errnr":32,"errmsg":"could not backup!","payload":"x","attempt":2,"#,
            r#""attempts":[{"attempt":1,"errnr":75,"errmsg":"busy"}],"progress":80,"log":null,"start_time":null,"#,
            r#""last_modified_time":"1970-01-01T00:00:00.000000Z","vanished":false,"late":null,"answer":null}"#
        );
        assert_eq!(serde_json::to_string(&response).expect("serialises"), text);
        let read: TaskResponse = serde_json::from_str(text).expect("reads what it writes");
        assert_eq!(serde_json::to_string(&read).expect("serialises"), text);
    }

    #[test]
    fn responses_of_older_and_newer_servers_are_read() {
        let older = r#"{"id":"0190a6c8-5f5e-7c3a-8000-000000000001/console1","task_id":"0190a6c8-5f5e-7c3a-8000-000000000001",
            "endpoint":"console1","status":"EXPECTED","last_modified_time":"2024-07-12T10:00:05Z","colour":[]}"#;
        let response: TaskResponse = serde_json::from_str(older).expect("is read");
        assert_eq!(
            (response.errnr, response.errmsg.as_str(), response.attempt, response.vanished),
            (None, "", 0, false)
        );
    }
}
