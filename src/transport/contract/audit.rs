//! The audit log.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{AuditEntry, AuditHash, Chain, Timestamp};

/// A page of the audit log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The entries: newest first, or oldest first with `after`.
    pub entries: Vec<AuditEntry>,
    /// Whether there may be more in that direction.
    pub more: bool,
    /// The end of the whole log.
    pub head: Chain,
}

/// The submissions of an hour that are kept now, to be compared with the entry that accounts for them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditedSubmissions {
    /// When the hour begins.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// How many there are.
    pub count: u64,
    /// SHA-256 of id, digest, token and address of each.
    #[schema(value_type = String)]
    pub sha256: AuditHash,
}
