//! `supervisor/docker`: the image is made of what is there, and the installation of the compose file works -
//! with processes instead of containers, since no engine is needed for that.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tasker_services::{Home, MariaDb, Port, Process, RabbitMq, start_pair, until};

use crate::support::page::{Reader, checkout};

/// How long a test waits for what must come; only failures take it.
const PATIENCE: Duration = Duration::from_secs(60);

const DOCKERFILE: &str = "supervisor/docker/Dockerfile";

#[test]
fn the_image_is_made_of_what_is_there() -> anyhow::Result<()> {
    let text = checkout(DOCKERFILE)?.replace("\\\n", " ");
    let (mut stages, mut user, mut made) = (Vec::new(), "root", Vec::new());
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["FROM", image, rest @ ..] => {
                ensure!(is_pinned(image), "{image} is no image with a version");
                stages.extend(rest.last());
                user = "root";
            }
            ["COPY", from, paths @ .., _] if from.starts_with("--from=") => {
                let stage = &from["--from=".len()..];
                ensure!(stages.contains(&stage), "{line}: no stage is called {stage}");
                for path in paths {
                    let built = path.strip_prefix("/src/").context("what the build made")?;
                    ensure!(made.contains(&built.to_owned()), "{line}: the build makes {made:?}");
                }
            }
            ["COPY", paths @ .., _] => {
                for path in paths {
                    ensure!(
                        Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(),
                        "{line}: there is no {path}"
                    );
                }
            }
            ["RUN", "cargo", "build", "--profile", profile, ..] => {
                ensure!(
                    checkout("Cargo.toml")?.contains(&format!("[profile.{profile}]")),
                    "there is no profile {profile}"
                );
                ensure!(words.contains(&"--bins"), "{line}: makes one of several programs");
                made.extend(["tasker", "tasker-agent"].map(|program| format!("target/{profile}/{program}")));
            }
            ["USER", name] => user = name,
            _ => {}
        }
    }
    ensure!(
        user != "root" && text.contains("useradd ") && text.contains(&format!(" {user} ")),
        "the image runs as {user}"
    );

    let manifest = checkout("Cargo.toml")?;
    let used = manifest
        .split('"')
        .filter(|word| Path::new(env!("CARGO_MANIFEST_DIR")).join(word).exists() && *word != ".");
    let used: Vec<&str> = used.chain(["src", "config", "handlers", "migrations"]).collect();
    ensure!(used.contains(&"tests/services"), "{used:?}");
    for ignored in checkout(&format!("{DOCKERFILE}.dockerignore"))?.lines() {
        let needed = used.iter().find(|path| **path == ignored || path.starts_with(&format!("{ignored}/")));
        ensure!(needed.is_none(), "the build needs {needed:?}, and {ignored} is kept out");
    }

    let toolchain =
        text.split_once("FROM rust:").and_then(|(_, rest)| rest.split_once('-')).context("a toolchain")?.0;
    let needed = manifest
        .split_once("rust-version = \"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .context("rust-version")?
        .0;
    let minor = |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    ensure!(minor(toolchain) >= minor(needed), "the image has Rust {toolchain}, tasker needs {needed}");
    Ok(())
}

fn is_pinned(image: &str) -> bool {
    image
        .split_once(':')
        .is_some_and(|(_, tag)| tag != "latest" && tag.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

#[test]
fn the_compose_file_is_consistent() -> anyhow::Result<()> {
    let compose = Compose::read()?;
    for (name, service) in &compose.services {
        let image = service["image"].as_str().context("an image")?;
        if image == "tasker" {
            let context = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("supervisor/docker")
                .join(text(&service["build"]["context"])?);
            ensure!(
                context.join(text(&service["build"]["dockerfile"])?).exists(),
                "{name}: there is no such Dockerfile"
            );
        } else {
            ensure!(is_pinned(image), "{name}: {image} is no image with a version");
        }
        for (other, condition) in service["depends_on"].as_object().into_iter().flatten() {
            let other = compose
                .services
                .get(other)
                .with_context(|| format!("{name}: there is no service {other}"))?;
            let healthy = condition["condition"] == "service_healthy";
            ensure!(
                !healthy || other["healthcheck"]["test"].is_array(),
                "{name} waits for a service without a health check"
            );
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let volume = text(volume)?.split(':').next().unwrap_or_default();
            ensure!(
                compose.volumes.iter().any(|known| known == volume),
                "{name}: there is no volume {volume}"
            );
        }
        ensure!(service["healthcheck"].is_object() || image == "tasker", "{name} has no health check");
    }
    ensure!(compose.services["api"]["healthcheck"].is_object(), "the API has no health check");
    Ok(())
}

#[test]
fn the_compose_file_runs_a_task() -> anyhow::Result<()> {
    let site = Site::new(Compose::read()?)?;
    // The second time everything is there already.
    for _ in 0..2 {
        site.runs_to_its_end("initialize")?;
    }
    let _processes = [site.start("api")?, site.start("web1")?, site.start("web2")?];
    let check = site.compose.services["api"]["healthcheck"]["test"].as_array().context("a check")?[1..]
        .iter()
        .map(text);
    let check = check.collect::<anyhow::Result<Vec<_>>>()?.join(" ");
    until("the API is healthy", PATIENCE, || site.reader.runs(&check))
        .with_context(|| site.logs(&_processes))?;
    until("both endpoints subscribe", PATIENCE, || {
        let page = site.in_container("api", "tasker endpoints --json")?;
        ensure!(page.contains("web1") && page.contains("web2"), "{page}");
        Ok(())
    })
    .with_context(|| site.logs(&_processes))?;
    let submit = checkout("supervisor/docker/compose.yaml")?;
    let submit = submit
        .lines()
        .find_map(|line| line.split_once("docker compose exec api "))
        .context("an example of a submission")?
        .1;
    let printed = site.in_container("api", &format!("{submit} --endpoints web1,web2"))?;
    ensure!(printed.contains("DONE") && printed.contains("2 of 2 endpoints finished"), "{printed}");
    // The port is open to this machine, so the API must want the token.
    let refused =
        site.reader.runs(&format!("curl -sS -o answer -w '%{{http_code}}' {}/endpoints", site.url()))?;
    ensure!(refused == "401", "the API answers {refused} without a token");
    Ok(())
}

struct Compose {
    services: BTreeMap<String, Value>,
    volumes: Vec<String>,
}

impl Compose {
    fn read() -> anyhow::Result<Self> {
        let file: Value = serde_saphyr::from_str(&checkout("supervisor/docker/compose.yaml")?)?;
        let services = file["services"].as_object().context("services")?.clone().into_iter().collect();
        let volumes = file["volumes"].as_object().context("volumes")?.keys().cloned().collect();
        Ok(Self { services, volumes })
    }
}

fn text(value: &Value) -> anyhow::Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}

/// The services of the file as processes of this machine.
struct Site {
    compose: Compose,
    home: Home,
    port: Port,
    reader: Reader,
    _servers: (RabbitMq, MariaDb),
}

/// What the variables that the file asks for are set to.
const SECRETS: [(&str, &str); 4] = [
    ("TASKER_DB_PASSWORD", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"),
    ("TASKER_MQ_PASSWORD", "11223344556677889900aabbccddeeff"),
    ("RABBITMQ_ADMIN_PASSWORD", "ffeeddccbbaa00998877665544332211"),
    ("TASKER_TOKEN", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
];

impl Site {
    fn new(compose: Compose) -> anyhow::Result<Self> {
        let (rabbitmq, mariadb) = start_pair()?;
        let (home, port) = (Home::new("containers")?, Port::free()?);
        let mut config = checkout("config/production.config.yaml")?;
        for (from, to) in
            [("/etc/tasker/handlers", home.join("handlers")), ("/var/lib/tasker", home.join("data"))]
        {
            ensure!(config.contains(from), "config/production.config.yaml has no {from}");
            config = config.replace(from, &to.display().to_string());
        }
        config =
            config.replace("username: tasker", &format!("username: tasker\n    port: {}", rabbitmq.port()));
        fs::create_dir(home.join("handlers"))?;
        let config = home.write("production.config.yaml", &config)?;
        let mut reader = Reader::new(&home)?;
        reader.replace("/etc/tasker/production.config.yaml", config.display());
        reader.replace("http://broker:15672/api", rabbitmq.management_url());
        reader.replace("@database:3306/", format!("@127.0.0.1:{}/", mariadb.port()));
        reader.replace("127.0.0.1:8888", format!("127.0.0.1:{}", port.number()));
        reader.replace("$$", "$");
        reader.administers(&mariadb)?;

        // What the images of the servers do at their first start.
        let (broker, database) =
            (environment(&compose.services["broker"])?, environment(&compose.services["database"])?);
        let of = |environment: &BTreeMap<String, String>, name: &str| {
            environment.get(name).cloned().with_context(|| name.to_owned())
        };
        let (name, user) = (of(&database, "MARIADB_DATABASE")?, of(&database, "MARIADB_USER")?);
        let password = of(&database, "MARIADB_PASSWORD")?;
        let statements = format!(
            "CREATE DATABASE {name}; CREATE USER {user}@'%' IDENTIFIED BY '{password}'; GRANT ALL ON {name}.* TO {user}@'%'"
        );
        reader.runs(&format!("mariadb -e \"{statements}\""))?;
        let (admin, password) =
            (of(&broker, "RABBITMQ_DEFAULT_USER")?, of(&broker, "RABBITMQ_DEFAULT_PASS")?);
        let user = format!(r#"{{"password": "{password}", "tags": "administrator"}}"#);
        let url = format!("{}/users/{admin}", rabbitmq.management_url());
        reader.runs(&format!(
            "curl -fsS -u guest:guest -X PUT -H 'content-type: application/json' -d '{user}' {url}"
        ))?;
        Ok(Self { compose, home, port, reader, _servers: (rabbitmq, mariadb) })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// A command with the variables of a service, and with no others of ours.
    fn command(&self, service: &str, program: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(program);
        let path = format!("{}:{}", self.home.join("programs").display(), std::env::var("PATH")?);
        command.env_clear().env("PATH", path).current_dir(self.home.path());
        for (name, value) in environment(&self.compose.services[service])? {
            let value = if value == "broker" { "127.0.0.1".to_owned() } else { self.reader.reads(&value) };
            // Others on this machine have the port of the file.
            command.env(name, value.replace("0.0.0.0", "127.0.0.1"));
        }
        command.env("TASKER_API__PORT", self.port.number().to_string()).env("TASKER_API_URL", self.url());
        command.env("TASKER_ENDPOINT__DATA_DIR", self.home.join(&format!("data-{service}")));
        Ok(command)
    }

    fn runs_to_its_end(&self, service: &str) -> anyhow::Result<()> {
        let definition = &self.compose.services[service];
        let entrypoint = definition["entrypoint"]
            .as_array()
            .context("an entrypoint")?
            .iter()
            .map(text)
            .collect::<anyhow::Result<Vec<_>>>()?;
        let ["/bin/sh", options] = entrypoint[..] else { bail!("{service} runs {entrypoint:?}") };
        let script = text(&definition["command"][0])?;
        finish(self.command(service, "/bin/sh")?.arg(options).arg(self.reader.reads(script))).map(drop)
    }

    fn start(&self, service: &str) -> anyhow::Result<Process> {
        let words = self.compose.services[service]["command"].as_array().context("a command")?;
        let words = words
            .iter()
            .map(|word| Ok(self.reader.reads(text(word)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        self.home.start(service, self.command(service, "tasker")?.args(words))
    }

    /// `docker compose exec`.
    fn in_container(&self, service: &str, line: &str) -> anyhow::Result<String> {
        finish(self.command(service, "/bin/sh")?.args(["-euc", line]))
    }

    fn logs(&self, processes: &[Process]) -> String {
        processes.iter().map(Process::log).collect()
    }
}

/// The variables of a service, those of the machine put in.
fn environment(service: &Value) -> anyhow::Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for (name, value) in service["environment"].as_object().context("an environment")? {
        let mut value = text(value)?.to_owned();
        while let Some(start) = value.find("${") {
            let end = start + value[start..].find('}').context("an end of the variable")?;
            let inside = &value[start + 2..end];
            let (asked, _) =
                inside.split_once(":?").with_context(|| format!("{inside} is neither set nor asked for"))?;
            let secret = SECRETS
                .iter()
                .find(|(name, _)| *name == asked)
                .with_context(|| format!("{asked} is not among those to set"))?
                .1;
            value.replace_range(start..=end, secret);
        }
        variables.insert(name.clone(), value);
    }
    Ok(variables)
}

fn finish(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{:?} ends with {}: {printed}{said}", command.get_args(), output.status);
    Ok(printed.into_owned())
}
