//! How a server fetches the broker user of its endpoint.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The ticket that a server exchanges for the broker user of its endpoint.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentTicket {
    /// Derived from the invitation, which stays with the server.
    #[schema(min_length = 1, max_length = 1024, format = Password)]
    pub ticket: String,
}

/// The broker user of an endpoint, sealed: only the holder of the invitation can read it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SealedIdentity {
    /// ChaCha20-Poly1305, in Base64.
    pub sealed: String,
}
