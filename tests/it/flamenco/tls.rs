//! TLS in front, and towards the Server. All certificates are made here.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::manager::{Manager, tasker, write_settings};
use super::rig::{register_by, send, until};
use super::server::Server;
use crate::api_tls::Signed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_come_in_over_tls() -> Result<()> {
    let (server, signed) = (Server::start().await?, Signed::new());
    let files = signed.files();
    let manager = Manager::start(&format!(
        "flamenco: {}\nown_url: http://farm.example:8080/\ntlscert: {}\ntlskey: {}",
        server.url,
        files.certificate.display(),
        files.key.display()
    ))?;
    let authority = reqwest::Certificate::from_pem(signed.authority.as_bytes())?;
    let client = tasker::https::client().tls_certs_only([authority]).build()?;
    let worker = register_by(&client, &manager.url, "a", &["sleep"]).await?;
    let asked = client.post(format!("{}/task", manager.url)).basic_auth(&worker.id, Some(&worker.secret));
    ensure!(send(asked).await?.0 == 204);
    // The Server sends workers to the address with TLS.
    let notice = server.until_asked("startup", 1).await?[0].json();
    ensure!(notice["manager_url"] == "https://farm.example:8080/", "{notice}");
    let stranger = tasker::https::client().build()?.get(&manager.url).send().await;
    ensure!(stranger.is_err(), "nobody vouches for it");
    let plain = tasker::https::client().build()?.get(manager.url.replace("https", "http")).send().await;
    ensure!(plain.is_err_and(|error| !error.is_status()), "plain HTTP is no way in");
    Ok(())
}

#[test]
fn wrong_files_are_refused_in_clear_words() -> Result<()> {
    let (signed, other, directory) = (Signed::new(), Signed::new(), tempfile::tempdir()?);
    let (files, missing) = (signed.files(), directory.path().join("missing.pem"));
    for (certificate, key, expected) in [
        (&missing, &files.key, "cannot read"),
        (&files.key, &files.key, "is not a file of certificates in PEM"),
        (&files.certificate, &files.certificate, "is not a private key in PEM"),
        (&files.certificate, &other.files().key, "cannot use the certificate"),
    ] {
        let text = format!(
            "flamenco: http://127.0.0.1:1/\nlisten: 127.0.0.1:0\ntlscert: {}\ntlskey: {}",
            certificate.display(),
            key.display()
        );
        write_settings(directory.path(), &text)?;
        let output = tasker(directory.path(), &["flamenco-manager"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            !output.status.success() && said.contains(expected) && !said.contains("PRIVATE KEY"),
            "{expected}: {said}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_has_to_show_a_certificate_that_is_trusted() -> Result<()> {
    let signed = Signed::new();
    let server = Server::start_tls(&signed.files()).await?;
    let settings = format!("flamenco: {}\ntask_update_push_max_interval: 0s", server.url);
    let stranger = Manager::start(&settings)?;
    until("the reason", async || {
        let log = stranger.log()?;
        Ok((log.contains("certificate is not trusted") && log.contains("SSL_CERT_FILE")).then_some(()))
    })
    .await?;
    ensure!(
        server.asked("startup").is_empty() && server.asked("task-update-batch").is_empty(),
        "no secret goes to a stranger"
    );
    drop(stranger);
    let home = tasker_services::Home::new("flamenco")?;
    let authority = home.write("authority.pem", &signed.authority)?;
    let manager =
        Manager::start_in(home, &settings, vec![("SSL_CERT_FILE", authority.display().to_string())])?;
    let told = server.until_asked("startup", 1).await?;
    ensure!(told[0].json()["_meta"] == json!({"version": 2}));
    server.until_asked("task-update-batch", 1).await?;
    let log = manager.log()?;
    ensure!(!log.contains("not trusted"), "{log}");
    told.first().context("a start").map(drop)
}
