//! Who is believed and who we are: C27 to C31. All certificates are made here.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tasker::http_tasks::{
    AttemptFailure, InsecureFallback, Method, Proxy, Roots, Task, TaskError, TaskList, TlsConfig, TlsMode,
    TransportPolicy, Trust,
};

use tokio::io::AsyncBufReadExt;

use super::server::{Reply, Server, ok};
use super::{all, get, local, millis, one, runner};

/// An authority that signs what a test needs.
pub(super) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Signed {
    pem: String,
    key: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> Signed {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.extended_key_usages = vec![purpose];
        Signed {
            pem: params.signed_by(&key, &self.issuer).expect("a certificate").pem(),
            key: key.serialize_pem(),
        }
    }

    /// A server's side, which may want to know who the clients are.
    pub(super) fn server(&self, clients: Option<&Self>) -> ServerConfig {
        let signed = self.sign("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(certificates(&clients.pem).remove(0)).expect("a root");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .expect("a verifier");
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).expect("a key");
        builder.with_single_cert(certificates(&signed.pem), key).expect("a configuration")
    }
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("certificates")
}

pub(super) fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig::new().roots(Roots::Only).ca_bundle_pem(&authority.pem).expect("a bundle")
}

#[tokio::test]
async fn c27_a_server_that_nobody_vouches_for_gets_no_request() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(None), |_, _| ok()).await;
    let done = one(&runner(), get(&server.https("/"))).await;
    assert!(
        matches!(done.result, Err(TaskError::Failed(AttemptFailure::Certificate { .. }))),
        "{:?}",
        done.result
    );
    assert_eq!((done.attempts, server.known.seen().len()), (1, 0));
    // Plain HTTP on its port is no way in either.
    assert!(one(&runner(), get(&server.url("/")).retries(0)).await.result.is_err());
    assert!(server.known.seen().is_empty());
}

#[tokio::test]
async fn c28_a_bundle_vouches_and_what_is_none_is_refused() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(None), |_, _| ok()).await;
    let runner = local().tls(trusting(&authority)).build().expect("a runner");
    let done = one(&runner, get(&server.https("/"))).await;
    assert!(done.result.is_ok(), "{:?}", done.result);
    assert_eq!(done.trust, Trust::Verified);
    // The certificate is for an address, not for any name that leads there.
    let done = one(&runner, get(&server.https("/").replace("127.0.0.1", "localhost"))).await;
    assert!(
        matches!(done.result, Err(TaskError::Failed(AttemptFailure::Certificate { .. }))),
        "{:?}",
        done.result
    );

    let client = authority.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
    let other = authority.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
    assert!(TlsConfig::new().ca_bundle_pem("garbage").is_err());
    assert!(
        TlsConfig::new()
            .ca_bundle_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .is_err()
    );
    assert!(TlsConfig::new().client_identity_pem(&client.pem, "").is_err());
    assert!(TlsConfig::new().client_identity_pem("", &client.key).is_err());
    let error = TlsConfig::new()
        .client_identity_pem(&client.pem, &other.key)
        .expect_err("they do not belong together");
    assert!(!error.to_string().contains("PRIVATE"), "{error}");
    assert!(TlsConfig::new().client_identity_pem(&client.pem, &client.key).is_ok());
}

#[tokio::test]
async fn c29_the_client_shows_who_it_is() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = Server::tls(authority.server(Some(&clients)), |_, _| ok()).await;
    let client = clients.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
    let identity = trusting(&authority).client_identity_pem(&client.pem, &client.key).expect("an identity");
    let runner = local().tls(identity.clone()).build().expect("a runner");
    let done = one(&runner, get(&server.https("/"))).await;
    assert!(done.result.is_ok(), "{:?}", done.result);
    assert_eq!(server.known.seen()[0].client_certificates, 1);
    // Also to a server that it does not look at.
    let done = one(&runner, get(&server.https("/")).tls_mode(TlsMode::Insecure)).await;
    assert!(done.result.is_ok(), "{:?}", done.result);

    let nobody = local().tls(trusting(&authority)).build().expect("a runner");
    assert!(one(&nobody, get(&server.https("/")).retries(1)).await.result.is_err());
    assert_eq!(server.known.seen().len(), 2);
    // Told later, for what starts later.
    nobody.set_tls(identity).expect("the calls are made here");
    assert!(one(&nobody, get(&server.https("/"))).await.result.is_ok());
}

fn falling_back(send_credentials: bool) -> InsecureFallback {
    InsecureFallback::OnCertificateError { hosts: vec!["127.0.0.1".to_owned()], send_credentials }
}

#[tokio::test]
async fn c30_a_fallback_is_for_certificates_only() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(None), |_, _| ok()).await;
    let task = |url: &str| {
        get(url)
            .header("Authorization", "secret")
            .expect("a header")
            .header("X-Plain", "p")
            .expect("a header")
            .retries(0)
    };
    for (sends, count) in [(false, 1), (true, 2)] {
        let runner = local().insecure_fallback(falling_back(sends)).build().expect("a runner");
        let done = one(&runner, task(&server.https("/"))).await;
        assert!(done.result.is_ok(), "{:?}", done.result);
        assert_eq!((done.trust, done.attempts, runner.stats().fallbacks), (Trust::InsecureFallback, 1, 1));
        let seen = server.known.seen();
        assert_eq!(seen.len(), count);
        assert_eq!(
            (seen[count - 1].header("authorization").is_some(), seen[count - 1].header("x-plain").is_some()),
            (sends, sends)
        );
    }
    // Another host is not meant.
    let fallback =
        InsecureFallback::OnCertificateError { hosts: vec!["localhost".to_owned()], send_credentials: false };
    let done =
        one(&local().insecure_fallback(fallback).build().expect("a runner"), task(&server.https("/"))).await;
    assert!(matches!(done.result, Err(TaskError::Failed(AttemptFailure::Certificate { .. }))));

    // A good certificate and a bad answer, or none: nobody is asked without looking.
    let server = Server::tls(authority.server(None), |seen, _| match seen.path.as_str() {
        "/stall" => Reply::Stall,
        "/gone" => Reply::HangUp,
        _ => Reply::status(503),
    })
    .await;
    let transport =
        TransportPolicy { response_header_timeout: Some(millis(100)), ..TransportPolicy::default() };
    let builder =
        local().transport(transport).tls(trusting(&authority)).insecure_fallback(falling_back(true));
    let runner = builder.build().expect("a runner");
    for path in ["/busy", "/stall", "/gone"] {
        let done = one(&runner, task(&server.https(path))).await;
        assert!(done.result.is_err() && done.trust == Trust::Verified, "{path}: {:?}", done.result);
    }
    assert_eq!((server.known.seen().len(), runner.stats().fallbacks), (3, 0));
    assert!(one(&runner, task("https://127.0.0.1:1/")).await.result.is_err());
    assert_eq!(runner.stats().fallbacks, 0);
}

#[tokio::test]
async fn c31_an_unverified_connection_serves_no_verified_task() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(None), |_, _| ok()).await;
    let runner = runner();
    let done = one(&runner, get(&server.https("/")).tls_mode(TlsMode::Insecure)).await;
    assert!(done.result.is_ok(), "{:?}", done.result);
    assert_eq!((done.trust, runner.stats().idle), (Trust::InsecureRequested, 1));
    let done = one(&runner, get(&server.https("/"))).await;
    assert!(
        matches!(done.result, Err(TaskError::Failed(AttemptFailure::Certificate { .. }))),
        "{:?}",
        done.result
    );
    assert_eq!(server.known.seen().len(), 1);
}

#[tokio::test]
async fn connections_over_tls_are_kept_too() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(None), |_, _| ok().after(millis(20))).await;
    let transport = TransportPolicy { max_idle_per_host: 20, ..TransportPolicy::default() };
    let runner = local().transport(transport).tls(trusting(&authority)).build().expect("a runner");
    for _ in 0..2 {
        let list: TaskList =
            runner.task_list(&Task::new(Method::PUT, &server.https("/")).expect("a task").body("x"), 20);
        let done = all(runner.launch(list).expect("launched")).await;
        assert!(done.iter().all(|done| done.result.is_ok()), "{done:?}");
    }
    assert_eq!(server.known.accepted(), 20);
}

#[tokio::test]
async fn a_handshake_has_a_limit_of_its_own() {
    // Takes connections and says nothing.
    let silent = Server::start(|_, _| ok()).await;
    let transport = TransportPolicy { tls_handshake_timeout: millis(100), ..TransportPolicy::default() };
    let runner = local().transport(transport).build().expect("a runner");
    let began = tokio::time::Instant::now();
    let done = one(&runner, get(&silent.https("/")).tls_mode(TlsMode::Insecure).retries(0)).await;
    assert!(done.result.is_err_and(|error| error.is_timeout()) && began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn redirects_never_lead_out_of_tls() {
    let plain = Server::start(|_, _| ok()).await;
    let there = plain.url("/");
    let authority = Authority::new();
    let server =
        Server::tls(authority.server(None), move |_, _| Reply::status(302).header("Location", there.clone()))
            .await;
    let done =
        one(&local().tls(trusting(&authority)).build().expect("a runner"), get(&server.https("/"))).await;
    assert!(
        matches!(done.result, Err(TaskError::Failed(AttemptFailure::Redirect { .. }))),
        "{:?}",
        done.result
    );
    assert!(plain.known.seen().is_empty());
}

/// A proxy that opens ways: answers what it was asked for, and the connections it has made.
async fn tunnel() -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (asked, asks) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.expect("a head"));
                }
                let head = String::from_utf8(head).expect("text");
                let target = head
                    .strip_prefix("CONNECT ")
                    .and_then(|rest| rest.split(' ').next())
                    .expect("a target")
                    .to_owned();
                asked.send(head).expect("the test listens");
                let mut server = tokio::net::TcpStream::connect(target).await.expect("the target listens");
                client
                    .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    .await
                    .expect("the client listens");
                _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, asks)
}

#[tokio::test]
async fn tls_goes_through_a_proxy_from_end_to_end() {
    let authority = Authority::new();
    let server = Server::tls(authority.server(None), |_, _| ok()).await;
    let (address, mut asks) = tunnel().await;
    let proxy = Proxy::at(&format!("http://user:secret@{address}")).expect("a proxy");
    let runner = local().tls(trusting(&authority)).proxy(proxy).build().expect("a runner");
    for _ in 0..2 {
        let done = one(&runner, get(&server.https("/"))).await;
        assert!(done.result.is_ok(), "{:?}", done.result);
        assert_eq!(done.trust, Trust::Verified);
    }
    let asked = asks.recv().await.expect("a way was asked for").to_ascii_lowercase();
    assert!(asked.contains("proxy-authorization: basic dxnlcjpzzwnyzxq="), "{asked}");
    assert!(asks.try_recv().is_err(), "the way is kept for the second request");
    let seen = server.known.seen();
    assert!(
        seen.len() == 2 && seen.iter().all(|seen| seen.header("proxy-authorization").is_none()),
        "that is not for the target"
    );
}

/// A server of another make, since the library of these tests has as little as the client.
struct OpenSsl {
    _process: tokio::process::Child,
    _files: tempfile::TempDir,
    address: String,
}

impl OpenSsl {
    async fn start(key: &[&str], options: &[&str]) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let path = |name: &str| files.path().join(name).to_string_lossy().into_owned();
        let (certificate, secret) = (path("certificate.pem"), path("key.pem"));
        let made = tokio::process::Command::new("openssl")
            .args([
                "req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1", "-keyout", &secret, "-out",
                &certificate,
            ])
            .args(key)
            .output();
        assert!(made.await.expect("openssl is there").status.success(), "a certificate of {key:?}");
        let mut process = tokio::process::Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-cert", &certificate, "-key", &secret])
            .args(options)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("openssl is there");
        let mut lines = tokio::io::BufReader::new(process.stdout.take().expect("its output")).lines();
        let address = loop {
            let line = tokio::time::timeout(super::server::PATIENCE, lines.next_line())
                .await
                .expect("it starts in time");
            if let Some(address) = line.expect("a line").expect("it listens").strip_prefix("ACCEPT ") {
                break address.to_owned();
            }
        };
        Self { _process: process, _files: files, address }
    }
}

/// What `docs/http-tasks.md` says of servers that cannot be reached.
#[tokio::test]
async fn servers_with_other_keys_are_reached_or_told() {
    const P521: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"];
    const RSA: &[&str] = &["-newkey", "rsa:2048"];
    let runner = runner();
    for (key, options, verified, insecure) in [
        (P521, &["-tls1_3"][..], "offers only", None),
        (P521, &["-tls1_2"], "offers only", Some("offers only")),
        (RSA, &["-tls1_2", "-cipher", "AES128-SHA256:AES128-GCM-SHA256"], "offers only", Some("offers only")),
        (RSA, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], "offers only", Some("offers only")),
        (RSA, &["-tls1_2"], "is not accepted", None),
    ] {
        let server = OpenSsl::start(key, options).await;
        let task = |mode| get(&format!("https://{}/", server.address)).tls_mode(mode).retries(0);
        let text = one(&runner, task(TlsMode::Verify)).await.result.expect_err("not verified").explain();
        assert!(text.contains(verified), "{key:?} {options:?}: {text}");
        let done = one(&runner, task(TlsMode::Insecure)).await;
        match insecure {
            None => assert!(done.result.is_ok(), "{key:?} {options:?}: {:?}", done.result),
            Some(expected) => {
                let text = done.result.expect_err("nothing in common").explain();
                assert!(text.contains(expected) && text.contains("P-384"), "{key:?} {options:?}: {text}");
            }
        }
    }
}
