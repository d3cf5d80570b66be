//! What several integration tests need.

pub mod management;
pub mod platform;
pub mod proxy;
