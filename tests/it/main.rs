//! The integration tests.

mod api_openapi;
