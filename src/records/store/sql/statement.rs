//! A statement: its text, its arguments, and where it runs.

use std::borrow::Cow;
use std::mem;

use futures::{Stream, TryStreamExt};
use sqlx::error::BoxDynError;
use sqlx::{AssertSqlSafe, query_with};

use super::argument::Argument;
use super::dialect::Dialect;
use super::row::Row;
use super::target::Target;
use crate::store::batch::padded;
use crate::store::fault::Fault;

/// A statement in the making. It runs once.
pub(in crate::store) struct Statement<'s> {
    text: Cow<'static, str>,
    target: Target<'s>,
    /// The first value that could not be written.
    refused: Option<BoxDynError>,
}

impl<'s> Statement<'s> {
    pub const fn new(target: Target<'s>, text: Cow<'static, str>) -> Self {
        Self { text, target, refused: None }
    }

    /// What is spoken here.
    pub const fn dialect(&self) -> Dialect {
        match self.target {
            Target::MySql(..) => Dialect::MySql,
            Target::Sqlite(..) => Dialect::Sqlite,
        }
    }

    /// Goes on with a text.
    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.to_mut().push_str(text);
        self
    }

    /// The value for the next `?` of the text so far that has none.
    pub fn bind(&mut self, value: impl Argument) -> &mut Self {
        if let Err(error) = value.add(&mut self.target) {
            self.refused.get_or_insert(error);
        }
        self
    }

    /// `(?, ?, ...)` with these keys, filled up to one of few lengths.
    pub fn keys<K: Argument + Copy>(&mut self, keys: &[K]) -> &mut Self {
        let mut before = "(?";
        for key in padded(keys) {
            self.push(before).bind(*key);
            before = ", ?";
        }
        self.push(")")
    }

    /// `((?, ?), (?, ?), ...)` with these pairs, filled up to one of few lengths.
    pub fn pairs<A: Argument + Copy, B: Argument + Copy>(&mut self, pairs: &[(A, B)]) -> &mut Self {
        let mut before = self.dialect().pairs();
        for (first, second) in padded(pairs) {
            self.push(before).push("(?, ?)").bind(*first).bind(*second);
            before = ", ";
        }
        self.push(")")
    }

    /// Runs it; answers how many rows it has changed.
    pub async fn execute(&mut self) -> Result<u64, Fault> {
        let text = self.text()?;
        Ok(match &mut self.target {
            Target::MySql(conn, arguments) => {
                query_with(text, mem::take(arguments)).execute(&mut **conn).await?.rows_affected()
            }
            Target::Sqlite(conn, arguments) => {
                query_with(text, mem::take(arguments)).execute(&mut **conn).await?.rows_affected()
            }
        })
    }

    /// The first row, if there is one.
    pub async fn fetch_optional(&mut self) -> Result<Option<Row>, Fault> {
        let text = self.text()?;
        Ok(match &mut self.target {
            Target::MySql(conn, arguments) => {
                query_with(text, mem::take(arguments)).fetch_optional(&mut **conn).await?.map(Row::MySql)
            }
            Target::Sqlite(conn, arguments) => {
                query_with(text, mem::take(arguments)).fetch_optional(&mut **conn).await?.map(Row::Sqlite)
            }
        })
    }

    /// The first row.
    pub async fn fetch_one(&mut self) -> Result<Row, Fault> {
        self.fetch_optional().await?.ok_or(Fault::Sql(sqlx::Error::RowNotFound))
    }

    /// All rows.
    pub async fn fetch_all(&mut self) -> Result<Vec<Row>, Fault> {
        Ok(self.fetch()?.try_collect().await?)
    }

    /// The first rows, each with its length, until they are so long together: a thousand of the largest tasks
    /// do not fit into memory.
    pub async fn fetch_within<T>(
        &mut self,
        most: usize,
        read: impl Fn(&Row) -> Result<(T, usize), Fault>,
    ) -> Result<Vec<T>, Fault> {
        let (mut items, mut length) = (Vec::new(), 0);
        let mut rows = self.fetch()?;
        while length < most
            && let Some(row) = rows.try_next().await?
        {
            let (item, bytes) = read(&row)?;
            items.push(item);
            length += bytes;
        }
        Ok(items)
    }

    fn fetch(&mut self) -> Result<impl Stream<Item = Result<Row, sqlx::Error>> + Send + Unpin, Fault> {
        use futures::future::Either;
        let text = self.text()?;
        Ok(match &mut self.target {
            Target::MySql(conn, arguments) => {
                Either::Left(query_with(text, mem::take(arguments)).fetch(&mut **conn).map_ok(Row::MySql))
            }
            Target::Sqlite(conn, arguments) => {
                Either::Right(query_with(text, mem::take(arguments)).fetch(&mut **conn).map_ok(Row::Sqlite))
            }
        })
    }

    fn text(&mut self) -> Result<AssertSqlSafe<Cow<'static, str>>, Fault> {
        match self.refused.take() {
            Some(error) => Err(Fault::Sql(sqlx::Error::Encode(error))),
            None => Ok(AssertSqlSafe(mem::take(&mut self.text))),
        }
    }
}
