//! A private RabbitMQ server, or a cluster of them.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use rustix::process::Signal;

use crate::{Home, Port, Process};

/// Memory that it may take before it blocks publishers: far more than tests need.
const MEMORY: &str = "2GB";

/// Generous: a machine that compiles on every core starts an Erlang VM slowly.
const PATIENCE: Duration = Duration::from_secs(120);

/// A private RabbitMQ server with the management plugin; `guest` with the password `guest` is its
/// administrator.
#[derive(Debug)]
pub struct RabbitMq {
    home: Home,
    amqp: Port,
    management: Port,
    distribution: Port,
    names: Arc<Names>,
    process: Option<Process>,
}

/// The name server of Erlang nodes, one for all nodes of a cluster. RabbitMQ would start one as a daemon on
/// the machine's common port and leave it running.
#[derive(Debug)]
struct Names {
    port: Port,
    _process: Process,
    _home: Home,
}

impl Names {
    fn start() -> anyhow::Result<Arc<Self>> {
        let (home, port) = (Home::new("epmd")?, Port::free()?);
        let process = home.start(
            "epmd",
            crate::program("epmd", &[])?.args(["-address", "127.0.0.1", "-port", &port.number().to_string()]),
        )?;
        Ok(Arc::new(Self { port, _process: process, _home: home }))
    }
}

impl RabbitMq {
    /// Starts a server and waits until both AMQP and the management API answer.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_node(Names::start()?, None, &[], "")
    }

    /// The same with these plugins and lines of configuration besides.
    pub fn start_with(plugins: &[&str], configuration: &str) -> anyhow::Result<Self> {
        Self::start_node(Names::start()?, None, plugins, configuration)
    }

    /// Starts a cluster of so many nodes. Each is a server of its own that can be killed; queues that are not
    /// replicated live where they were declared.
    pub fn start_cluster(nodes: usize) -> anyhow::Result<Vec<Self>> {
        let names = Names::start()?;
        let seed = Self::start_node(names.clone(), None, &[], "")?;
        let join = || Self::start_node(names.clone(), Some(&seed), &[], "");
        let others = thread::scope(|scope| {
            let starting: Vec<_> = (1..nodes).map(|_| scope.spawn(join)).collect();
            let joined = starting
                .into_iter()
                .map(|node| node.join().map_err(|_| anyhow!("the thread that starts a node panicked"))?);
            joined.collect::<anyhow::Result<Vec<_>>>()
        })?;
        Ok(std::iter::once(seed).chain(others).collect())
    }

    fn start_node(
        names: Arc<Names>,
        seed: Option<&Self>,
        plugins: &[&str],
        configuration: &str,
    ) -> anyhow::Result<Self> {
        let home = Home::new("rabbitmq")?;
        let (amqp, management, distribution) = (Port::free()?, Port::free()?, Port::free()?);
        let join = seed.map(|seed| {
            let (backend, node) = ("cluster_formation.peer_discovery_backend = classic_config", seed.node());
            format!("{backend}\ncluster_formation.classic_config.nodes.1 = {node}\n")
        });
        let plugins = [&["rabbitmq_management"], plugins].concat().join(", ");
        home.write("enabled_plugins", &format!("[{plugins}].\n"))?;
        home.write(
            "rabbitmq.conf",
            &format!(
                "listeners.tcp.1 = 127.0.0.1:{}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {}\n\
                 # The alarm that blocks publishers must come from a test, not from a full laptop.\ndisk_free_limit.absolute = 1MB\n\
                 vm_memory_high_watermark.absolute = {MEMORY}\nlog.console.level = info\n{}{configuration}",
                amqp.number(),
                management.number(),
                join.unwrap_or_default(),
            ),
        )?;
        // Erlang takes a cookie that others can read for a mistake and refuses to start.
        let cookie = home.write(".erlang.cookie", "tasker")?;
        fs::set_permissions(&cookie, Permissions::from_mode(0o400)).context("protecting the cookie")?;
        let mut server = Self { home, amqp, management, distribution, names, process: None };
        server.launch()?;
        Ok(server)
    }

    /// Its name among the nodes of a cluster.
    fn node(&self) -> String {
        format!("tasker-{}@localhost", self.port())
    }

    /// The AMQP URL without a virtual host: `amqp://guest:guest@127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port())
    }

    /// The management API: `http://127.0.0.1:PORT/api`.
    pub fn management_url(&self) -> String {
        format!("http://127.0.0.1:{}/api", self.management.number())
    }

    /// The AMQP port it listens on, or will again.
    pub fn port(&self) -> u16 {
        self.amqp.number()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Shuts it down in order.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.stop(PATIENCE))
    }

    /// Starts it again with the same ports and data, after ending it if it runs, and waits until it is ready.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.launch()
    }

    /// Freezes it: connections stay open and nothing answers.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.process.as_ref().context("RabbitMQ does not run")?.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.process.as_ref().context("RabbitMQ does not run")?.signal(Signal::CONT)
    }

    /// Lets it take no messages any more, as a server does whose memory runs short, or again.
    pub fn block(&self, blocked: bool) -> anyhow::Result<()> {
        let limit = if blocked { "1MB" } else { MEMORY };
        let mut command = self.command("rabbitmqctl")?;
        let done = command
            .args(["set_vm_memory_high_watermark", "absolute", limit])
            .output()
            .context("running rabbitmqctl")?;
        ensure!(
            done.status.success(),
            "rabbitmqctl ends with {}: {}",
            done.status,
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    }

    /// Breaks the record that the server has of a durable queue, so that asking for the queue ends a
    /// connection; or puts it right again.
    pub fn break_queue(&self, virtual_host: &str, name: &str, broken: bool) -> anyhow::Result<()> {
        // The record is written through the module that newer versions have, or straight to the table of
        // older ones.
        let expression = format!(
            "Set = fun(Q) -> case code:ensure_loaded(rabbit_db_queue) of {{module, _}} -> rabbit_db_queue:set(Q); \
             _ -> mnesia:dirty_write(rabbit_queue, Q) end end, \
             Kept = {{kept, <<\"{name}\">>}}, case {broken} of true -> \
             {{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{virtual_host}\">>, queue, <<\"{name}\">>)), persistent_term:put(Kept, Q), \
             Set(amqqueue:set_pid(Q, none)); false -> Set(persistent_term:get(Kept)) end."
        );
        let done = self
            .command("rabbitmqctl")?
            .args(["eval", &expression])
            .output()
            .context("running rabbitmqctl")?;
        ensure!(
            done.status.success(),
            "rabbitmqctl ends with {}: {}",
            done.status,
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        let (amqp, management) = (self.amqp.number(), self.management.number());
        let mut command = self.command("rabbitmq-server")?;
        let mut process = self.home.start("rabbitmq", &mut command)?;
        process.ready(PATIENCE, || greet(amqp).and_then(|()| overview(management)))?;
        self.process = Some(process);
        Ok(())
    }

    /// One of RabbitMQ's scripts, for this server.
    fn command(&self, script: &str) -> anyhow::Result<Command> {
        let home = &self.home;
        // The script itself. What lies in `/usr/sbin` are wrappers of Debian's that change to the user
        // `rabbitmq` and into its directory.
        let mut command = crate::program(script, &["/usr/lib/rabbitmq/bin"])?;
        command
            // Nothing that the caller's environment says about RabbitMQ or Erlang may reach this server.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C.UTF-8")
            // Here Erlang looks for its cookie.
            .env("HOME", home.path())
            .env("ERL_EPMD_PORT", self.names.port.number().to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_CRASH_DUMP", home.join("erl_crash.dump"))
            // The script then becomes the server instead of waiting for it: one process fewer, and its number
            // is the server's.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            // The name of a file that is not there: the system's own is not read.
            .env("RABBITMQ_CONF_ENV_FILE", home.join("rabbitmq-env.conf"))
            .env("RABBITMQ_NODENAME", self.node())
            .env("RABBITMQ_DIST_PORT", self.distribution.number().to_string())
            .env("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", home.join("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", home.join("data"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", home.join("generated"))
            .env("RABBITMQ_SCHEMA_DIR", home.join("schema"))
            .env("RABBITMQ_PID_FILE", home.join("rabbitmq.pid"))
            .env("RABBITMQ_LOG_BASE", home.join("log"))
            // To standard output, where whoever reports a failure finds it.
            .env("RABBITMQ_LOGS", "-")
            // Schedulers that spin while they wait would take the cores from what is being tested.
            .env("RABBITMQ_SCHEDULER_BUSY_WAIT_THRESHOLD", "none")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-noinput -kernel inet_dist_use_interface {127,0,0,1}",
            );
        Ok(command)
    }
}

/// The first step of AMQP: the client's header is answered with the method `connection.start`.
fn greet(port: u16) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"AMQP\0\0\x09\x01")?;
    let mut head = [0; 11];
    stream.read_exact(&mut head)?;
    // A frame: type (1 = method), channel, length, then the class and the method (10, 10).
    ensure!(
        head[0] == 1 && head[7..] == [0, 10, 0, 10],
        "the broker answers something that is not connection.start"
    );
    Ok(())
}

/// The management API lets `guest` in.
fn overview(port: u16) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // The credentials are guest:guest.
    stream.write_all(
        b"GET /api/overview HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n",
    )?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    ensure!(head.ends_with(b" 200"), "the management API answers `{}`", String::from_utf8_lossy(&head));
    Ok(())
}
