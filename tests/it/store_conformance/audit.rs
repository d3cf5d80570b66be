//! The audit log.

use anyhow::Result;
use tasker::domain::{Chain, Deed, json};
use tasker::store::AuditQuery;

use super::ledger::RETENTION;
use super::ledger::{Ledger, at, task, together};

fn deed(subject: &str) -> Deed {
    Deed::new("ci", "queue.pause", subject, "192.0.2.1")
}

const ALL: AuditQuery = AuditQuery { after: Some(0), before: None, actor: None, action: None, limit: 1000 };

pub async fn chains_what_was_done(ledger: &Ledger) -> Result<()> {
    let store = &ledger.store;
    assert_eq!(store.audit_head().await?, Chain::default());
    let written =
        store.audit(vec![deed("a"), deed("ä\u{1F600}").with(json(&[1])).asked_by("r-1")], at(5)).await?;
    assert!(store.audit(Vec::new(), at(6)).await?.is_empty());
    let kept = ledger.another()?.audit_entries(&ALL).await?;
    assert_eq!(kept.len(), 2);
    let mut chain = Chain::default();
    for (kept, written) in kept.iter().zip(&written) {
        chain.follow(kept)?;
        assert_eq!((kept.seq, kept.at, kept.hash), (written.seq, at(5), written.hash));
    }
    assert_eq!(store.audit_head().await?, chain);
    Ok(())
}

pub async fn chains_what_several_processes_do_at_once(ledger: &Ledger) -> Result<()> {
    let stores = [ledger.another()?, ledger.another()?, ledger.another()?];
    let writes = stores.iter().cloned().enumerate().map(|(number, store)| async move {
        for time in 0..10 {
            store.audit(vec![deed(&format!("{number}/{time}"))], at(time)).await?;
        }
        Ok(())
    });
    together(writes.collect::<Vec<_>>()).await?;
    let mut chain = Chain::default();
    for entry in ledger.store.audit_entries(&ALL).await? {
        chain.follow(&entry)?;
    }
    assert_eq!(chain.seq, 30);
    Ok(())
}

pub async fn never_changes_the_audit_log(ledger: &Ledger) -> Result<()> {
    ledger.store.audit(vec![deed("a")], at(5)).await?;
    for statement in ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"] {
        let error = ledger.execute(statement).await.expect_err(statement).to_string();
        assert!(error.contains("the audit log is never changed"), "{error}");
    }
    // Whoever sets up the database again finds them there.
    ledger.store.migrate().await?;
    assert_eq!(ledger.store.audit_entries(&ALL).await?.len(), 1);
    Ok(())
}

pub async fn accounts_for_submissions_once(ledger: &Ledger) -> Result<()> {
    let (store, now) = (&ledger.store, ledger.store.now().await?);
    let (begin, end) =
        (now.before(std::time::Duration::from_secs(60)), now.after(std::time::Duration::from_secs(60)));
    let none = store.submissions_between(begin, end).await?;
    let tasks: Vec<_> = (0..3).map(|number| task(&number.to_string())).collect();
    store.accept(&tasks, now, RETENTION).await?;
    let all = store.submissions_between(begin, end).await?;
    assert_eq!((none.count, all.count), (0, 3));
    assert!(all.sha256 != none.sha256 && store.submissions_between(end, end).await? == none);
    assert_eq!(store.audited_until().await?, None);
    assert!(store.audit_submissions(None, None, begin, now).await?.is_none(), "only begins");
    assert_eq!(store.audited_until().await?, Some(begin));
    let account = async |since| store.audit_submissions(Some(deed("hour")), Some(since), end, now).await;
    assert!(account(end).await?.is_none(), "somebody else has");
    assert_eq!(account(begin).await?.map(|entry| entry.seq), Some(1));
    assert!(account(begin).await?.is_none(), "once");
    assert_eq!((store.audited_until().await?, store.audit_head().await?.seq), (Some(end), 1));
    Ok(())
}
