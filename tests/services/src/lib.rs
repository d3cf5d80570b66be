//! Private RabbitMQ and MariaDB servers for the tests.
//!
//! They are those that this system has, or those of another release in the folder that [`ROOT`] names: for
//! other versions of them.
//!
//! Each server has a temporary directory, free loopback ports and a configuration of its own, and nothing of
//! the system's own instances is read or touched, so tests may kill, stop and pause what they start. It works
//! as root and as an ordinary user.
//!
//! [`Home`] owns a directory and the processes in it, [`Port`] a port, [`RabbitMq`] and [`MariaDb`] know one
//! server each.
//!
//! Promise: when a server is dropped, or the process that started it ends in any way whatever (`kill -9`
//! included), its processes end and its directory is removed.
//!
//! Everything here blocks; an asynchronous test calls it through `spawn_blocking` or accepts that its thread
//! waits.

mod home;
mod mariadb;
mod port;
mod process;
mod rabbitmq;
mod root;

pub use home::Home;
pub use mariadb::MariaDb;
pub use port::Port;
pub use process::{Process, until};
pub use rabbitmq::RabbitMq;
pub use root::ROOT;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::Context;

/// Starts one server of each kind side by side: together they take as long as the slower one.
pub fn start_pair() -> anyhow::Result<(RabbitMq, MariaDb)> {
    start_pair_with(MariaDb::start)
}

/// The same with a MariaDB that is started in this way.
pub fn start_pair_with(mariadb: fn() -> anyhow::Result<MariaDb>) -> anyhow::Result<(RabbitMq, MariaDb)> {
    thread::scope(|scope| {
        let mariadb = scope.spawn(mariadb);
        let rabbitmq = RabbitMq::start();
        let mariadb =
            mariadb.join().map_err(|_| anyhow::anyhow!("the thread that starts MariaDB panicked"))?;
        Ok((rabbitmq?, mariadb?))
    })
}

/// A program in one of the given directories or else on the path.
pub fn find(program: &str, directories: &[&str]) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    directories
        .iter()
        .map(PathBuf::from)
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .with_context(|| format!("{program} is not installed; `cargo xtask test` installs it or says how"))
}

/// A command for a server's program in one of the given directories, of this system or of the one that
/// [`ROOT`] names.
fn program(name: &str, directories: &[&str]) -> anyhow::Result<Command> {
    let Some(root) = root::Root::of_environment() else { return Ok(Command::new(find(name, directories)?)) };
    let places =
        directories.iter().chain(&["/usr/bin", "/usr/sbin"]).map(|directory| Path::new(directory).join(name));
    let found =
        places.into_iter().find(|file| root.has(file)).with_context(|| format!("{root:?} has no {name}"))?;
    Ok(root.command(&found))
}

/// Whether this user may do everything, and servers refuse to run without being told that it is meant.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
