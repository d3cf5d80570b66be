//! What somebody has done stays known: who it was, what, and from where. And whoever changes that is found out.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};
use tasker::contract::AuditPage;
use tasker::domain::{Chain, Grain, Scope};
use tokio::io::AsyncWriteExt;

use crate::api_access::{ADMIN, create, guarded, with};
use crate::api_rig::Rig;
use crate::support::place::{Place, Said};

async fn page(rig: &Rig, query: &str) -> AuditPage {
    let answer = with(rig, ADMIN, "GET", &format!("/audit{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.text).expect("a page of the log")
}

/// What an administrator does, and what the log has to say of it.
#[rustfmt::skip]
const DEEDS: &[(&str, &str, &str)] = &[
    ("POST",   "/queues/builds/pause",      "queue.pause"),
    ("POST",   "/queues/builds/resume",     "queue.resume"),
    ("POST",   "/schedules/nightly/pause",  "schedule.pause"),
    ("POST",   "/schedules/nightly/resume", "schedule.resume"),
    ("POST",   "/schedules/nightly/run",    "schedule.run"),
    ("DELETE", "/worker/first",             "task.cancel"),
    ("DELETE", "/tasks/second",             "task.cancel"),
    ("PUT",    "/groups/web",               "group.write"),
    ("DELETE", "/groups/web",               "group.delete"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_deed_is_recorded_with_who_what_and_from_where() {
    let config = "task_types: [worker, {name: builds, delivery: queue}]\napi: {port: 0}
schedules: [{name: nightly, type: worker, cron: '30 3 * * *'}]";
    let rig = Rig::start_as(config, tasker::api::Limits::default()).await;
    let admin = create(&rig, ADMIN, &[Scope::Admin], &[]).await;
    for name in ["first", "second"] {
        let request =
            rig.request("POST", "/worker").bearer_auth(ADMIN).header("Content-Type", "application/json");
        assert_eq!(rig.send(request.body(format!(r#"{{"identifier": "{name}"}}"#))).await.status, 201);
    }
    for (method, path, _) in DEEDS {
        let request = rig.request(method, path).bearer_auth(ADMIN).header("Content-Type", "application/json");
        let body = if *method == "PUT" { r#"{"match": "role=web"}"# } else { "" };
        let id = format!("{method}:{path}");
        let answer = rig.send(request.header("X-Request-Id", &id).body(body)).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    }
    // What has failed has changed nothing, and what is read neither.
    assert_eq!(with(&rig, ADMIN, "DELETE", "/worker/unheard-of").await.status, 404);
    assert_eq!(with(&rig, ADMIN, "GET", "/worker/first").await.status, 200);

    let all = page(&rig, "?after=0&limit=1000").await;
    let mut chain = Chain::default();
    for entry in &all.entries {
        chain.follow(entry).expect("the next entry");
    }
    assert_eq!(chain, all.head);
    let ours: Vec<_> = all.entries.iter().filter(|entry| entry.actor != "tasker").collect();
    assert_eq!(ours.len(), DEEDS.len(), "{ours:?}");
    for (entry, (method, path, action)) in ours.iter().zip(DEEDS) {
        let id = format!("{method}:{path}");
        assert_eq!(
            (entry.actor.as_str(), entry.action.as_str(), entry.subject.as_str(), entry.source.as_str()),
            (admin.name.as_str(), *action, *path, "127.0.0.1")
        );
        assert_eq!(entry.request_id.as_deref(), Some(id.as_str()));
    }
    let some = page(&rig, "?action=queue.&limit=1").await;
    assert_eq!((some.entries[0].action.as_str(), some.more), ("queue.resume", true), "newest first");
    let older = page(&rig, &format!("?action=queue.&before={}", some.entries[0].seq)).await;
    assert_eq!(older.entries.iter().map(|entry| entry.action.as_str()).collect::<Vec<_>>(), ["queue.pause"]);
    assert!(page(&rig, "?actor=nobody").await.entries.is_empty());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_is_recorded_all_the_same() {
    let rig = guarded().await;
    let body = r#"{"match": "role=web"}"#;
    for number in 0..20 {
        let mut stream = rig.connect().await;
        let request = format!(
            "PUT /groups/g{number} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        stream.shutdown().await.expect("nothing more is sent");
    }
    // One client stays for its answer.
    let request = rig.request("PUT", "/groups/last").bearer_auth(ADMIN);
    let answer = rig.send(request.header("Content-Type", "application/json").body(body)).await;
    assert!(answer.status < 300, "{answer:?}");
    let settled = async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            let groups = with(&rig, ADMIN, "GET", "/groups").await.json();
            let groups = groups["groups"].as_array().map_or(0, Vec::len);
            if page(&rig, "?action=group.write&limit=1000").await.entries.len() == groups {
                break groups;
            }
        }
    };
    let groups = tokio::time::timeout(crate::api_rig::PATIENCE, settled).await.expect("each has an entry");
    assert!(groups > 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_one_entry_with_their_number() {
    let rig = guarded().await;
    for number in 0..3 {
        let request =
            rig.request("POST", "/worker").bearer_auth(ADMIN).header("Content-Type", "application/json");
        assert_eq!(rig.send(request.body(format!(r#"{{"identifier": "{number}"}}"#))).await.status, 201);
    }
    let cancel = async |body: &str| {
        let request = rig.request("POST", "/tasks/cancel").bearer_auth(ADMIN);
        rig.send(request.header("Content-Type", "application/json").body(body.to_owned())).await.status
    };
    assert_eq!(cancel(r#"{"filter": {}}"#).await, 200, "only asks");
    assert_eq!(cancel(r#"{"filter": {}, "expect": 3}"#).await, 200);
    let told = page(&rig, "?action=task.cancel_all").await.entries;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].detail.as_ref().map(|detail| detail.get()), Some(r#"{"canceled":3,"filter":{}}"#));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_recorded_under_its_token() {
    let rig = guarded().await;
    assert_eq!(rig.post("/session", format!(r#"{{"token": "{ADMIN}"}}"#)).await.status, 201);
    let told = page(&rig, "?action=session.").await.entries;
    assert_eq!(told.len(), 1, "{told:?}");
    let tokens = rig.store.tokens().await.expect("the store works");
    let own = tokens.iter().find(|token| !token.is_session()).expect("the token");
    assert_eq!(told[0].actor, own.name.as_str());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_added_up_when_the_process_stops() {
    let rig = guarded().await;
    create(&rig, &"r".repeat(40), &[Scope::Read], &[]).await;
    for _ in 0..3 {
        assert_eq!(with(&rig, &"r".repeat(40), "DELETE", "/groups/web").await.status, 403);
    }
    assert_eq!(with(&rig, &"r".repeat(40), "GET", "/audit").await.status, 403);
    rig.begin_stop();
    let query =
        tasker::store::AuditQuery { action: Some("refused".to_owned()), limit: 10, ..Default::default() };
    let written = async {
        loop {
            let told = rig.store.audit_entries(&query).await.expect("the store works");
            if !told.is_empty() {
                break told;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let told = tokio::time::timeout(crate::api_rig::PATIENCE, written).await.expect("it is written");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].subject.as_str(), told[0].source.as_str()), ("insufficient_scope", "127.0.0.1"));
    assert_eq!(
        told[0].detail.as_ref().map(|detail| detail.get()),
        Some(r#"{"count":4,"requests":{"DELETE /groups/{name}":3,"GET /audit":1}}"#)
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_of_an_hour_are_added_up() {
    let rig = guarded().await;
    let hour = || Grain::Hour.beginning(rig.state.clock.now());
    let counted = async |hour: tasker::domain::Timestamp| {
        let answer = with(&rig, ADMIN, "GET", &format!("/audit/submissions?hour={hour}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        (answer.json()["count"].as_u64().expect("a number"), answer.json()["sha256"].to_string())
    };
    let begin = hour();
    let (none, nothing) = counted(begin).await;
    assert_eq!(none, 0);
    for number in 0..3 {
        let request =
            rig.request("POST", "/worker").bearer_auth(ADMIN).header("Content-Type", "application/json");
        assert_eq!(rig.send(request.body(format!(r#"{{"identifier": "{number}"}}"#))).await.status, 201);
    }
    let mut all = counted(begin).await;
    if hour() != begin {
        all.0 += counted(hour()).await.0;
    }
    assert_eq!(all.0, 3);
    // Whoever says that somebody else has submitted them changes the sum.
    let mut ledger = SqliteConnection::connect(&rig.ledger()).await.expect("a connection");
    ledger.execute("UPDATE task SET submitted_by = 'somebody-else'").await.expect("changed");
    assert_ne!(counted(begin).await.1, if all.1 == nothing { String::new() } else { all.1 });
    let mut sources: Vec<(String,)> =
        sqlx::query_as("SELECT source FROM task").fetch_all(&mut ledger).await.expect("rows");
    sources.dedup();
    assert_eq!(sources, [("127.0.0.1".to_owned(),)]);
    ledger.close().await.expect("closed");
    rig.stop().await;
}

/// What somebody with the rights of the database does to the log, whether it shows without an anchor, and the
/// words that name it.
#[rustfmt::skip]
const TAMPERED: &[(&str, &[&str], bool, &str)] = &[
    ("nothing", &[], false, ""),
    ("an edit", &["UPDATE audit SET actor = 'somebody else' WHERE seq = 2"], true, "entry 2 was changed"),
    ("a removal", &["DELETE FROM audit WHERE seq = 2"], true, "entry 2 is missing"),
    ("a cut tail", &["DELETE FROM audit WHERE seq >= 3"], true, "the end of the log was cut off"),
    ("a cut tail with its end",
     &["DELETE FROM audit WHERE seq >= 3", "UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit WHERE seq = 2)"],
     false, "is missing: the log ends with entry 2"),
];

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changes_the_log_is_found_out() -> anyhow::Result<()> {
    for (what, statements, shows, words) in TAMPERED {
        let rig = guarded().await;
        for action in ["pause", "resume", "pause", "resume"] {
            let path = format!("/groups/{action}");
            let request =
                rig.request("PUT", &path).bearer_auth(ADMIN).header("Content-Type", "application/json");
            assert!(rig.send(request.body(r#"{"match": "role=web"}"#)).await.status < 300);
        }
        // The process tells of its start by itself.
        let begun = async {
            while page(&rig, "?action=process.").await.entries.is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(crate::api_rig::PATIENCE, begun).await?;
        let head = page(&rig, "").await.head;
        let mut ledger = SqliteConnection::connect(&rig.ledger()).await?;
        for statement in *statements {
            if statement.contains(" audit ") && !statement.contains("audit_head") {
                let refused = ledger.execute(*statement).await;
                assert!(
                    refused.is_err_and(|error| error.to_string().contains("never changed")),
                    "{statement}"
                );
            }
        }
        ledger.execute("DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete").await?;
        for statement in *statements {
            ledger.execute(AssertSqlSafe((*statement).to_owned())).await?;
        }
        ledger.close().await?;

        let place = Place::new()?;
        place.write("token", ADMIN)?;
        place.write("anchors", &format!("{} {}\n", head.seq, head.hash))?;
        let base = format!("audit verify --api http://{} --token-file token", rig.address);
        let (plain, anchored) = tokio::task::spawn_blocking(move || -> anyhow::Result<(Said, Said)> {
            Ok((place.any(&base)?, place.any(&format!("{base} --anchor anchors"))?))
        })
        .await??;
        let is_found = !words.is_empty();
        assert_eq!(plain.code, Some(if *shows { 2 } else { 0 }), "{what}: {plain:?}");
        assert_eq!(anchored.code, Some(if is_found { 2 } else { 0 }), "{what}: {anchored:?}");
        assert!(anchored.err.contains(words), "{what}: {anchored:?}");
        rig.stop().await;
    }
    Ok(())
}

#[test]
fn a_log_that_is_said_to_go_on_and_does_not_is_an_error() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let page = format!(
        r#"{{"entries": [], "more": true, "head": {{"seq": 3, "hash": "{}"}}}}"#,
        Chain::default().hash
    );
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    // One answer: whoever asks again finds nobody.
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut request = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        while request.read_line(&mut line)? > 2 {
            line.clear();
        }
        drop(listener);
        stream.write_all(answer.as_bytes())
    });
    let place = Place::new()?;
    let said = place.any(&format!("audit verify --api http://{address}"))?;
    anyhow::ensure!(said.code == Some(1) && said.err.contains("more after entry 0"), "{said:?}");
    server.join().map_err(|_| anyhow::anyhow!("the server died"))??;
    Ok(())
}

#[test]
fn the_command_line_records_who_makes_and_revokes_tokens() -> anyhow::Result<()> {
    let place = Place::new()?;
    place.good("token create --name admin --scope admin --out admin.token")?;
    place.good("token create --name ci --scope read --rate 5/s")?;
    place.good("token revoke ci")?;
    let up = place.up("--listen 127.0.0.1:0")?;
    let listed = place
        .good(&format!("audit list --action token. --json --api {} --token-file admin.token", up.api))?;
    let page: AuditPage = serde_json::from_str(&listed.out)?;
    let told: Vec<_> =
        page.entries.iter().map(|entry| (entry.action.as_str(), entry.subject.as_str())).collect();
    assert_eq!(told, [("token.revoke", "ci"), ("token.create", "ci"), ("token.create", "admin")]);
    assert!(page.entries[0].source.starts_with("command line on "), "{page:?}");
    let detail = page.entries[1].detail.as_ref().map(|detail| detail.get().to_owned()).unwrap_or_default();
    assert!(detail.contains(r#""rate":"5/s""#) && !detail.contains("secret"), "{detail}");
    let table = place.good(&format!("audit list --api {} --token-file admin.token", up.api))?;
    assert!(table.out.contains("token.revoke") && table.out.contains("process.start"), "{table:?}");
    Ok(())
}
