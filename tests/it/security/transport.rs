//! What crosses the network: verified TLS, or nothing, unless the configuration says that it may.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};
use tasker_services::{Port, RabbitMq};

use super::rig::start_api;
use crate::support::place::Place;
use crate::support::platform::{Platform, response_of};

const QUEUE: &str = "username: u, password: p";

/// A part of a configuration, for which process it is, and what keeps that from starting: nothing where the
/// part is safe.
#[rustfmt::skip]
const PARTS: &[(&str, &str, &str)] = &[
    ("manager: {message_queue: {host: mq.example, USER}}",                          "endpoint", "manager.message_queue.tls: "),
    ("manager: {message_queue: {host: 192.0.2.1, USER, tls: false}}",               "endpoint", "manager.message_queue.tls: "),
    ("manager: {message_queue: {host: mq.example, USER, tls: true}}",               "endpoint", ""),
    ("manager: {message_queue: {host: mq.example, USER, tls: {ca: ca.pem}}}",       "endpoint", ""),
    ("manager: {message_queue: {host: 127.0.0.1, USER}}",                           "endpoint", ""),
    ("manager: {message_queue: {host: localhost, USER}, db: {uri: 'mysql://u:p@db.example/t'}}",
     "api", "manager.db.uri: "),
    ("manager: {message_queue: {host: localhost, USER}, db: {uri: 'mysql://u:p@db.example/t?ssl-mode=DISABLED'}}",
     "api", "manager.db.uri: "),
    ("manager: {message_queue: {host: localhost, USER}, db: {uri: 'mysql://u:p@db.example/t?ssl-mode=REQUIRED'}}",
     "api", "manager.db.uri: "),
    ("manager: {message_queue: {host: localhost, USER}, db: {uri: 'mysql://u:p@db.example/t?ssl-mode=VERIFY_CA'}}",
     "api", ""),
    // An endpoint has no business with the database, and does not mind how others reach it.
    ("manager: {message_queue: {host: localhost, USER}, db: {uri: 'mysql://u:p@db.example/t'}}", "endpoint", ""),
    ("manager: {message_queue: {host: localhost, USER}}\nrabbitmq: {apiurl: 'http://mq.example:15672/api', USER}",
     "initialize", "rabbitmq.apiurl: "),
    ("manager: {message_queue: {host: localhost, USER}}\nrabbitmq: {apiurl: 'https://mq.example:15671/api', USER}",
     "initialize", ""),
];

#[test]
fn what_would_cross_the_network_in_the_clear_does_not_start() -> anyhow::Result<()> {
    let place = Place::new()?;
    for (part, process, refused) in PARTS {
        let text = format!("task_types: [worker]\n{}\n", part.replace("USER", QUEUE));
        for allowed in [false, true] {
            let line = if allowed { "insecure_transport: true\n" } else { "" };
            place.write("c.yaml", &format!("{line}{text}"))?;
            let said = place.any(&format!("config check --config c.yaml --for {process}"))?;
            let told = said.err.contains(refused) || said.out.contains(refused);
            match (refused.is_empty(), allowed) {
                (true, _) => ensure!(!said.err.contains("insecure_transport"), "{text}: {said:?}"),
                (false, false) => ensure!(
                    said.code == Some(1) && told && said.err.contains("insecure_transport: true"),
                    "{text}: {said:?}"
                ),
                // It is warned of all the same.
                (false, true) => {
                    ensure!(told && !said.err.contains("set insecure_transport"), "{text}: {said:?}")
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_process_that_is_refused_says_what_to_do_and_one_that_is_not_warns() -> anyhow::Result<()> {
    let place = Place::new()?;
    let config =
        "task_types: [worker]\nmanager: {message_queue: {host: mq.invalid, username: u, password: p}}\n";
    place.write("c.yaml", config)?;
    let said = place.any("endpoint --config c.yaml -e console1")?;
    ensure!(
        said.code == Some(1)
            && said.err.contains("manager.message_queue.tls: ")
            && said.err.contains("set tls: true")
            && said.err.contains("insecure_transport: true"),
        "{said:?}"
    );
    Ok(())
}

/// An authority with certificates of a server and of a client.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// Certificate and key.
    fn sign(&self, name: &str) -> anyhow::Result<(String, String)> {
        self.issue(&CertificateParams::new(vec![name.to_owned()])?)
    }

    /// The same with this common name.
    fn sign_for(&self, user: &str) -> anyhow::Result<(String, String)> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, user);
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

/// What a broker that demands certificates is told first: the answer to its greeting. Nothing when the client
/// hangs up before. The broker proves to have this name.
fn greeted(listener: &TcpListener, authority: &Authority, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let (certificate, key) = authority.sign(name)?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes())?],
            PrivateKeyDer::from_pem_slice(key.as_bytes())?,
        )?;
    let (mut socket, _) = listener.accept()?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut connection = ServerConnection::new(Arc::new(config))?;
    let mut stream = Stream::new(&mut connection, &mut socket);
    let mut header = [0; 8];
    if stream.read_exact(&mut header).is_err() {
        return Ok(None);
    }
    ensure!(header.starts_with(b"AMQP"), "{header:?}");
    // Connection.Start, version 0-9, without properties.
    let mut start = vec![0, 10, 0, 10, 0, 9, 0, 0, 0, 0];
    for text in ["PLAIN EXTERNAL", "en_US"] {
        start.extend(u32::try_from(text.len())?.to_be_bytes());
        start.extend(text.as_bytes());
    }
    let mut frame = vec![1, 0, 0];
    frame.extend(u32::try_from(start.len())?.to_be_bytes());
    frame.extend(start);
    frame.push(0xce);
    stream.write_all(&frame)?;
    stream.flush()?;
    let mut head = [0; 7];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes(head[3..].try_into()?);
    let mut answer = vec![0; usize::try_from(length)?];
    stream.read_exact(&mut answer)?;
    Ok(Some(answer))
}

/// The files that a client has, the name that the broker at 127.0.0.1 proves to have, whether the client gets to
/// the greeting, and how it says who it is.
#[rustfmt::skip]
const CLIENTS: &[(&str, &str, Option<&str>)] = &[
    ("username: ep1, tls: {ca: ca.pem, certificate: client.pem, key: client.key}", "127.0.0.1", Some("EXTERNAL")),
    ("username: ep1, password: p, tls: {ca: ca.pem, certificate: client.pem, key: client.key}", "127.0.0.1", Some("PLAIN")),
    ("username: ep1, password: p, tls: {ca: ca.pem, certificate: client.pem, key: client.key}", "mq.example", None),
    ("username: ep1, password: p, tls: {ca: ca.pem}", "127.0.0.1", None),
    ("username: ep1, password: p, tls: {ca: other.pem, certificate: client.pem, key: client.key}", "127.0.0.1", None),
    ("username: ep1, password: p, tls: true", "127.0.0.1", None),
];

/// A key on one line, as a variable of the environment may make it, a key that is cut off, and another's key.
#[test]
fn a_key_that_cannot_be_used_is_named_and_not_shown() -> anyhow::Result<()> {
    let (authority, place) = (Authority::new()?, Place::new()?);
    let ((certificate, key), (_, foreign)) = (authority.sign("ep1")?, authority.sign("ep2")?);
    place.write("ca.pem", &authority.pem)?;
    place.write("client.pem", &certificate)?;
    let secret = key.lines().nth(1).context("a key has lines")?;
    let bytes = format!("{:?}", &secret.as_bytes()[..8]);
    let (one_line, cut_off) = (key.replace('\n', ""), key.replace("-----END", ""));
    for (text, word) in [
        (one_line.as_str(), "there is no private key in PEM"),
        (&cut_off, "there is no private key in PEM"),
        (&foreign, "client.key: "),
    ] {
        place.write("client.key", text)?;
        place.write(
            "c.yaml",
            "task_types: [worker]\nmanager: {message_queue: {host: 127.0.0.1, port: 1, username: ep1, tls: {ca: ca.pem, certificate: client.pem, key: client.key}}}\n",
        )?;
        let told = place.command("config check --connect --for endpoint --config c.yaml").output()?;
        let told = String::from_utf8(told.stderr)?;
        ensure!(told.contains("client.key: ") && told.contains(word), "{told}");
        let shown = told.contains(secret) || told.contains(bytes.trim_matches(['[', ']']));
        ensure!(!shown, "a part of the key is told: {told}");
    }
    Ok(())
}

#[test]
fn a_broker_is_verified_and_knows_a_client_by_its_certificate() -> anyhow::Result<()> {
    let (authority, other, place) = (Authority::new()?, Authority::new()?, Place::new()?);
    let (certificate, key) = authority.sign("ep1")?;
    for (name, text) in [
        ("ca.pem", &authority.pem),
        ("other.pem", &other.pem),
        ("client.pem", &certificate),
        ("client.key", &key),
    ] {
        place.write(name, text)?;
    }
    for (client, name, mechanism) in CLIENTS {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        place.write(
            "c.yaml",
            &format!(
                "task_types: [worker]\nmanager: {{message_queue: {{host: 127.0.0.1, port: {}, {client}}}}}\n",
                listener.local_addr()?.port()
            ),
        )?;
        let mut check = place.command("config check --connect --for endpoint --config c.yaml");
        let mut check =
            check.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn()?;
        let answer = greeted(&listener, &authority, name)?;
        // Nobody goes on with the greeting.
        drop(listener);
        check.wait()?;
        match (mechanism, answer) {
            (None, None) => {}
            (Some(mechanism), Some(answer)) => {
                let mut wanted = vec![u8::try_from(mechanism.len())?];
                wanted.extend(mechanism.as_bytes());
                ensure!(answer.windows(wanted.len()).any(|window| window == wanted), "{client}: {answer:?}");
            }
            (_, answer) => anyhow::bail!("{client}: {answer:?}"),
        }
    }
    Ok(())
}

/// What `rabbitmq.conf` says of TLS and of users that their certificates name, by `docs/operations.md`.
fn with_certificates(place: &Place, port: u16) -> String {
    let path = |name: &str| place.path().join(name).display().to_string();
    let (ca, certificate, key) = (path("ca.pem"), path("server.pem"), path("server.key"));
    format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {ca}\nssl_options.certfile = {certificate}\n\
         ssl_options.keyfile = {key}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n\
         ssl_cert_login_from = common_name\nauth_mechanisms.1 = EXTERNAL\nauth_mechanisms.2 = PLAIN\n"
    )
}

#[test]
fn an_endpoint_joins_with_its_certificate_alone() -> anyhow::Result<()> {
    let (authority, place, port) = (Authority::new()?, Place::new()?, Port::free()?);
    // The virtual host and the exchange of a private platform.
    let user = "tasker:it:ep1:1";
    for (name, certificate) in
        [("server", authority.sign("127.0.0.1")?), ("client", authority.sign_for(user)?)]
    {
        place.write(&format!("{name}.pem"), &certificate.0)?;
        place.write(&format!("{name}.key"), &certificate.1)?;
    }
    place.write("ca.pem", &authority.pem)?;
    let configuration = with_certificates(&place, port.number());
    let platform =
        Platform::idle_on(RabbitMq::start_with(&["rabbitmq_auth_mechanism_ssl"], &configuration)?)?;
    // Reports of endpoints count only where the broker has verified who sent them.
    let _api = start_api(&platform, "enforce")?;
    platform.tasker(&["endpoint", "invite", "ep1", "-t", "worker"])?;

    let config = platform.home().join("config.yaml");
    let mut own: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&config)?)?;
    let path = |name: &str| place.path().join(name).display().to_string();
    own["manager"]["message_queue"] = serde_json::json!({
        "host": "127.0.0.1", "port": port.number(), "username": user, "virtual_host": "tasker", "exchange": "it",
        "tls": {"ca": path("ca.pem"), "certificate": path("client.pem"), "key": path("client.key")},
    });
    std::fs::write(&config, own.to_string())?;
    let endpoint = ["endpoint", "-e", "ep1", "-t", "worker"].map(str::to_owned);
    let process = platform.launch("ep1", &endpoint, &[])?;
    platform.subscribed("ep1", &["worker"]).with_context(|| process.log())?;
    let identifier = platform.submit("worker", serde_json::json!({"seconds": 0.1}), &[])?;
    let body = platform.task("worker", &identifier, "DONE").with_context(|| process.log())?;
    ensure!(response_of(&body, "ep1").is_some(), "{body}");
    Ok(())
}

#[test]
fn a_file_that_cannot_be_read_is_named() -> anyhow::Result<()> {
    let place = Place::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    place.write("c.yaml", &format!("task_types: [worker]\nmanager: {{message_queue: {{host: 127.0.0.1, port: {port}, username: u, password: p, tls: {{ca: nowhere.pem}}}}}}\n"))?;
    for (line, wanted) in [
        ("config check --connect --config c.yaml", "manager.message_queue.tls: nowhere.pem: "),
        (
            "config check --for endpoint --config c.yaml",
            "manager.message_queue.tls.ca: nowhere.pem does not exist",
        ),
    ] {
        let said = place.any(line)?;
        ensure!(said.code == Some(1) && said.err.contains(wanted), "{line}: {said:?}");
    }
    place.write("c.yaml", "task_types: [worker]\nmanager: {message_queue: {host: h, username: u, password: p, tls: {certificate: c.pem}}}\n")?;
    let said = place.any("config check --for endpoint --config c.yaml")?;
    said.err
        .contains("manager.message_queue.tls.key: is missing")
        .then_some(())
        .with_context(|| format!("{said:?}"))
}
