//! Who may use the API.

use std::time::Duration;

use anyhow::Result;
use tasker::domain::{Deed, Quota, Scope, SecretHash, Timestamp, Token};
use tasker::store::{AuditQuery, TokenCreated};
use uuid::Uuid;

use super::ledger::{Ledger, at};

fn token(name: &str, secret: &str) -> Token {
    Token {
        id: Uuid::now_v7(),
        name: name.parse().expect("a name"),
        hash: SecretHash::of(secret.as_bytes()),
        scopes: [Scope::Read, Scope::Submit].into(),
        task_types: Vec::new(),
        created_at: at(1),
        expires_at: None,
        worker: None,
        parent: None,
        quota: Quota::default(),
    }
}

pub async fn keeps_tokens_by_name(ledger: &Ledger) -> Result<()> {
    assert!(ledger.store.tokens().await?.is_empty());
    let plain = token("zeta", "a");
    let limited = Token {
        scopes: [Scope::Admin].into(),
        task_types: vec!["worker".parse()?, "backup".parse()?],
        expires_at: Some(Timestamp::from_micros(1_700_000_000_123_456).after(Duration::from_secs(5))),
        worker: Some("rack-1.example".parse()?),
        quota: Quota { rate: "50/s".parse().ok(), bytes: Some(1 << 33), ..Quota::default() },
        ..token("alpha", "b")
    };
    assert_eq!(ledger.store.create_token(&plain, None).await?, TokenCreated::New);
    assert_eq!(ledger.store.create_token(&limited, None).await?, TokenCreated::New);
    let kept = ledger.another()?.tokens().await?;
    for (kept, made) in kept.iter().zip([&limited, &plain]) {
        assert_eq!(
            (kept.id, &kept.name, &kept.scopes, &kept.task_types),
            (made.id, &made.name, &made.scopes, &made.task_types)
        );
        assert_eq!(
            (kept.created_at, kept.expires_at, &kept.worker),
            (made.created_at, made.expires_at, &made.worker)
        );
        assert_eq!(kept.quota, made.quota);
        assert!(kept.hash.matches(&made.hash));
    }
    assert_eq!(kept.len(), 2);
    // Of a newer version, with a scope that this one does not know.
    ledger.execute("UPDATE token SET scopes = 'read,fly' WHERE name = 'zeta'").await?;
    assert!(ledger.store.tokens().await.is_err());
    let (readable, unreadable) = ledger.store.readable_tokens().await?;
    assert_eq!((readable.len(), &readable[0].name, unreadable.len()), (1, &limited.name, 1));
    assert!(unreadable[0].to_string().contains("scopes"), "{}", unreadable[0]);
    Ok(())
}

pub async fn gives_each_name_and_each_secret_once(ledger: &Ledger) -> Result<()> {
    assert_eq!(ledger.store.create_token(&token("ci", "a"), None).await?, TokenCreated::New);
    assert_eq!(ledger.store.create_token(&token("ci", "b"), None).await?, TokenCreated::NameTaken);
    assert_eq!(ledger.store.create_token(&token("other", "a"), None).await?, TokenCreated::SecretTaken);
    assert_eq!(
        ledger.store.create_token(&token("CI", "b"), None).await?,
        TokenCreated::New,
        "names are compared byte for byte"
    );
    let hashes: Vec<_> =
        ledger.store.tokens().await?.iter().map(|token| (token.name.to_string(), token.hash)).collect();
    assert_eq!(hashes.len(), 2);
    assert!(
        hashes[1].0 == "ci" && hashes[1].1.matches(&SecretHash::of(b"a")),
        "what is there stays as it was"
    );
    Ok(())
}

pub async fn ends_sessions_with_their_token(ledger: &Ledger) -> Result<()> {
    let (ci, other) = (token("ci", "a"), token("other", "b"));
    let session = |name: &str, of: &Token, minute: u64| Token {
        parent: Some(of.id),
        created_at: at(minute),
        expires_at: Some(at(minute + 60)),
        ..token(name, name)
    };
    for token in [&ci, &other] {
        assert_eq!(ledger.store.create_token(token, None).await?, TokenCreated::New);
    }
    let (one, two) = (session("one", &ci, 1), session("two", &other, 2));
    for token in [&one, &two] {
        assert_eq!(ledger.store.begin_session(token).await?, TokenCreated::New);
    }
    let names = async || {
        anyhow::Ok(
            ledger.another()?.tokens().await?.iter().map(|token| token.name.to_string()).collect::<Vec<_>>(),
        )
    };
    let parents: Vec<_> = ledger.another()?.tokens().await?.iter().map(|token| token.parent).collect();
    assert_eq!(parents, [None, Some(ci.id), None, Some(other.id)], "ci, one, other, two");
    assert!(ledger.store.delete_token(&ci.name, None).await?);
    assert_eq!(names().await?, ["other", "two"]);
    // The next one takes those along that are over, and no token that is no session is ended as one.
    assert_eq!(ledger.store.begin_session(&session("three", &other, 62)).await?, TokenCreated::New);
    assert_eq!(names().await?, ["other", "three"]);
    assert!(!ledger.store.end_session(other.id).await?);
    for number in 0..55 {
        assert_eq!(
            ledger.store.begin_session(&session(&format!("s{number:02}"), &other, 63)).await?,
            TokenCreated::New
        );
    }
    assert_eq!(names().await?.len(), 51, "a token and its sessions");
    let last = ledger
        .store
        .tokens()
        .await?
        .into_iter()
        .find(|token| token.name.as_str() == "s54")
        .expect("the newest stays");
    assert!(ledger.store.end_session(last.id).await? && !ledger.store.end_session(last.id).await?);
    Ok(())
}

pub async fn records_what_was_done_to_tokens_with_it(ledger: &Ledger) -> Result<()> {
    let (store, ci) = (&ledger.store, token("ci", "a"));
    let deed = |action: &str| Deed::new("root", action, "ci", "command line on a host");
    assert_eq!(store.create_token(&ci, Some(deed("token.create"))).await?, TokenCreated::New);
    let again = store.create_token(&token("ci", "b"), Some(deed("token.create"))).await?;
    assert_eq!(again, TokenCreated::NameTaken);
    let revoke = async || store.delete_token(&ci.name, Some((deed("token.revoke"), at(2)))).await;
    assert!(revoke().await? && !revoke().await?);
    let query = AuditQuery { after: Some(0), limit: 10, ..AuditQuery::default() };
    let told: Vec<_> = store.audit_entries(&query).await?.into_iter().map(|entry| entry.action).collect();
    assert_eq!(told, ["token.create", "token.revoke"]);
    Ok(())
}

pub async fn forgets_what_was_revoked(ledger: &Ledger) -> Result<()> {
    ledger.store.create_token(&token("ci", "a"), None).await?;
    assert!(ledger.store.delete_token(&"ci".parse()?, None).await?);
    assert!(!ledger.store.delete_token(&"ci".parse()?, None).await?);
    assert!(ledger.store.tokens().await?.is_empty());
    assert_eq!(ledger.store.create_token(&token("ci", "a"), None).await?, TokenCreated::New);
    Ok(())
}
