//! Proof of the sender: reports and presence count only for the endpoint whose user has sent them.

use std::time::Duration;

use anyhow::{Context, ensure};
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use serde_json::{Value, json};
use tasker::broker::wire;
use tasker::domain::{EndpointName, Presence, PresenceState, Report, ReportEvent, TaskId, json as raw};
use uuid::Uuid;

use super::rig::{Server, TYPES, endpoint, start_api};
use crate::support::platform::{Platform, response_of};
use crate::support::presence::presence_of_its_own;

fn presence(name: &str, state: PresenceState) -> Presence {
    Presence {
        interval: Duration::from_secs(60),
        restricted: true,
        ..presence_of_its_own(name, &["steered"], state)
    }
}

fn finished(task_id: TaskId, endpoint: EndpointName, home: Uuid) -> bytes::Bytes {
    wire::encode_report(&Report {
        task_id,
        task_type: "steered".parse().expect("a type"),
        endpoint,
        home,
        event: ReportEvent::Finished {
            errnr: 0,
            errmsg: String::new(),
            payload: Some(raw(&json!({"forged": true}))),
            attempt: 1,
            attempts: Vec::new(),
            log: None,
            run: None,
        },
    })
}

/// How many messages of a source were refused since nobody vouched for them.
fn refused(platform: &Platform, source: &str) -> anyhow::Result<f64> {
    let (_, metrics) = platform.get("/metrics")?;
    let metrics = metrics.as_str().context("text")?.to_owned();
    let name = format!("tasker_unproven_total{{result=\"refused\",source=\"{source}\"}} ");
    Ok(metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(Ok(0.0), str::parse)?)
}

/// Publishes as the holder of a stolen user, who says which it is or does not.
async fn publish(thief: &Server<'_>, exchange: &str, body: &[u8], says_who: bool) -> anyhow::Result<()> {
    let connection = thief.steal().await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let properties = match says_who {
        true => BasicProperties::default().with_user_id(thief.kept()?.username.as_str().into()),
        false => BasicProperties::default(),
    };
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), "".into(), options, body, properties).await?.await?;
    Ok(connection.close(200, "done".into()).await?)
}

#[test]
fn a_stolen_user_speaks_for_its_own_endpoint_alone() -> anyhow::Result<()> {
    let platform = Platform::idle()?;
    let mut api = start_api(&platform, "enforce")?;
    let (thief, victim) = (Server::enrolled(&platform, "ep1")?, Server::enrolled(&platform, "ep2")?);
    let (_one, _two) = (thief.start()?, victim.start()?);

    // Task, type and home are right: only the user of the message shows the forgery.
    let hanging = platform.submit("steered", json!({"do": "hang"}), &["ep2"])?;
    platform.response("steered", &hanging, "ep2", "CREATED")?;
    let (_, task) = platform.get(&format!("/steered/{hanging}"))?;
    let id: TaskId = task["task"]["id"].as_str().context("an id")?.parse()?;
    let home = home_of(&platform, "ep2")?;
    for says_who in [true, false] {
        platform.block_on(publish(&thief, "it.responses", &finished(id, endpoint("ep2"), home), says_who))?;
    }
    platform.until("the reports are refused", |platform| {
        let count = refused(platform, "responses")?;
        ensure!(count == 2.0, "{count} were");
        Ok(())
    })?;
    let (_, body) = platform.get(&format!("/steered/{hanging}"))?;
    let response = response_of(&body, "ep2").context("a response")?;
    ensure!(response["status"] == "CREATED" && !body.to_string().contains("forged"), "{body}");

    // A ghost, and a goodbye of another.
    for forged in [presence("ghost", PresenceState::Joined), presence("ep2", PresenceState::Leaving)] {
        platform.block_on(publish(&thief, "it.presence", &wire::encode_presence(&forged), true))?;
    }
    platform.until("the presence is refused", |platform| {
        let count = refused(platform, "presence")?;
        ensure!(count == 2.0, "{count} were");
        Ok(())
    })?;
    let (_, page) = platform.get("/endpoints")?;
    let names: Vec<&Value> =
        page["endpoints"].as_array().context("a list")?.iter().map(|one| &one["name"]).collect();
    ensure!(names == ["ep1", "ep2"], "{page}");
    platform.subscribed("ep2", &TYPES)?;

    // The reports of the endpoint itself still count.
    platform.delete(&format!("/steered/{hanging}"))?;
    platform.response("steered", &hanging, "ep2", "CANCELED")?;

    // Two reports and a goodbye in the name of one endpoint, presence in that of another.
    api.stop(Duration::from_secs(30))?;
    let _api = start_api(&platform, "enforce")?;
    let audited = platform.audited("endpoint.unproven")?;
    let of = |name: &str| ("anonymous".to_owned(), name.to_owned());
    ensure!(audited == [(of("ep2"), 3), (of("ghost"), 1)].into(), "{audited:?}");
    Ok(())
}

/// The home of an endpoint's journal, which a thief of the ledger would know.
fn home_of(platform: &Platform, name: &str) -> anyhow::Result<Uuid> {
    use sqlx::{Connection, Executor, MySqlConnection, Row};
    let query = format!("SELECT home FROM subscription WHERE endpoint = '{name}' AND task_type = 'steered'");
    platform.block_on(async {
        let mut ledger = MySqlConnection::connect(&platform.database()).await?;
        let row = ledger.fetch_one(sqlx::AssertSqlSafe(query)).await?;
        Ok(row.try_get(0)?)
    })
}

#[test]
fn a_fleet_that_gets_its_users_one_by_one_is_heard_and_counted() -> anyhow::Result<()> {
    let mut platform = Platform::idle()?;
    let _api = start_api(&platform, "warn")?;
    platform.start_endpoint("ep2", &TYPES)?;
    platform.subscribed("ep2", &TYPES)?;
    let platform = &platform;
    let server = Server::enrolled(platform, "ep1")?;
    let _one = server.start()?;
    let identifier = platform.submit("worker", json!({"seconds": 0.1}), &[])?;
    let body = platform.task("worker", &identifier, "DONE")?;
    ensure!(response_of(&body, "ep1").is_some() && response_of(&body, "ep2").is_some(), "{body}");
    let listed = platform.tasker(&["endpoint", "list", "--unproven", "--json"])?;
    let listed: Value = serde_json::from_slice(&listed.stdout)?;
    let names: Vec<&Value> = listed.as_array().context("a list")?.iter().map(|one| &one["name"]).collect();
    ensure!(names == ["ep2"], "{listed}");
    Ok(())
}
