//! A rollout updates a service on many real endpoint processes with the example handler: some of them end with
//! their endpoint, one has a bad version, and all are rolled back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tasker_services::Process;

use crate::support::platform::Platform;

/// Endpoint processes.
const ENDPOINTS: usize = 60;
/// The place of the one that does not work with the new version.
const BAD: usize = 5;

/// Notes what is installed, in the order of that.
const INSTALL: &str = "#!/bin/sh\necho \"$1\" >> \"${0%/*}/installed\"\n";
const RESTART: &str = "#!/bin/sh\n";
/// The service does not work with a version for which there is such a file.
const CHECK: &str = "#!/bin/sh\n[ ! -e \"${0%/*}/bad-$1\" ]\n";
/// Ends the endpoint, which is the parent of the program that calls this.
const REBOOT: &str = "#!/bin/sh\nkill -KILL \"$(cut -d ' ' -f 4 /proc/$PPID/stat)\"\n";

/// A server, as far as the handler can tell.
struct Server {
    name: String,
    environment: Vec<(String, String)>,
    process: Process,
}

struct Fleet {
    platform: Platform,
    servers: Vec<Server>,
}

impl Fleet {
    fn new() -> anyhow::Result<Self> {
        let mut platform = Platform::idle()?;
        let home = platform.home().join("config.yaml");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&home)?)?;
        config["task_types"] = json!([{"name": "rolling_update", "time_limit": "30s"}]);
        config["endpoint"]["handlers_dir"] = json!(concat!(env!("CARGO_MANIFEST_DIR"), "/handlers/examples"));
        config["endpoint"]["pass_env"] =
            json!(["ROLLING_UPDATE_DIR", "ROLLING_UPDATE_LABELS", "ROLLING_UPDATE_CHECK"]);
        fs::write(&home, config.to_string())?;
        platform.start_api()?;
        let mut fleet = Self { platform, servers: Vec::new() };
        for number in 0..ENDPOINTS {
            fleet.start(number)?;
        }
        fleet.until("the fleet has the old version", |fleet| fleet.have("2.0", ENDPOINTS))?;
        Ok(fleet)
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.platform.home().join("servers").join(name).join("web")
    }

    fn start(&mut self, number: usize) -> anyhow::Result<()> {
        let name = format!("server{number:02}");
        let service = self.dir(&name);
        fs::create_dir_all(&service)?;
        let labels = service.with_file_name("labels");
        fs::write(&labels, "web=2.0\n")?;
        fs::write(service.join("version"), "2.0\n")?;
        let reboots = number % 10 == 3;
        let steps = [("install", INSTALL), ("restart", RESTART), ("check", CHECK)];
        for (step, script) in steps.into_iter().chain(reboots.then_some(("reboot", REBOOT))) {
            fs::write(service.join(step), script)?;
            fs::set_permissions(service.join(step), PermissionsExt::from_mode(0o700))?;
        }
        let variable = |name: &str, value: String| (name.to_owned(), value);
        let directory = labels.with_file_name("").display().to_string();
        let environment = vec![
            variable("ROLLING_UPDATE_DIR", directory.clone()),
            variable("ROLLING_UPDATE_LABELS", labels.display().to_string()),
            variable("ROLLING_UPDATE_CHECK", "0".to_owned()),
            variable("TASKER_ENDPOINT__LABELS_FILE", labels.display().to_string()),
            variable("TASKER_ENDPOINT__DATA_DIR", format!("{directory}journal")),
        ];
        let process = launch(&self.platform, &name, &environment)?;
        self.servers.push(Server { name, environment, process });
        Ok(())
    }

    /// Starts again what has ended, as a supervisor does.
    fn tend(&mut self) -> anyhow::Result<()> {
        for server in &mut self.servers {
            if server.process.ended()?.is_some() {
                server.process = launch(&self.platform, &server.name, &server.environment)?;
            }
        }
        Ok(())
    }

    fn until<T>(
        &mut self,
        what: &str,
        mut probe: impl FnMut(&Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        tasker_services::until(what, crate::support::platform::PATIENCE, || {
            self.tend()?;
            probe(self)
        })
    }

    /// Fails unless so many endpoints are there and say that they have this version.
    fn have(&self, version: &str, number: usize) -> anyhow::Result<()> {
        let (_, page) = self.platform.get(&format!("/endpoints?limit=1000&match=web={version}"))?;
        let endpoints = page["endpoints"].as_array().context("endpoints")?;
        let there = endpoints.iter().filter(|endpoint| endpoint["types"][0]["subscribed"] == true).count();
        ensure!(there == number, "{there} of {number} have {version}");
        Ok(())
    }

    /// What each server has installed, in the order of that.
    fn installed(&self) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
        let of = |server: &Server| {
            let text = fs::read_to_string(self.dir(&server.name).join("installed")).unwrap_or_default();
            (server.name.clone(), text.lines().map(str::to_owned).collect())
        };
        Ok(self.servers.iter().map(of).collect())
    }

    fn run(&self, identifier: &str, version: &str) -> anyhow::Result<()> {
        let healthy = |version: &str| json!({"within": "60s", "match": [format!("web={version}")]});
        let document = json!({
            "identifier": identifier, "type": "rolling_update", "payload": {"service": "web", "version": version},
            "targets": {"match": ["web"], "order": "name"}, "waves": [1, "10%", "rest"], "window": 20,
            "receive_within": "60s", "healthy": healthy(version), "on_breach": "rollback",
            "rollback": {"payload": {"service": "web", "version": "2.0"}, "window": 20, "healthy": healthy("2.0")},
        });
        let (status, answer) = self.platform.post("/rollouts", &document)?;
        ensure!(status == 201, "{status}: {answer}");
        Ok(())
    }

    fn until_status(&mut self, name: &str, status: &str) -> anyhow::Result<Value> {
        self.until(&format!("{name} is {status}"), |fleet| {
            let (_, rollout) = fleet.platform.get(&format!("/rollouts/{name}"))?;
            ensure!(rollout["status"] == status, "{rollout}");
            Ok(rollout)
        })
    }
}

fn launch(platform: &Platform, name: &str, environment: &[(String, String)]) -> anyhow::Result<Process> {
    let arguments = ["endpoint", "-e", name, "-t", "rolling_update"].map(str::to_owned);
    platform.launch(name, &arguments, environment)
}

#[test]
fn a_rollout_updates_a_service_and_rolls_a_bad_version_back() -> anyhow::Result<()> {
    let mut fleet = Fleet::new()?;
    let bad = fleet.dir(&format!("server{BAD:02}")).join("bad-2.1");
    fs::write(&bad, "")?;
    fleet.run("web-2.1", "2.1")?;
    let rollout = fleet.until_status("web-2.1", "ROLLED_BACK")?;
    ensure!(rollout["counts"]["failed"] == 1 && rollout["waves"][2]["phase"] == "WAITING", "{rollout}");
    fleet.until("all labels are as before", |fleet| fleet.have("2.0", ENDPOINTS))?;
    let installed = fleet.installed()?;
    for (name, versions) in &installed {
        ensure!(versions.is_empty() || versions == &["2.1", "2.0"], "{name}: {versions:?}");
    }
    ensure!(!installed[&format!("server{BAD:02}")].is_empty(), "the bad one was reached: {installed:?}");
    let untouched = installed.values().filter(|versions| versions.is_empty()).count();
    ensure!(untouched >= ENDPOINTS - 7, "only the first two waves were: {installed:?}");

    fs::remove_file(bad)?;
    fleet.run("web-2.1-again", "2.1")?;
    fleet.until_status("web-2.1-again", "DONE")?;
    fleet.have("2.1", ENDPOINTS)?;
    for (name, versions) in fleet.installed()? {
        let again = versions.len() - installed[&name].len();
        ensure!(again == 1 && versions.last().is_some_and(|last| last == "2.1"), "{name}: {versions:?}");
    }
    Ok(())
}
