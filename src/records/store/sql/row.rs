//! What was read.

use chrono::NaiveDateTime;
use sqlx::Row as _;
use sqlx::error::UnexpectedNullError;
use sqlx::mysql::MySqlRow;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::domain::{AnswerDigest, Counts, EndpointName, TaskId, TaskType, Timestamp};
use crate::farm::ObjectId;
use crate::store::columns;
use crate::store::fault::Fault;
use crate::store::ledger::counts_of;

/// A row of one of the two databases.
pub(in crate::store) enum Row {
    MySql(MySqlRow),
    Sqlite(SqliteRow),
}

impl Row {
    /// The value of a column, counted from 0.
    pub fn get<'r, T: Content<'r>>(&'r self, at: usize) -> Result<T, Fault> {
        T::read(self, at)
    }

    /// The number that a `COUNT` or a sum of whole numbers has come to.
    pub fn count(&self, at: usize) -> Result<u64, Fault> {
        Ok(self.get::<i64>(at)?.unsigned_abs())
    }

    /// The values from left to right.
    pub const fn cells(&self) -> Cells<'_> {
        Cells { row: self, at: 0 }
    }
}

/// The values of a row from left to right: a reader takes its columns and leaves the rest to the next reader.
pub(in crate::store) struct Cells<'r> {
    row: &'r Row,
    at: usize,
}

impl<'r> Cells<'r> {
    /// The next value.
    pub fn take<T: Content<'r>>(&mut self) -> Result<T, Fault> {
        let at = self.at;
        self.at += T::WIDTH;
        T::read(self.row, at)
    }
}

/// What a value can be read as.
pub(in crate::store) trait Cell<'r>: Sized {
    /// Reads it; nothing for NULL.
    fn read(row: &'r Row, at: usize) -> Result<Option<Self>, Fault>;
}

/// What a column holds: a [`Cell`], or one that may be NULL; or what some columns beside each other hold
/// together.
pub(in crate::store) trait Content<'r>: Sized {
    /// How many columns it takes.
    const WIDTH: usize = 1;

    fn read(row: &'r Row, at: usize) -> Result<Self, Fault>;
}

impl<'r, T: Cell<'r>> Content<'r> for T {
    fn read(row: &'r Row, at: usize) -> Result<Self, Fault> {
        let null =
            || sqlx::Error::ColumnDecode { index: at.to_string(), source: Box::new(UnexpectedNullError) };
        Ok(<T as Cell>::read(row, at)?.ok_or_else(null)?)
    }
}

impl<'r, T: Cell<'r>> Content<'r> for Option<T> {
    fn read(row: &'r Row, at: usize) -> Result<Self, Fault> {
        <T as Cell>::read(row, at)
    }
}

/// What sqlx itself reads from both.
macro_rules! plain {
    ($($type:ty),*) => {
        $(impl<'r> Cell<'r> for $type {
            fn read(row: &'r Row, at: usize) -> Result<Option<Self>, Fault> {
                Ok(match row {
                    Row::MySql(row) => row.try_get(at)?,
                    Row::Sqlite(row) => row.try_get(at)?,
                })
            }
        })*
    };
}

plain!(bool, u8, u32, i32, i64, Uuid, &'r str, String, &'r [u8], Vec<u8>);

impl Cell<'_> for Timestamp {
    fn read(row: &Row, at: usize) -> Result<Option<Self>, Fault> {
        Ok(match row {
            Row::MySql(row) => row.try_get::<Option<NaiveDateTime>, _>(at)?.map(|time| time.and_utc().into()),
            Row::Sqlite(row) => row.try_get::<Option<i64>, _>(at)?.map(Self::from_micros),
        })
    }
}

impl Cell<'_> for TaskId {
    fn read(row: &Row, at: usize) -> Result<Option<Self>, Fault> {
        Ok(row.get::<Option<Uuid>>(at)?.map(Self))
    }
}

impl Cell<'_> for ObjectId {
    fn read(row: &Row, at: usize) -> Result<Option<Self>, Fault> {
        let bytes = row.get::<Option<&[u8]>>(at)?;
        let corrupt = |bytes: &[u8]| {
            columns::corrupt(format!("column {at}"), format!("an id has 12 bytes, not {}", bytes.len()))
        };
        Ok(bytes.map(|bytes| Self::from_bytes(bytes).ok_or_else(|| corrupt(bytes))).transpose()?)
    }
}

impl Cell<'_> for AnswerDigest {
    fn read(row: &Row, at: usize) -> Result<Option<Self>, Fault> {
        let bytes = row.get::<Option<&[u8]>>(at)?;
        let corrupt = |bytes: &[u8]| {
            columns::corrupt(
                format!("column {at}"),
                format!("a digest of an answer has 16 bytes, not {}", bytes.len()),
            )
        };
        Ok(bytes
            .map(|bytes| bytes.try_into().map(Self::from_bytes).map_err(|_| corrupt(bytes)))
            .transpose()?)
    }
}

impl Cell<'_> for EndpointName {
    fn read(row: &Row, at: usize) -> Result<Option<Self>, Fault> {
        Ok(row.get::<Option<&str>>(at)?.map(columns::endpoint).transpose()?)
    }
}

impl Cell<'_> for TaskType {
    fn read(row: &Row, at: usize) -> Result<Option<Self>, Fault> {
        Ok(row.get::<Option<&str>>(at)?.map(columns::task_type).transpose()?)
    }
}

/// In the order of [`count_columns`](crate::store::ledger::count_columns).
impl Content<'_> for Counts {
    const WIDTH: usize = 6;

    fn read(row: &Row, at: usize) -> Result<Self, Fault> {
        let mut counts = [0; Self::WIDTH];
        for (place, count) in counts.iter_mut().enumerate() {
            *count = row.get(at + place)?;
        }
        Ok(counts_of(counts))
    }
}

/// Declares what is read together: for each column its name here, its type, and its name in SQL. `LIST` is
/// what to select, `read` takes it from a row; a column more or less is a line more or less.
macro_rules! selected {
    ($(#[$meta:meta])* $name:ident<$r:lifetime> {
        $first:ident: $first_type:ty = $first_sql:literal $(, $column:ident: $type:ty = $sql:literal)* $(,)?
    }) => {
        $(#[$meta])*
        pub(in crate::store) struct $name<$r> {
            pub $first: $first_type,
            $(pub $column: $type,)*
        }

        impl<$r> $name<$r> {
            pub const LIST: &'static str = concat!($first_sql $(, ", ", $sql)*);

            pub fn read(cells: &mut $crate::store::sql::Cells<$r>) -> Result<Self, $crate::store::fault::Fault> {
                Ok(Self { $first: cells.take()?, $($column: cells.take()?,)* })
            }
        }
    };
}
pub(in crate::store) use selected;
