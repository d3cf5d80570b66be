//! A fleet that shares one broker user gets a user for each endpoint while tasks keep coming, by the steps of
//! `docs/security.md`.

use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{all_is_accounted_for, load_for};
use crate::support::fleet::{Fleet, TYPE};
use crate::support::loader::Loader;
use crate::support::management;
use crate::support::platform::Platform;

/// Endpoints of the fleet.
const ENDPOINTS: usize = 20;
/// Tasks a second. A third of them goes to all endpoints.
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

/// Restarts processes one by one, each with what is configured now.
fn restart(fleet: &mut Fleet, names: &[&str]) -> anyhow::Result<()> {
    for name in names {
        fleet.ask(name, Signal::TERM)?;
        fleet.until_left(name)?;
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

/// Messages of users that speak for no endpoint, which both API processes have counted.
fn unproven(fleet: &Fleet) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for url in fleet.urls() {
        let text = fleet.platform.block_on(async {
            let request = tasker::https::client().timeout(Duration::from_secs(20)).build()?;
            anyhow::Ok(request.get(format!("{url}/metrics")).send().await?.text().await?)
        })?;
        let counts = text.lines().filter(|line| line.starts_with("tasker_unproven_total{"));
        sum += counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>();
    }
    Ok(sum)
}

#[test]
fn a_fleet_under_load_gets_a_user_for_each_endpoint() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(Platform::idle()?)?;
    let names: Vec<String> = (1..=ENDPOINTS).map(|number| format!("console{number}")).collect();
    let virtual_host = {
        let url: reqwest::Url = fleet.platform.amqp().parse()?;
        url.path().trim_start_matches('/').to_owned()
    };
    let (own, shared) = (virtual_host.clone(), format!("{virtual_host}-shared"));
    let mut users = Users(vec![shared.clone()]);
    users.0.extend(names.iter().map(|name| format!("{virtual_host}:it:{name}:1")));

    // All share a user.
    use_user(&fleet, &shared)?;
    for name in ["api1", "api2"] {
        fleet.start_api(name, &[])?;
    }
    for name in &names {
        fleet.start_endpoint(name, &[])?;
    }
    fleet.ready()?;
    let loader = Loader::start(&fleet, LOAD);
    load_for(&mut fleet, &loader, 10)?;
    ensure!(unproven(&fleet)? > 0.0, "nothing is counted of a shared user");

    // Each gets a user of its own.
    let directory = fleet.platform.home().join("invitations");
    std::fs::create_dir(&directory)?;
    let out_dir = directory.display().to_string();
    fleet.platform.tasker(&["endpoint", "invite", "--all", "-t", TYPE, "--out-dir", &out_dir])?;
    for name in &names {
        let file = |directory: &str| fleet.platform.home().join(directory).join(name).display().to_string();
        let (invitation, identity) = (file("invitations"), format!("{}.json", file("")));
        let url = fleet.urls().swap_remove(0);
        let enroll = ["endpoint", "enroll", name, "--api", &url, "--invitation", &invitation];
        fleet.platform.tasker(&[&enroll[..], &["--identity", &identity]].concat())?;
        fleet.add_arguments(name, &["--identity", &identity])?;
        restart(&mut fleet, &[name])?;
    }
    load_for(&mut fleet, &loader, 10)?;
    let before = unproven(&fleet)?;
    load_for(&mut fleet, &loader, 20)?;
    ensure!(unproven(&fleet)? == before, "somebody still comes in as the shared user");
    let listed = fleet.platform.tasker(&["endpoint", "list", "--json"])?;
    let listed: Value = serde_json::from_slice(&listed.stdout)?;
    let enrolled = listed.as_array().context("a list")?;
    let is_enrolled = |one: &&Value| one["generation"] == 1 && one["enrolled_at"].is_string();
    ensure!(enrolled.iter().filter(is_enrolled).count() == ENDPOINTS, "{listed}");

    // Nobody else is believed.
    fleet.configure(|config| {
        config["security"] = json!({"reports": "enforce"});
        Ok(())
    })?;
    restart(&mut fleet, &["api1", "api2"])?;
    load_for(&mut fleet, &loader, 20)?;

    // The API gets another user, and the one that was shared is deleted.
    use_user(&fleet, &own)?;
    restart(&mut fleet, &["api1", "api2"])?;
    fleet.platform.block_on(management::delete(&["users", &shared]));
    load_for(&mut fleet, &loader, 20)?;
    ensure!(unproven(&fleet)? == 0.0, "messages of endpoints were refused");
    let taken = loader.finish(&mut fleet)?;
    all_is_accounted_for(fleet, &taken)
}
