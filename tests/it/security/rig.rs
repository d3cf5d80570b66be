//! A platform whose endpoints have broker users of their own, as an administrator sets it up.

use std::cell::Cell;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use lapin::{Connection, ConnectionProperties};
use reqwest::Url;
use tasker::broker::account::user_name;
use tasker::config::MessageQueue;
use tasker::domain::EndpointName;
use tasker::enrolment::Identity;
use tasker_services::Process;

use crate::support::platform::Platform;
use crate::support::{management, message_queue_at};

/// The types of all endpoints here.
pub const TYPES: [&str; 2] = ["worker", "steered"];

/// The broker of a platform as its configuration names it.
pub fn message_queue(platform: &Platform) -> anyhow::Result<MessageQueue> {
    let url = platform.amqp();
    let virtual_host = Url::parse(&url)?.path().trim_start_matches('/').to_owned();
    Ok(MessageQueue { virtual_host, exchange: "it".to_owned(), ..message_queue_at(&url) })
}

pub fn endpoint(name: &str) -> EndpointName {
    name.parse().expect("an endpoint name")
}

/// An API process with this `security.reports`.
pub fn start_api(platform: &Platform, reports: &str) -> anyhow::Result<Process> {
    let environment = [("TASKER_SECURITY__REPORTS".to_owned(), reports.to_owned())];
    let api = platform.launch("api", &["api".to_owned()], &environment)?;
    platform.until("the API is ready", |platform| {
        let (status, body) = platform.get("/ready")?;
        ensure!(status == 200, "{status}: {body}");
        Ok(())
    })?;
    Ok(api)
}

/// A server whose endpoint has a broker user of its own.
pub struct Server<'a> {
    pub platform: &'a Platform,
    pub name: &'a str,
    invitations: Cell<u32>,
}

impl<'a> Server<'a> {
    /// Invites and enrolls an endpoint.
    pub fn enrolled(platform: &'a Platform, name: &'a str) -> anyhow::Result<Self> {
        let server = Self::invited_for(platform, name, &TYPES)?;
        server.enroll()?;
        Ok(server)
    }

    /// Invites an endpoint for these types.
    pub fn invited_for(platform: &'a Platform, name: &'a str, types: &[&str]) -> anyhow::Result<Self> {
        let server = Self { platform, name, invitations: Cell::default() };
        server.invite_for(types)?;
        Ok(server)
    }

    /// Invites the endpoint, once more if it was before.
    pub fn invite(&self) -> anyhow::Result<String> {
        self.invite_for(&TYPES)
    }

    /// The same for these types.
    pub fn invite_for(&self, types: &[&str]) -> anyhow::Result<String> {
        self.count_invitation();
        let mut arguments = vec!["endpoint", "invite", self.name];
        types.iter().for_each(|task_type| arguments.extend(["-t", task_type]));
        let printed = self.platform.tasker(&arguments)?;
        let invitation = String::from_utf8(printed.stdout)?;
        self.platform.home().write(&self.invitation(), &invitation)?;
        Ok(invitation)
    }

    /// How many invitations there were.
    pub fn invitations(&self) -> u32 {
        self.invitations.get()
    }

    /// Counts an invitation that was not made by `invite`.
    pub fn count_invitation(&self) {
        self.invitations.set(self.invitations.get() + 1);
    }

    /// Fetches what the endpoint was invited to.
    pub fn enroll(&self) -> anyhow::Result<()> {
        let (invitation, identity) = (self.path(&self.invitation()), self.path(&self.identity()));
        self.platform
            .tasker(&["endpoint", "enroll", self.name, "--invitation", &invitation, "--identity", &identity])
            .map(drop)
    }

    /// Starts the endpoint on its identity.
    pub fn start(&self) -> anyhow::Result<Process> {
        let identity = self.path(&self.identity());
        let mut arguments = vec!["endpoint", "-e", self.name, "--identity", &identity];
        TYPES.iter().for_each(|task_type| arguments.extend(["-t", task_type]));
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let process = self.platform.launch(self.name, &arguments, &[])?;
        self.platform.subscribed(self.name, &TYPES).with_context(|| process.log())?;
        Ok(process)
    }

    /// What its server keeps.
    pub fn kept(&self) -> anyhow::Result<Identity> {
        Ok(serde_json::from_slice(&std::fs::read(self.path(&self.identity()))?)?)
    }

    /// A connection of a thief who has that.
    pub async fn steal(&self) -> anyhow::Result<Connection> {
        let (queue, kept) = (message_queue(self.platform)?, self.kept()?);
        let mut url = Url::parse(&format!("amqp://127.0.0.1:{}", queue.port))?;
        let part = |text: &str| text.replace(':', "%3A");
        url.set_path(&format!("/{}", kept.virtual_host));
        url.set_username(&part(&kept.username)).ok().context("a user")?;
        url.set_password(Some(&kept.password)).ok().context("a password")?;
        Ok(Connection::connect(url.as_str(), ConnectionProperties::default()).await?)
    }

    pub fn invitation(&self) -> String {
        format!("{}.invitation", self.name)
    }

    pub fn identity(&self) -> String {
        format!("{}.json", self.name)
    }

    /// Where a file of the platform is.
    pub fn path(&self, file: &str) -> String {
        let path: PathBuf = self.platform.home().join(file);
        path.display().to_string()
    }
}

impl Drop for Server<'_> {
    /// Users belong to no virtual host, so they would outlive the platform.
    fn drop(&mut self) {
        let Ok(queue) = message_queue(self.platform) else { return };
        for generation in 1..=self.invitations.get() {
            let user = user_name(&queue, &endpoint(self.name), generation);
            self.platform.block_on(async {
                if management::exists(&["users", &user]).await {
                    management::delete(&["users", &user]).await;
                }
            });
        }
    }
}
