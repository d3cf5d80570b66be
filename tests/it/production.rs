//! `docs/production.md`, walked through from the broker to the first task on a real RabbitMQ and MariaDB,
//! with the units of `supervisor/`.

use std::fs;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use tasker_services::{Home, Port, Process, start_pair};

use crate::support::page::{Reader, blocks, checkout};

#[test]
fn the_page_leads_to_the_first_task() -> anyhow::Result<()> {
    let (rabbitmq, mariadb) = start_pair()?;
    let (home, port) = (Home::new("production")?, Port::free()?);
    let mut reader = Reader::new(&home)?;
    for directory in ["etc", "etc/handlers", "data"] {
        fs::create_dir(home.join(directory))?;
    }
    let (etc, data) = (home.join("etc").display().to_string(), home.join("data").display().to_string());
    reader.replace("/etc/tasker", &etc);
    reader.replace("/root/", format!("{}/", home.path().display()));
    reader.replace("mq.example.net", "127.0.0.1");
    reader.replace("db.example.net", "127.0.0.1");
    reader.replace("127.0.0.1:8888", format!("127.0.0.1:{}", port.number()));
    reader.set("TASKER_API_URL", format!("http://127.0.0.1:{}", port.number()));

    // The file of the package. Broker and database of the test speak no TLS and listen where there was room.
    let mut config = checkout("config/production.config.yaml")?;
    for (from, to) in [
        (":3306/tasker?ssl-mode=VERIFY_IDENTITY", format!(":{}/tasker", mariadb.port())),
        ("tls: true", format!("tls: false\n    port: {}", rabbitmq.port())),
        ("https://{TASKER_MQ_HOST}:15671/api", rabbitmq.management_url()),
        ("port: 8888", format!("port: {}", port.number())),
        ("/var/lib/tasker", data.clone()),
        ("/etc/tasker", etc.clone()),
    ] {
        ensure!(config.contains(from), "config/production.config.yaml has no {from}");
        config = config.replace(from, &to);
    }
    home.write("etc/production.config.yaml", &config)?;

    for installer in ["apt-get", "rabbitmq-plugins"] {
        reader.program(installer, ":")?;
    }
    // What rabbitmqctl would ask of the node itself.
    let user = format!(
        "curl -fsS -u guest:guest -X PUT -H 'content-type: application/json' {}/users/$2",
        rabbitmq.management_url()
    );
    reader.program(
        "rabbitmqctl",
        &format!(
            r#"case $1 in
add_user) echo "$3" >password; {user} -d '{{"password": "'"$3"'", "tags": ""}}' ;;
set_user_tags) {user} -d '{{"password": "'"$(cat password)"'", "tags": "'"$3"'"}}' ;;
*) exit 1 ;;
esac"#
        ),
    )?;
    reader.administers(&mariadb)?;

    let mut services = Vec::new();
    let mut steps = Vec::new();
    for block in blocks("docs/production.md")? {
        let first = block.lines().next().unwrap_or_default().to_owned();
        match block.strip_prefix("systemctl enable --now ") {
            Some(unit) => services.push(start(&home, &reader, unit.trim(), &data)?),
            None => {
                let printed = reader
                    .runs(&block)
                    .with_context(|| services.iter().map(Process::log).collect::<String>())?;
                steps.push((first, printed));
            }
        }
    }
    ensure!(services.len() == 2, "an API and an endpoint are started, not {}", services.len());
    let (_, last) = steps.last().context("steps")?;
    ensure!(last.contains("DONE") && last.contains("nothing was run twice"), "{last}");
    Ok(())
}

/// Starts the service as its unit says, with nothing but the variables of its file.
fn start(home: &Home, reader: &Reader, unit: &str, data: &str) -> anyhow::Result<Process> {
    let name = unit.strip_suffix(".service").context("a service")?;
    let (file, instance) = match name.split_once('@') {
        Some((template, instance)) => (format!("{template}@.service"), instance),
        None => (unit.to_owned(), ""),
    };
    let text = checkout(&format!("supervisor/{file}"))?;
    let setting = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("{file} has no {key}"))
    };
    let line = setting("ExecStart=/usr/local/bin/tasker")?.replace("%i", instance);
    let variables = fs::read_to_string(reader.reads(setting("EnvironmentFile=-")?))?;
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let line = reader.reads(&line);
    let (program, arguments) = line.split_once(' ').context("a program with arguments")?;
    let mut command = Command::new(match program {
        "" => env!("CARGO_BIN_EXE_tasker"),
        "-agent" => env!("CARGO_BIN_EXE_tasker-agent"),
        other => bail!("{file} runs tasker{other}"),
    });
    command.args(arguments.split(' ')).current_dir(data).env_clear().env("PATH", "/usr/bin:/bin");
    home.start(name, command.envs(variables.map(|(name, value)| (name, value.trim_matches('\'')))))
}
