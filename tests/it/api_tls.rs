//! The interface over TLS, with certificates made here.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tasker::api::{Door, DoorError, serve};
use tasker::client::{Client, ClientError, Trust};
use tasker::config::TlsFiles;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::api_rig::{PATIENCE, Rig};

/// An authority, and the files of a server it has signed.
pub struct Signed {
    pub authority: String,
    directory: TempDir,
}

impl Signed {
    pub fn new() -> Self {
        let signed = Self { authority: String::new(), directory: tempfile::tempdir().expect("a directory") };
        let authority = signed.renew();
        Self { authority, ..signed }
    }

    pub fn files(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.directory.path().join("server.cert"),
            key: self.directory.path().join("server.key"),
        }
    }

    /// Puts new files in the place of the old ones, as a new authority signs them. The authority's
    /// certificate.
    fn renew(&self) -> String {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let params =
            CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        replace(&self.files().key, &key.serialize_pem());
        replace(&self.files().certificate, &certificate.pem());
        authority
    }

    /// The same interface behind a door with TLS. Its address.
    fn open(&self, rig: &Rig) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let door = Door::new(listener, Some(&self.files())).expect("a door");
        let port = door.address().port();
        tokio::spawn(serve(rig.state.clone(), door, CancellationToken::new()));
        format!("https://127.0.0.1:{port}")
    }
}

/// As certificates are renewed: beside the old file, then in its place.
fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, path)).expect("writes");
}

fn trusting(address: &str, trust: Trust) -> Client {
    Client::new(address).and_then(|client| client.trusting(trust)).expect("a client")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_trust_the_authority_come_in() {
    let (rig, signed) = (Rig::start().await, Signed::new());
    let address = signed.open(&rig);
    let index = trusting(&address, Trust::Bundle(signed.authority.clone().into()))
        .index()
        .await
        .expect("it is trusted");
    assert_eq!(index.task_types.len(), 3);
    assert!(trusting(&address, Trust::Anybody).index().await.is_ok());
    let stranger = trusting(&address, Trust::System).index().await.expect_err("nobody vouches for it");
    assert!(matches!(stranger, ClientError::Untrusted { .. }), "{stranger:?}");
    let other = trusting(&address, Trust::Bundle(Signed::new().authority.into())).index().await;
    assert!(other.is_err(), "another authority vouches for others");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn speaks_http_1_over_both_versions_of_tls() {
    let (rig, signed) = (Rig::start().await, Signed::new());
    let address = signed.open(&rig);
    for version in [reqwest::tls::Version::TLS_1_2, reqwest::tls::Version::TLS_1_3] {
        let client = tasker::https::client()
            .tls_danger_accept_invalid_certs(true)
            .tls_version_min(version)
            .tls_version_max(version);
        let answer = client
            .build()
            .expect("a client")
            .get(format!("{address}/heartbeat"))
            .timeout(PATIENCE)
            .send()
            .await
            .expect("an answer");
        assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_11));
        assert_eq!(
            answer.headers().get("strict-transport-security").expect("there is TLS"),
            "max-age=2592000"
        );
    }
    assert_eq!(
        rig.get("/heartbeat").await.header("strict-transport-security"),
        "",
        "over plain HTTP it means nothing"
    );
    // Where people use other ports of the name without TLS.
    let off = Rig::start_as(
        "task_types: [worker]\napi: {port: 0, tls: {hsts: 0s}}",
        tasker::api::Limits::default(),
    )
    .await;
    let client = tasker::https::client().tls_danger_accept_invalid_certs(true).build().expect("a client");
    let answer = client
        .get(format!("{}/heartbeat", signed.open(&off)))
        .timeout(PATIENCE)
        .send()
        .await
        .expect("an answer");
    assert!(answer.headers().get("strict-transport-security").is_none(), "{answer:?}");
    off.stop().await;
    // Plain HTTP is no way in.
    let mut plain =
        tokio::net::TcpStream::connect(address.trim_start_matches("https://")).await.expect("a connection");
    plain.write_all(b"GET /heartbeat HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("writes");
    let mut said = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut said)).await.expect("it is closed");
    assert!(closed.is_err() || !said.starts_with(b"HTTP"), "{said:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_are_read_again() {
    let (rig, signed) = (Rig::start().await, Signed::new());
    let address = signed.open(&rig);
    let before = Trust::Bundle(signed.authority.clone().into());
    assert!(trusting(&address, before.clone()).index().await.is_ok());
    let after = Trust::Bundle(signed.renew().into());
    let renewed = async {
        while trusting(&address, after.clone()).index().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.expect("the new certificate is shown");
    assert!(trusting(&address, before).index().await.is_err(), "the old one is not");

    // What cannot be used changes nothing, however often it is looked at; nor does what nobody writes to.
    let fifo = signed.files().certificate.with_extension("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
    replace(&signed.files().certificate, "no certificate");
    for last in [false, true] {
        let looks = tokio::time::Instant::now() + std::time::Duration::from_millis(2500);
        while tokio::time::Instant::now() < looks {
            assert!(trusting(&address, after.clone()).index().await.is_ok());
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        if !last {
            fs::rename(&fifo, &signed.files().certificate).expect("takes its place");
        }
    }
    let whole = Trust::Bundle(signed.renew().into());
    let renewed = async {
        while trusting(&address, whole.clone()).index().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.expect("whole files are used again");
    rig.stop().await;
}

#[test]
fn wrong_files_are_named_and_never_shown() {
    let (signed, other) = (Signed::new(), Signed::new());
    let open = |files: TlsFiles| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        match Door::new(listener, Some(&files)) {
            Err(error @ DoorError::Certificate(_)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let TlsFiles { certificate, key } = signed.files();
    let absent = signed.directory.path().join("absent.pem");
    let text = open(TlsFiles { certificate: absent.clone(), key: key.clone() });
    assert_eq!(text, format!("cannot read {}: No such file or directory (os error 2)", absent.display()));
    let text = open(TlsFiles { certificate: key.clone(), key: key.clone() });
    assert_eq!(text, format!("{} is not a file of certificates in PEM", key.display()));
    let text = open(TlsFiles { certificate: certificate.clone(), key: certificate.clone() });
    assert_eq!(text, format!("{} is not a private key in PEM, without a password", certificate.display()));
    let text = open(TlsFiles { certificate: certificate.clone(), key: other.files().key });
    assert!(
        text.contains(&certificate.display().to_string())
            && text.contains(&other.files().key.display().to_string()),
        "{text}"
    );
    assert!(!text.contains("PRIVATE"), "{text}");
}
