//! The token of a request, which `access` has left with it.

use std::sync::Arc;

use actix_web::{HttpMessage, HttpRequest};

use crate::domain::{Token, TokenName};

/// The token of a request; none where none is needed.
pub fn token_of(request: &HttpRequest) -> Option<Arc<Token>> {
    request.extensions().get::<Arc<Token>>().cloned()
}

/// The name of a request's token.
pub fn token_name(request: &HttpRequest) -> Option<TokenName> {
    request.extensions().get::<Arc<Token>>().map(|token| token.name.clone())
}
