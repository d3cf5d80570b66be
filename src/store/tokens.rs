//! Tokens in columns, and what became of a new one: the same for both databases.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::columns::{corrupt, name, sha256};
use super::{Result, TokenCreated};
use crate::domain::{Scope, SecretHash, Timestamp, Token};

/// A token as its columns are, with times already read. Without Debug, for the sake of the hash.
pub(super) struct TokenColumns {
    pub id: Uuid,
    pub name: String,
    pub hash: Vec<u8>,
    pub scopes: String,
    pub task_types: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub worker: Option<String>,
}

impl TokenColumns {
    pub fn decode(self) -> Result<Token> {
        let at = |column| format!("token {}, column {column}", self.id);
        let scopes = self.scopes.split(',').map(|word| name::<Scope>(word, || at("scopes"))).collect::<Result<_>>()?;
        let hash = sha256(&self.hash, || at("hash"))?;
        Ok(Token {
            id: self.id,
            name: name(&self.name, || at("name"))?,
            hash: SecretHash::from_bytes(hash),
            scopes,
            task_types: match &self.task_types {
                Some(list) => serde_json::from_str(list).map_err(|error| corrupt(at("task_types"), error))?,
                None => Vec::new(),
            },
            created_at: self.created_at,
            expires_at: self.expires_at,
            worker: self.worker.map(|worker| name(&worker, || at("worker"))).transpose()?,
        })
    }
}

/// Scopes as their column has them.
pub(super) fn scopes(scopes: &BTreeSet<Scope>) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",")
}

/// What became of a token, by who has its name or its secret afterwards.
pub(super) fn created(token: &Token, holders: &[(Uuid, String)]) -> TokenCreated {
    if holders.iter().any(|(id, _)| *id == token.id) {
        TokenCreated::New
    } else if holders.iter().any(|(_, name)| name == token.name.as_str()) {
        TokenCreated::NameTaken
    } else {
        TokenCreated::SecretTaken
    }
}
