//! Values for the places in a statement.

use chrono::{DateTime, Utc};
use sqlx::Arguments;
use sqlx::error::BoxDynError;
use uuid::Uuid;

use super::target::Target;
use crate::domain::{AnswerDigest, EndpointName, ResponseStatus, TaskId, TaskStatus, TaskType, Timestamp};
use crate::farm::ObjectId;
use crate::store::queue::QueueState;
use crate::store::subscription::SubscriptionState;

/// A value that both databases take.
pub(in crate::store) trait Value: Sized {
    /// Adds it, or NULL in its place.
    fn add(value: Option<Self>, to: &mut Target<'_>) -> Result<(), BoxDynError>;
}

/// What a statement can be given: a [`Value`], or one that may be absent.
pub(in crate::store) trait Argument {
    fn add(self, to: &mut Target<'_>) -> Result<(), BoxDynError>;
}

impl<T: Value> Argument for T {
    fn add(self, to: &mut Target<'_>) -> Result<(), BoxDynError> {
        Value::add(Some(self), to)
    }
}

impl<T: Value> Argument for Option<T> {
    fn add(self, to: &mut Target<'_>) -> Result<(), BoxDynError> {
        Value::add(self, to)
    }
}

/// What sqlx itself writes for both.
macro_rules! plain {
    ($($type:ty),*) => {
        $(impl Value for $type {
            fn add(value: Option<Self>, to: &mut Target<'_>) -> Result<(), BoxDynError> {
                match to {
                    Target::MySql(_, arguments) => arguments.add(value),
                    Target::Sqlite(_, arguments) => arguments.add(value),
                }
            }
        })*
    };
}

plain!(bool, u8, u32, i32, i64, Uuid, &str, String, &[u8], Vec<u8>);

/// What is written as something else.
macro_rules! as_another {
    ($($type:ty: $value:ident => $another:expr),* $(,)?) => {
        $(impl Value for $type {
            fn add(value: Option<Self>, to: &mut Target<'_>) -> Result<(), BoxDynError> {
                Value::add(value.map(|$value| $another), to)
            }
        })*
    };
}

as_another! {
    TaskId: id => id.0,
    ObjectId: id => id.as_bytes().to_vec(),
    AnswerDigest: digest => digest.as_bytes().to_vec(),
    &EndpointName: name => name.as_str(),
    &TaskType: name => name.as_str(),
    TaskStatus: status => status.code(),
    ResponseStatus: status => status.code(),
    SubscriptionState: state => state.code(),
    QueueState: state => state.code(),
}

/// `DATETIME(6)` on MySQL, microseconds on SQLite.
impl Value for Timestamp {
    fn add(value: Option<Self>, to: &mut Target<'_>) -> Result<(), BoxDynError> {
        match to {
            Target::MySql(_, arguments) => {
                arguments.add(value.map(|time| DateTime::<Utc>::from(time).naive_utc()))
            }
            Target::Sqlite(_, arguments) => arguments.add(value.map(Self::as_micros)),
        }
    }
}
