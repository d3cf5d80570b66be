//! A private MariaDB server, or MySQL where a system has that instead.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;

use crate::{Home, Port, Process};

const PATIENCE: Duration = Duration::from_secs(60);

/// Where in its home a server has the disk of its own. The home's guard knows it too.
const OWN_DISK: &str = "own-disk";

/// Bytes on that disk, as long as it is not filled. It takes memory only for what is on it.
const ROOMY: u64 = 8 << 30;

/// A private MariaDB server; `root` comes in over TCP without a password.
///
/// It has the defaults of an installation without configuration files: the character set is latin1, for
/// instance, so a migration that forgets to name its own is found out.
#[derive(Debug)]
pub struct MariaDb {
    home: Home,
    data: PathBuf,
    port: Port,
    process: Option<Process>,
    arguments: &'static [&'static str],
    flavour: Flavour,
    environment: Vec<(String, String)>,
}

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavour {
    MariaDb,
    MySql,
}

impl Flavour {
    /// The one of this system, or of the one that the environment names.
    fn here() -> Self {
        if crate::program("mariadbd", DIRECTORIES).is_err() && crate::program("mysqld", DIRECTORIES).is_ok() {
            return Self::MySql;
        }
        Self::MariaDb
    }

    /// Makes a data directory with a `root` without a password.
    fn installer(self) -> anyhow::Result<Command> {
        let (program, arguments) = match self {
            Self::MariaDb => (
                "mariadb-install-db",
                ["--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=16M"]
                    .as_slice(),
            ),
            Self::MySql => ("mysqld", ["--initialize-insecure"].as_slice()),
        };
        let mut command = crate::program(program, DIRECTORIES)?;
        command.arg("--no-defaults").args(arguments);
        Ok(command)
    }

    fn server(self) -> anyhow::Result<Command> {
        let (program, arguments) = match self {
            Self::MariaDb => ("mariadbd", ["--innodb-log-file-size=16M"].as_slice()),
            Self::MySql => (
                "mysqld",
                [
                    "--innodb-redo-log-capacity=32M",
                    "--mysqlx=OFF",
                    "--disable-log-bin",
                    "--secure-file-priv=NULL",
                ]
                .as_slice(),
            ),
        };
        let mut command = crate::program(program, DIRECTORIES)?;
        command.arg("--no-defaults").args(arguments);
        Ok(command)
    }

    /// How `root` says who it is.
    const fn authentication(self) -> &'static [u8] {
        match self {
            Self::MariaDb => b"mysql_native_password\0",
            Self::MySql => b"caching_sha2_password\0",
        }
    }
}

/// Where servers are, which is not on every user's path.
const DIRECTORIES: &[&str] = &["/usr/sbin", "/usr/libexec", "/usr/local/sbin"];

impl MariaDb {
    /// Makes a data directory, starts the server in it and waits until it lets `root` in.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// The same with more arguments for the server.
    pub fn start_with(arguments: &'static [&'static str]) -> anyhow::Result<Self> {
        let home = Home::new("mariadb")?;
        let data = home.join("data");
        Self::start_in(home, data, arguments)
    }

    /// The same with its data on a disk of its own, which can be filled up. Only root may mount one.
    pub fn start_on_own_disk() -> anyhow::Result<Self> {
        let home = Home::new("mariadb")?;
        let disk = home.join(OWN_DISK);
        std::fs::create_dir(&disk).context("creating the mount point")?;
        mount(&disk, &format!("size={ROOMY}"), &["-t", "tmpfs", "tmpfs"])?;
        let data = disk.join("data");
        Self::start_in(home, data, &[])
    }

    fn start_in(home: Home, data: PathBuf, arguments: &'static [&'static str]) -> anyhow::Result<Self> {
        std::fs::create_dir(home.join("tmp")).context("creating the directory for temporary tables")?;
        let log = home.join("install.log");
        let output = File::create(&log).context("creating install.log")?;
        let flavour = Flavour::here();
        let installed = flavour
            .installer()?
            .args(as_user())
            .arg(format!("--datadir={}", data.display()))
            .args(arguments)
            .env("TMPDIR", home.join("tmp"))
            .stdout(output.try_clone().context("cloning a file handle")?)
            .stderr(output)
            .status()
            .context("making a data directory")?;
        ensure!(
            installed.success(),
            "making a data directory ended with {installed}:\n{}",
            std::fs::read_to_string(&log).unwrap_or_default()
        );
        // `root` is made for names; without name resolution a client on TCP is known by its address.
        home.write("init.sql", "CREATE USER IF NOT EXISTS root@'127.0.0.1'; GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n")?;
        let mut server = Self {
            home,
            data,
            port: Port::free()?,
            process: None,
            arguments,
            flavour,
            environment: Vec::new(),
        };
        server.launch()?;
        Ok(server)
    }

    /// The administrator's URL, without a database: `mysql://root@127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}", self.port())
    }

    /// The port it listens on, or will again.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Shuts it down in order.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.stop(PATIENCE))
    }

    /// Starts it again with the same port and data, after ending it if it runs, and waits until it is ready.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.launch()
    }

    /// Whether it has a disk of its own.
    pub fn has_own_disk(&self) -> bool {
        self.data.starts_with(self.home.join(OWN_DISK))
    }

    /// Leaves it no room on the disk of its own.
    pub fn fill_disk(&self) -> anyhow::Result<()> {
        let disk = self.home.join(OWN_DISK);
        // The server goes on writing meanwhile, and the system refuses a size below what is used by then.
        let mut refused = Ok(());
        for _ in 0..20 {
            let stat = rustix::fs::statvfs(&disk).context("asking for the room on a disk")?;
            let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
            refused = mount(&disk, &format!("remount,size={used}"), &[]);
            if refused.is_ok() {
                break;
            }
        }
        refused
    }

    /// Gives it room again.
    pub fn free_disk(&self) -> anyhow::Result<()> {
        mount(&self.home.join(OWN_DISK), &format!("remount,size={ROOMY}"), &[])
    }

    /// Starts it again with these variables in its environment, now and whenever it is started again.
    pub fn restart_with(&mut self, environment: &[(&str, String)]) -> anyhow::Result<()> {
        self.environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.restart()
    }

    /// Starts it again if it has ended by itself, as a supervisor would. Answers whether it had.
    pub fn revive(&mut self) -> anyhow::Result<bool> {
        let ended = self.process.as_mut().context("MariaDB does not run")?.ended()?.is_some();
        if ended {
            self.kill()?;
            self.launch()?;
        }
        Ok(ended)
    }

    /// Freezes it: connections stay open and nothing answers.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.process.as_ref().context("MariaDB does not run")?.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.process.as_ref().context("MariaDB does not run")?.signal(Signal::CONT)
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        let port = self.port();
        let flavour = self.flavour;
        let mut command = flavour.server()?;
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .args(as_user())
            .arg(format!("--datadir={}", self.data.display()))
            .arg(format!("--init-file={}", self.home.join("init.sql").display()))
            .arg(format!("--port={port}"))
            // A server removes what it takes for old temporary tables when it starts, also those of another
            // in the same place.
            .env("TMPDIR", self.home.join("tmp"))
            // Relative to the data directory: an absolute path may be too long for a socket.
            .args([
                "--socket=mariadb.sock",
                "--pid-file=mariadb.pid",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
            ])
            // Many tests share a server, each with pools of its own.
            .args(["--max-connections=1000", "--innodb-buffer-pool-size=64M"])
            // What was committed outlives the process (not the machine), which is all that tests can kill.
            .args(["--innodb-flush-log-at-trx-commit=2"])
            .args(self.arguments);
        let mut process = self.home.start("mariadb", &mut command)?;
        process.ready(PATIENCE, || log_in(port, flavour))?;
        self.process = Some(process);
        Ok(())
    }
}

/// Mounts a file system, or changes it.
fn mount(place: &Path, options: &str, what: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("mount")
        .args(["-o", options])
        .args(what)
        .arg(place)
        .output()
        .context("running mount")?;
    ensure!(
        output.status.success(),
        "mount ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// A server started by root must be told that this is meant.
fn as_user() -> Option<&'static str> {
    crate::is_root().then_some("--user=root")
}

/// Logs in as `root`: the greeting, an answer without password, OK.
fn log_in(port: u16, flavour: Flavour) -> anyhow::Result<()> {
    const PROTOCOL_41: u32 = 1 << 9;
    const SECURE_CONNECTION: u32 = 1 << 15;
    const PLUGIN_AUTH: u32 = 1 << 19;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let greeting = packet(&mut stream)?;
    ensure!(
        greeting.first() == Some(&10),
        "the server refuses connections: {}",
        String::from_utf8_lossy(&greeting)
    );
    let mut answer = Vec::new();
    answer.extend((PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH).to_le_bytes());
    answer.extend((1_u32 << 24).to_le_bytes());
    answer.push(45);
    answer.extend([0; 23]);
    answer.extend(b"root\0");
    answer.push(0);
    answer.extend(flavour.authentication());
    let length = u32::try_from(answer.len())?.to_le_bytes();
    stream.write_all(&[length[0], length[1], length[2], 1])?;
    stream.write_all(&answer)?;
    match packet(&mut stream)? {
        answer if answer.first() == Some(&0) => Ok(()),
        answer => bail!("the server does not let root in: {}", String::from_utf8_lossy(&answer)),
    }
}

fn packet(stream: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let mut body = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}
