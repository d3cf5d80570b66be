//! A fleet that shares one broker user and signs nothing gets a user for each endpoint, signatures, and other keys
//! while tasks keep coming, by the steps of `docs/security.md`.

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{all_is_accounted_for, load_for};
use crate::support::fleet::{Fleet, QUEUE, TYPE};
use crate::support::loader::Loader;
use crate::support::management;
use crate::support::platform::Platform;

/// Endpoints of the fleet.
const ENDPOINTS: usize = 20;
/// Its workers.
const WORKERS: usize = 2;
/// Endpoints and workers that are restarted at the same time.
const AT_ONCE: usize = 6;
/// Tasks a second. A quarter of them goes to workers, and a third of the others to all endpoints.
const LOAD: u32 = 4;

/// Broker users that the test has made. They belong to no virtual host, so they would outlive the platform.
#[derive(Default)]
struct Users(Vec<String>);

impl Users {
    async fn delete(&mut self) {
        for user in self.0.drain(..) {
            if management::exists(&["users", &user]).await {
                management::delete(&["users", &user]).await;
            }
        }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            runtime.block_on(self.delete());
        }
    }
}

/// The API processes.
const APIS: [&str; 2] = ["api1", "api2"];

/// Restarts processes, so many at a time, each with what is configured now.
fn restart(fleet: &mut Fleet, names: &[impl AsRef<str>], at_once: usize) -> anyhow::Result<()> {
    for group in names.chunks(at_once) {
        for name in group {
            fleet.ask(name.as_ref(), Signal::TERM)?;
        }
        for name in group {
            fleet.until_left(name.as_ref())?;
        }
        fleet.ready()?;
    }
    Ok(())
}

/// Sets the user with which processes come in that have no other from now on; it is made if it is new.
fn use_user(fleet: &Fleet, user: &str) -> anyhow::Result<()> {
    fleet.configure(|config| {
        config["manager"]["message_queue"]["username"] = json!(user);
        Ok(())
    })?;
    fleet.platform.tasker(&["initialize", "-r"]).map(drop)
}

/// Changes a section of the configuration.
fn set(fleet: &Fleet, section: &str, settings: &Value) -> anyhow::Result<()> {
    fleet.configure(|config| {
        for (key, value) in settings.as_object().context("settings")? {
            config[section][key] = value.clone();
        }
        Ok(())
    })
}

/// What both API processes have counted under names that begin so.
fn counted(fleet: &Fleet, metric: &str) -> anyhow::Result<f64> {
    let texts = fleet.metrics()?;
    let lines = texts.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with(metric));
    Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

/// Messages of users that speak for no endpoint.
fn unproven(fleet: &Fleet) -> anyhow::Result<f64> {
    counted(fleet, "tasker_unproven_total{")
}

/// Waits until a number has not grown for so many tasks, as an administrator does.
fn grows_no_longer(fleet: &mut Fleet, loader: &Loader, metric: &str, tasks: u64) -> anyhow::Result<()> {
    let mut last = counted(fleet, metric)?;
    for _ in 0..10 {
        load_for(fleet, loader, tasks)?;
        let now = counted(fleet, metric)?;
        if now == last {
            return Ok(());
        }
        last = now;
    }
    anyhow::bail!("{metric} goes on growing: {last}")
}

/// Each endpoint gets a broker user of its own, and the one that all have shared is deleted.
fn give_users(
    fleet: &mut Fleet,
    loader: &Loader,
    servers: &[String],
    [shared, own]: [&str; 2],
) -> anyhow::Result<()> {
    ensure!(unproven(fleet)? > 0.0, "nothing is counted of a shared user");
    let directory = fleet.platform.home().join("invitations");
    std::fs::create_dir(&directory)?;
    let out_dir = directory.display().to_string();
    let mut invite = vec!["endpoint", "invite", "-t", QUEUE, "--out-dir", &out_dir];
    let workers = fleet.workers();
    invite.extend(workers.iter().map(String::as_str));
    fleet.platform.tasker(&invite)?;
    fleet.platform.tasker(&["endpoint", "invite", "--all", "-t", TYPE, "--out-dir", &out_dir])?;
    for name in servers {
        let file = |directory: &str| fleet.platform.home().join(directory).join(name).display().to_string();
        let (invitation, identity) = (file("invitations"), format!("{}.json", file("")));
        let url = fleet.urls().swap_remove(0);
        let enroll = ["endpoint", "enroll", name, "--api", &url, "--invitation", &invitation];
        fleet.platform.tasker(&[&enroll[..], &["--identity", &identity]].concat())?;
        fleet.add_arguments(name, &["--identity", &identity])?;
    }
    restart(fleet, servers, AT_ONCE)?;
    load_for(fleet, loader, 10)?;
    grows_no_longer(fleet, loader, "tasker_unproven_total{", 20)?;
    let listed = fleet.platform.tasker(&["endpoint", "list", "--json"])?;
    let listed: Value = serde_json::from_slice(&listed.stdout)?;
    let enrolled = listed.as_array().context("a list")?;
    let is_enrolled = |one: &&Value| one["generation"] == 1 && one["enrolled_at"].is_string();
    ensure!(enrolled.iter().filter(is_enrolled).count() == servers.len(), "{listed}");

    // Nobody else is believed.
    set(fleet, "security", &json!({"reports": "enforce"}))?;
    restart(fleet, &APIS, 1)?;
    load_for(fleet, loader, 20)?;

    // The API gets another user, and the one that was shared is deleted.
    use_user(fleet, own)?;
    restart(fleet, &APIS, 1)?;
    fleet.platform.block_on(management::delete(&["users", shared]));
    load_for(fleet, loader, 20)?;
    ensure!(unproven(fleet)? == 0.0, "messages of endpoints were refused");
    Ok(())
}

/// A file of the platform.
fn path(fleet: &Fleet, file: &str) -> String {
    fleet.platform.home().join(file).display().to_string()
}

/// Runs `tasker key` on the trust file, with a file of the platform.
fn trust(fleet: &Fleet, verb: &str, what: &str, more: &[&str]) -> anyhow::Result<()> {
    let file = path(fleet, "trust.yaml");
    fleet.platform.tasker(&[&["key", verb, what, "--trust", &file], more].concat()).map(drop)
}

/// API processes come to sign, and endpoints to require that.
fn require_signatures(fleet: &mut Fleet, loader: &Loader, servers: &[String]) -> anyhow::Result<()> {
    let dir = path(fleet, "");
    fleet.platform.tasker(&["key", "create", "server", "--dir", &dir])?;
    let signing_key = path(fleet, "server.key");
    let signing = json!({"signatures": "sign", "environment": "it", "signing_key": signing_key});
    set(fleet, "security", &signing)?;
    // Endpoints that look at no signatures, with one API process that signs and one that does not.
    restart(fleet, &APIS[..1], 1)?;
    load_for(fleet, loader, 10)?;
    trust(fleet, "trust", &path(fleet, "server.pub"), &["--environment", "it"])?;
    let trust_file = path(fleet, "trust.yaml");
    set(fleet, "endpoint", &json!({"signatures": "prefer", "trust": trust_file}))?;
    restart(fleet, servers, AT_ONCE)?;
    load_for(fleet, loader, 10)?;
    fleet.until("unsigned messages are counted", |fleet| {
        ensure!(counted(fleet, "tasker_unsigned_total ")? > 0.0, "none");
        Ok(())
    })?;
    restart(fleet, &APIS[1..], 1)?;
    grows_no_longer(fleet, loader, "tasker_unsigned_total ", 20)?;
    set(fleet, "endpoint", &json!({"signatures": "require"}))?;
    restart(fleet, servers, AT_ONCE)?;
    load_for(fleet, loader, 20)
}

/// API processes get another key, which servers trust by its name, and then a third, which the root key certifies.
fn exchange_keys(fleet: &mut Fleet, loader: &Loader, servers: &[String]) -> anyhow::Result<()> {
    let dir = path(fleet, "");
    for name in ["root", "server2", "server3"] {
        fleet.platform.tasker(&["key", "create", name, "--dir", &dir])?;
    }
    trust(fleet, "trust", &path(fleet, "server2.pub"), &[])?;
    trust(fleet, "trust", &path(fleet, "root.pub"), &["--root"])?;
    restart(fleet, servers, AT_ONCE)?;
    set(fleet, "security", &json!({"signing_key": path(fleet, "server2.key")}))?;
    restart(fleet, &APIS, 1)?;
    trust(fleet, "distrust", "server", &[])?;
    restart(fleet, servers, AT_ONCE)?;
    load_for(fleet, loader, 20)?;

    // No endpoint is restarted when its list of revoked keys comes.
    let (root_key, list) = (path(fleet, "root.key"), path(fleet, "revoked.json"));
    let of_root = ["--root-key", &root_key, "--environment", "it"];
    let (certified, revoked) = (path(fleet, "server3.pub"), path(fleet, "server2.pub"));
    fleet.platform.tasker(&[&["key", "certify", &certified], &of_root[..]].concat())?;
    fleet.platform.tasker(&[&["key", "revoke", &revoked, "--list", &list], &of_root[..]].concat())?;
    let settings = json!({
        "signing_key": path(fleet, "server3.key"), "certificate": path(fleet, "server3.cert"), "revocations": list,
    });
    set(fleet, "security", &settings)?;
    restart(fleet, &APIS, 1)?;
    load_for(fleet, loader, 20)?;
    let kept: Vec<_> =
        servers.iter().map(|name| path(fleet, &format!("journals/{name}/revocations.json"))).collect();
    fleet.until("every server has the list", |_| {
        let without: Vec<_> = kept.iter().filter(|file| !std::path::Path::new(file).exists()).collect();
        ensure!(without.is_empty(), "{without:?}");
        Ok(())
    })
}

#[test]
fn a_fleet_under_load_gets_users_then_signatures_then_other_keys() -> anyhow::Result<()> {
    let mut fleet = Fleet::with_queue(Platform::idle()?)?;
    let names = |kind: &str, count| (1..=count).map(|number| format!("{kind}{number}")).collect::<Vec<_>>();
    let (endpoints, workers) = (names("console", ENDPOINTS), names("worker", WORKERS));
    let servers = [&endpoints[..], &workers[..]].concat();
    let virtual_host = {
        let url: reqwest::Url = fleet.platform.amqp().parse()?;
        url.path().trim_start_matches('/').to_owned()
    };
    let (own, shared) = (virtual_host.clone(), format!("{virtual_host}-shared"));
    let mut users = Users(vec![shared.clone()]);
    users.0.extend(servers.iter().map(|name| format!("{virtual_host}:it:{name}:1")));

    // All share a user, and nothing is signed.
    use_user(&fleet, &shared)?;
    for name in APIS {
        fleet.start_api(name, &[])?;
    }
    for name in &endpoints {
        fleet.start_endpoint(name, &[])?;
    }
    for name in &workers {
        fleet.start_worker(name, &[])?;
    }
    fleet.ready()?;
    let loader = Loader::start(&fleet, LOAD);
    load_for(&mut fleet, &loader, 10)?;
    give_users(&mut fleet, &loader, &servers, [&shared, &own])?;
    require_signatures(&mut fleet, &loader, &servers)?;
    exchange_keys(&mut fleet, &loader, &servers)?;
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}
