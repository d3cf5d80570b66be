//! An INSERT of many rows. Each row names its columns with their values, so that there is one list of them.

use super::argument::Argument;
use super::statement::Statement;
use crate::store::fault::Fault;

/// Rows for a table, with the columns of the first.
pub(in crate::store) struct Insert<'s> {
    statement: Statement<'s>,
    table: &'static str,
    columns: Vec<&'static str>,
    rows: usize,
}

impl<'s> Insert<'s> {
    pub const fn new(statement: Statement<'s>, table: &'static str) -> Self {
        Self { statement, table, columns: Vec::new(), rows: 0 }
    }

    /// Begins a row. All rows have the same columns in the same order.
    pub fn row(&mut self) -> &mut Self {
        self.rows += 1;
        self
    }

    /// The value of a column in this row.
    pub fn set(&mut self, column: &'static str, value: impl Argument) -> &mut Self {
        if self.rows == 1 {
            self.columns.push(column);
        }
        self.statement.bind(value);
        self
    }

    /// Writes the rows, none of which is there.
    pub async fn all(self) -> Result<(), Fault> {
        self.run("INSERT INTO", "").await.map(drop)
    }

    /// Writes the rows that have no key of another one; answers how many.
    pub async fn if_new(self) -> Result<u64, Fault> {
        let dialect = self.statement.dialect();
        self.run(dialect.insert_new(), dialect.if_new()).await
    }

    /// Writes the rows; those whose key is there are left as they are, for which a column has to be named.
    pub async fn or_keep(self, column: &str) -> Result<(), Fault> {
        let end = self.statement.dialect().or_keep(self.table, column);
        self.run("INSERT INTO", &end).await.map(drop)
    }

    /// Writes the rows, over those that have the same key.
    pub async fn or_update(self, key: &[&str]) -> Result<(), Fault> {
        let dialect = self.statement.dialect();
        let mut end = dialect.or_update(&key.join(", "));
        let mut comma = "";
        for column in self.columns.iter().filter(|column| !key.contains(*column)) {
            end += &format!("{comma}{column} = {}", dialect.inserted(column));
            comma = ", ";
        }
        self.run("INSERT INTO", &end).await.map(drop)
    }

    /// Writes the rows, or adds their numbers to those of rows that have the same key.
    pub async fn or_add(self, key: &[&str]) -> Result<(), Fault> {
        let dialect = self.statement.dialect();
        let added =
            |column: &&str| format!("{column} = {}.{column} + {}", self.table, dialect.inserted(column));
        let numbers = self.columns.iter().filter(|column| !key.contains(*column));
        let end = dialect.or_update(&key.join(", ")) + &numbers.map(added).collect::<Vec<_>>().join(", ");
        self.run("INSERT INTO", &end).await.map(drop)
    }

    async fn run(mut self, begin: &str, end: &str) -> Result<u64, Fault> {
        let row = format!("({})", vec!["?"; self.columns.len()].join(", "));
        let text = format!("{begin} {} ({}) VALUES ", self.table, self.columns.join(", "));
        self.statement.push(&text);
        for at in 0..self.rows {
            self.statement.push(if at == 0 { "" } else { ", " }).push(&row);
        }
        self.statement.push(end).execute().await
    }
}
