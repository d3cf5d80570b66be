//! Who may use the API.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use uuid::Uuid;

use super::audit;
use super::columns::{self, corrupt, name, optional_name, sha256};
use super::fault::Fault;
use super::sql::{Conn, selected};
use super::{Operation, Result, Store, StoreError};
use crate::domain::{Deed, EndpointName, Quota, Scope, SecretHash, Timestamp, Token, TokenName};

/// Sessions of one token at most: one that is used by a script in a loop must not fill the table.
const MOST_SESSIONS: usize = 50;

/// What became of a new token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenCreated {
    /// It is there.
    New,
    /// Another one has its name.
    NameTaken,
    /// Another one has its secret.
    SecretTaken,
}

impl Store {
    /// Keeps a token, unless there is one of its name or its secret. If it is kept, so is the deed.
    pub fn create_token(&self, token: &Token, deed: Option<Deed>) -> Operation<'_, TokenCreated> {
        let token = Arc::new(token.clone());
        self.transact(move |conn| create_audited(conn, token.clone(), deed.clone()).boxed())
    }

    /// Keeps the token of a session. Sessions that are over go, and the oldest of those that are too many for
    /// one token.
    pub fn begin_session(&self, token: &Token) -> Operation<'_, TokenCreated> {
        let token = Arc::new(token.clone());
        self.transact(move |conn| begin_session(conn, token.clone()).boxed())
    }

    /// Removes the token of a session; whether there was one.
    pub fn end_session(&self, id: Uuid) -> Operation<'_, bool> {
        self.transact(move |conn| end_session(conn, id).boxed())
    }

    /// All tokens by name, those whose time is over included.
    pub fn tokens(&self) -> Operation<'_, Vec<Token>> {
        self.run(|conn| all(conn).boxed())
    }

    /// All tokens that this version can read, and what is wrong with the others: a newer version may have made
    /// them, with a scope that this one does not know.
    pub fn readable_tokens(&self) -> Operation<'_, (Vec<Token>, Vec<StoreError>)> {
        self.run(|conn| readable(conn).boxed())
    }

    /// Removes a token and its sessions; whether there was one. If there was, the deed is kept.
    pub fn delete_token(&self, name: &TokenName, deed: Option<(Deed, Timestamp)>) -> Operation<'_, bool> {
        let name = name.clone();
        self.transact(move |conn| delete(conn, name.clone(), deed.clone()).boxed())
    }
}

selected! {
    /// A token as its row has it. Without Debug, for the sake of the hash.
    TokenColumns<'r> {
        id: Uuid = "id",
        name: &'r str = "name",
        hash: &'r [u8] = "hash",
        scopes: &'r str = "scopes",
        task_types: Option<&'r str> = "task_types",
        created_at: Timestamp = "created_at",
        expires_at: Option<Timestamp> = "expires_at",
        worker: Option<&'r str> = "worker",
        parent: Option<Uuid> = "parent",
        quota: Option<&'r str> = "quota",
    }
}

impl TokenColumns<'_> {
    fn decode(self) -> Result<Token> {
        let at = |column| format!("token {}, column {column}", self.id);
        let scopes =
            self.scopes.split(',').map(|word| name::<Scope>(word, || at("scopes"))).collect::<Result<_>>()?;
        Ok(Token {
            id: self.id,
            name: name(self.name, || at("name"))?,
            hash: SecretHash::from_bytes(sha256(self.hash, || at("hash"))?),
            scopes,
            task_types: match self.task_types {
                Some(list) => serde_json::from_str(list).map_err(|error| corrupt(at("task_types"), error))?,
                None => Vec::new(),
            },
            created_at: self.created_at,
            expires_at: self.expires_at,
            worker: optional_name(self.worker, || at("worker"))?,
            parent: self.parent,
            quota: match self.quota {
                Some(quota) => serde_json::from_str(quota).map_err(|error| corrupt(at("quota"), error))?,
                None => Quota::default(),
            },
        })
    }
}

async fn create(conn: &mut Conn<'_>, token: Arc<Token>) -> Result<TokenCreated, Fault> {
    let mut insert = conn.insert("token");
    insert
        .row()
        .set("id", token.id)
        .set("name", token.name.as_str())
        .set("hash", token.hash.as_bytes().as_slice())
        .set("scopes", scopes(&token.scopes))
        .set("task_types", columns::list(&token.task_types)?)
        .set("created_at", token.created_at)
        .set("expires_at", token.expires_at)
        .set("worker", token.worker.as_ref().map(EndpointName::as_str))
        .set("parent", token.parent)
        .set(
            "quota",
            Some(&token.quota).filter(|quota| !quota.is_none()).map(columns::json_text).transpose()?,
        );
    insert.or_keep("id").await?;
    // Not by the number of rows: what it counts for a row that was there depends on the server and the
    // driver.
    let mut holders = conn.sql("SELECT id, name FROM token WHERE name = ? OR hash = ?");
    let rows = holders.bind(token.name.as_str()).bind(token.hash.as_bytes().as_slice()).fetch_all().await?;
    let holders = rows
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect::<Result<Vec<(Uuid, &str)>, Fault>>()?;
    Ok(created(&token, &holders))
}

async fn create_audited(
    conn: &mut Conn<'_>,
    token: Arc<Token>,
    deed: Option<Deed>,
) -> Result<TokenCreated, Fault> {
    let created = create(conn, token.clone()).await?;
    if let (TokenCreated::New, Some(deed)) = (created, deed) {
        audit::append(conn, [deed].into(), token.created_at).await?;
    }
    Ok(created)
}

/// Scopes as their column has them.
fn scopes(scopes: &BTreeSet<Scope>) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",")
}

/// What became of a token, by who has its name or its secret afterwards.
fn created(token: &Token, holders: &[(Uuid, &str)]) -> TokenCreated {
    if holders.iter().any(|(id, _)| *id == token.id) {
        TokenCreated::New
    } else if holders.iter().any(|(_, name)| *name == token.name.as_str()) {
        TokenCreated::NameTaken
    } else {
        TokenCreated::SecretTaken
    }
}

async fn all(conn: &mut Conn<'_>) -> Result<Vec<Token>, Fault> {
    let (tokens, unreadable) = readable(conn).await?;
    unreadable.into_iter().next().map_or(Ok(tokens), |error| Err(error.into()))
}

async fn readable(conn: &mut Conn<'_>) -> Result<(Vec<Token>, Vec<StoreError>), Fault> {
    let rows =
        conn.sql(format!("SELECT {} FROM token ORDER BY name", TokenColumns::LIST)).fetch_all().await?;
    let (mut tokens, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in &rows {
        match TokenColumns::read(&mut row.cells())?.decode() {
            Ok(token) => tokens.push(token),
            Err(error) => unreadable.push(error),
        }
    }
    Ok((tokens, unreadable))
}

async fn delete(
    conn: &mut Conn<'_>,
    name: TokenName,
    deed: Option<(Deed, Timestamp)>,
) -> Result<bool, Fault> {
    let Some(row) =
        conn.sql("SELECT id FROM token WHERE name = ?").bind(name.as_str()).fetch_optional().await?
    else {
        return Ok(false);
    };
    let id: Uuid = row.get(0)?;
    let gone = conn.sql("DELETE FROM token WHERE id = ? OR parent = ?").bind(id).bind(id).execute().await?;
    // Of several that delete it at the same time, one has done it.
    if let Some((deed, now)) = deed.filter(|_| gone > 0) {
        audit::append(conn, [deed].into(), now).await?;
    }
    Ok(gone > 0)
}

async fn begin_session(conn: &mut Conn<'_>, token: Arc<Token>) -> Result<TokenCreated, Fault> {
    let mut over = conn.sql("DELETE FROM token WHERE parent IS NOT NULL AND expires_at <= ?");
    over.bind(token.created_at).execute().await?;
    let mut others = conn.sql("SELECT id FROM token WHERE parent = ? ORDER BY created_at DESC, id DESC");
    let others = others.bind(token.parent).fetch_all().await?;
    for row in others.iter().skip(MOST_SESSIONS - 1) {
        conn.sql("DELETE FROM token WHERE id = ?").bind(row.get::<Uuid>(0)?).execute().await?;
    }
    create(conn, token).await
}

async fn end_session(conn: &mut Conn<'_>, id: Uuid) -> Result<bool, Fault> {
    Ok(conn.sql("DELETE FROM token WHERE id = ? AND parent IS NOT NULL").bind(id).execute().await? > 0)
}
