//! What several integration tests need.

pub mod platform;
pub mod proxy;
