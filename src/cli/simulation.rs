//! How simulated endpoints behave: the file of `--faults`.

use std::path::Path;

use super::input;
use super::output::{self, Failure};
use super::render::visible;
use crate::config::{Config, Delivery};
use crate::domain::{EndpointName, Labels};
use crate::simulated::{Faults, Nature};

/// Bytes of a file of faults at most.
const LONGEST: u64 = 1 << 20;

/// The file, or what holds without one.
pub(super) fn faults(file: Option<&Path>) -> Result<Faults, Failure> {
    let Some(file) = file else { return Ok(Faults::default()) };
    let name = input::name(file);
    let text = input::read(file, LONGEST)?;
    Faults::parse(&text).map_err(|error| Failure::Usage(format!("{name}: {error}")))
}

/// How each of these endpoints behaves; tells the faults that are about none of them.
pub(super) fn natures(faults: &Faults, fleet: Vec<(EndpointName, Labels)>) -> Vec<(EndpointName, Nature)> {
    for fault in faults.unfit(&fleet) {
        output::warn(format!(
            "--faults: {} fits none of the {} simulated endpoints",
            visible(&fault),
            fleet.len()
        ));
    }
    faults.natures(fleet)
}

/// Adds the task types that simulated endpoints perform to those that are configured.
pub(super) fn add_types(config: &mut Config, faults: &Faults) -> Result<(), Failure> {
    config.add_types(&faults.task_types, Delivery::Fanout);
    match config.of_delivery(true).find(|policy| faults.task_types.contains(&policy.name)) {
        Some(policy) => Err(Failure::Usage(format!(
            "`{}` has a work queue: simulated endpoints perform only types without one",
            policy.name
        ))),
        None => Ok(()),
    }
}
