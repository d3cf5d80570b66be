//! What several integration tests need.

pub mod clock;
pub mod fleet;
pub mod loader;
pub mod management;
pub mod oracle;
pub mod platform;
pub mod proxy;
pub mod queues;
pub mod tap;
