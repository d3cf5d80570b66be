//! Rollouts: a task type run on a fleet, wave by wave, within budgets. `domain::rollout` decides, `store`
//! keeps, and this moves them on.
//!
//! `controller` is the loop: it finds rollouts that may move on, has the ledger move each in one transaction
//! with its next batch, and publishes that. `windows` says whether targets may be started now.

mod controller;
mod windows;

pub use controller::Controller;
pub use windows::{check as check_window, next_opening};
