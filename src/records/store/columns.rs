//! Values in columns: what both databases keep alike, and how a row that cannot be read is reported.

use std::str::FromStr;

use serde_json::value::RawValue;

use super::subscription::SubscriptionState;
use super::{Result, StoreError};
use crate::domain::{
    AttemptError, EndpointName, Json, Labels, PayloadKey, ResponseStatus, TaskStatus, TaskType,
};

/// JSON text for a column.
pub(super) fn json_text<T: serde::Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Statement {
        reason: format!("a value cannot be written as JSON: {error}"),
    })
}

/// A list as JSON text, or `None` for an empty one.
pub(super) fn list<T: serde::Serialize>(items: &[T]) -> Result<Option<String>> {
    if items.is_empty() { Ok(None) } else { json_text(items).map(Some) }
}

/// Labels as JSON text; none where there are none.
pub(super) fn labels(labels: &Labels) -> Result<Option<String>> {
    if labels.is_empty() { Ok(None) } else { json_text(labels).map(Some) }
}

/// Labels out of their column.
pub(super) fn labels_of(text: Option<&str>) -> Result<Labels> {
    text.map_or_else(
        || Ok(Labels::default()),
        |text| serde_json::from_str(text).map_err(|error| corrupt("endpoint, column labels".into(), error)),
    )
}

/// Attempts out of their column.
pub(super) fn attempts(list: Option<&str>, at: impl FnOnce() -> String) -> Result<Vec<AttemptError>> {
    list.map_or_else(
        || Ok(Vec::new()),
        |list| serde_json::from_str(list).map_err(|error| corrupt(at(), error)),
    )
}

/// A SHA-256 out of its column.
pub(super) fn sha256(bytes: &[u8], at: impl FnOnce() -> String) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| corrupt(at(), format!("{} bytes", bytes.len())))
}

/// A key of a payload out of a column of `queued_task`.
pub(super) fn payload_key(bytes: Option<&[u8]>, column: &str) -> Result<Option<PayloadKey>> {
    bytes.map(|bytes| sha256(bytes, || format!("queued_task, column {column}"))).transpose()
}

/// A name out of a column.
pub(super) fn name<T: FromStr<Err: std::fmt::Display>>(text: &str, at: impl FnOnce() -> String) -> Result<T> {
    text.parse().map_err(|error| corrupt(at(), error))
}

/// A name out of a column that may have none.
pub(super) fn optional_name<T: FromStr<Err: std::fmt::Display>>(
    text: Option<&str>,
    at: impl FnOnce() -> String,
) -> Result<Option<T>> {
    text.map(|text| name(text, at)).transpose()
}

/// An endpoint's name out of a column.
pub(super) fn endpoint(text: &str) -> Result<EndpointName> {
    name(text, || format!("endpoint name {text:?}"))
}

/// A task type out of a column.
pub(super) fn task_type(text: &str) -> Result<TaskType> {
    name(text, || format!("task type {text:?}"))
}

/// A status out of its column.
pub(super) fn task_status(code: u8, at: impl FnOnce() -> String) -> Result<TaskStatus> {
    TaskStatus::from_code(code).ok_or_else(|| corrupt(at(), format!("{code} is not a status")))
}

/// A status out of its column.
pub(super) fn response_status(code: u8, at: impl FnOnce() -> String) -> Result<ResponseStatus> {
    ResponseStatus::from_code(code).ok_or_else(|| corrupt(at(), format!("{code} is not a status")))
}

/// A state out of its column.
pub(super) fn subscription_state(code: u8) -> Result<SubscriptionState> {
    SubscriptionState::from_code(code)
        .ok_or_else(|| corrupt("subscription, column state".into(), format!("{code} is not a state")))
}

/// A JSON value out of its column.
pub(super) fn json(text: String, at: impl FnOnce() -> String) -> Result<Json> {
    RawValue::from_string(text).map(Json::from).map_err(|error| corrupt(at(), error))
}

/// The error of a row that cannot be read.
pub(super) fn corrupt(at: String, error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { reason: format!("{at}: {error}") }
}
