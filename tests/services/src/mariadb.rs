//! A private MariaDB server.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;

use crate::{Home, Port, Process};

const PATIENCE: Duration = Duration::from_secs(60);

/// A private MariaDB server; `root` comes in over TCP without a password.
///
/// It has the defaults of an installation without configuration files: the character set is latin1, for instance, so a
/// migration that forgets to name its own is found out.
#[derive(Debug)]
pub struct MariaDb {
    home: Home,
    port: Port,
    process: Option<Process>,
}

impl MariaDb {
    /// Makes a data directory, starts the server in it and waits until it lets `root` in.
    pub fn start() -> anyhow::Result<Self> {
        let home = Home::new("mariadb")?;
        std::fs::create_dir(home.join("tmp")).context("creating the directory for temporary tables")?;
        let log = home.join("install.log");
        let output = File::create(&log).context("creating install.log")?;
        let installed = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=16M"])
            .args(as_user())
            .arg(format!("--datadir={}", home.join("data").display()))
            .env("TMPDIR", home.join("tmp"))
            .stdout(output.try_clone().context("cloning a file handle")?)
            .stderr(output)
            .status()
            .context("running mariadb-install-db")?;
        ensure!(installed.success(), "mariadb-install-db ended with {installed}:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
        // `root` is made for names; without name resolution a client on TCP is known by its address.
        home.write("init.sql", "CREATE USER IF NOT EXISTS root@'127.0.0.1'; GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n")?;
        let mut server = Self { home, port: Port::free()?, process: None };
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
        let mut command = Command::new(program()?);
        command
            .arg("--no-defaults")
            .args(as_user())
            .arg(format!("--datadir={}", self.home.join("data").display()))
            .arg(format!("--init-file={}", self.home.join("init.sql").display()))
            .arg(format!("--port={port}"))
            // A server removes what it takes for old temporary tables when it starts, also those of another in the same place.
            .env("TMPDIR", self.home.join("tmp"))
            // Relative to the data directory: an absolute path may be too long for a socket.
            .args(["--socket=mariadb.sock", "--pid-file=mariadb.pid", "--bind-address=127.0.0.1", "--skip-name-resolve"])
            // Many tests share a server, each with pools of its own.
            .args(["--max-connections=1000", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M"])
            // What was committed outlives the process (not the machine), which is all that tests can kill.
            .args(["--innodb-flush-log-at-trx-commit=2"]);
        let mut process = self.home.start("mariadb", &mut command)?;
        process.ready(PATIENCE, || log_in(port))?;
        self.process = Some(process);
        Ok(())
    }
}

/// A server started by root must be told that this is meant.
fn as_user() -> Option<&'static str> {
    crate::is_root().then_some("--user=root")
}

/// `mariadbd` is in a directory that is not on every user's path.
fn program() -> anyhow::Result<std::path::PathBuf> {
    crate::find("mariadbd", &["/usr/sbin", "/usr/libexec", "/usr/local/sbin"])
}

/// Logs in as `root`: the greeting, an answer without password, OK.
fn log_in(port: u16) -> anyhow::Result<()> {
    const PROTOCOL_41: u32 = 1 << 9;
    const SECURE_CONNECTION: u32 = 1 << 15;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let greeting = packet(&mut stream)?;
    ensure!(greeting.first() == Some(&10), "MariaDB refuses connections: {}", String::from_utf8_lossy(&greeting));
    let mut answer = Vec::new();
    answer.extend((PROTOCOL_41 | SECURE_CONNECTION).to_le_bytes());
    answer.extend((1_u32 << 24).to_le_bytes());
    answer.push(45);
    answer.extend([0; 23]);
    answer.extend(b"root\0");
    answer.push(0);
    let length = u32::try_from(answer.len())?.to_le_bytes();
    stream.write_all(&[length[0], length[1], length[2], 1])?;
    stream.write_all(&answer)?;
    match packet(&mut stream)? {
        answer if answer.first() == Some(&0) => Ok(()),
        answer => bail!("MariaDB does not let root in: {}", String::from_utf8_lossy(&answer)),
    }
}

fn packet(stream: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let mut body = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}
