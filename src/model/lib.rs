//! What tasks, requests, rollouts and farms are, and how they move: no input, no output.

pub mod domain;
pub mod farm;
