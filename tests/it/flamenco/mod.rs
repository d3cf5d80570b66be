//! The Flamenco Manager against a scripted Flamenco Server and scripted workers. Tests begin with the number
//! of what they check in the list of what a manager must do; some check several.

mod bodies;
mod faults;
mod looks;
mod manager;
mod outages;
mod people;
mod program;
mod rig;
mod scheduling;
mod server;
mod several;
mod tls;
mod updates;
mod upstream;
mod workers;
