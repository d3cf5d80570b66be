//! The bench: drives the public interfaces with simulated load, verifies that nothing is lost or done twice, says what it measured.

mod figures;
mod fleet;
mod load;
