//! tasker
fn main() {}
