//! Endpoints that get a broker user of their own.

use anyhow::Result;
use tasker::domain::{Deed, EndpointName, Presence, PresenceState, SecretHash, TaskType, Timestamp};
use tasker::store::{AuditQuery, Invited, Redeemed};

use super::ledger::{Ledger, at, together};
use super::presence::presence;

fn invited(name: &str, generation: u32, ticket: &str) -> Invited {
    Invited {
        endpoint: name.parse().expect("a name"),
        task_types: types(&["worker", "backup"]),
        earlier_types: Vec::new(),
        generation,
        ticket: SecretHash::of(ticket.as_bytes()),
        sealed: ticket.as_bytes().to_vec(),
        at: at(10),
        expires_at: at(20),
    }
}

fn types(names: &[&str]) -> Vec<TaskType> {
    names.iter().map(|name| name.parse().expect("a type")).collect()
}

fn deed(action: &str) -> Deed {
    Deed::new("root", action, "a", "command line on a host")
}

/// The actions of the audit log, oldest first.
async fn audited(ledger: &Ledger) -> Result<Vec<String>> {
    let query = AuditQuery { after: Some(0), limit: 100, ..AuditQuery::default() };
    Ok(ledger.store.audit_entries(&query).await?.into_iter().map(|entry| entry.action).collect())
}

fn ticket(text: &str) -> SecretHash {
    SecretHash::of(text.as_bytes())
}

pub async fn gives_an_invitation_out_once(ledger: &Ledger) -> Result<()> {
    let store = &ledger.store;
    let (a, b): (EndpointName, EndpointName) = ("a".parse()?, "b".parse()?);
    assert!(
        store.invite(invited("a", 1, "first"), deed("endpoint.invite")).await?
            && store.invite(invited("b", 1, "other"), deed("endpoint.invite")).await?
    );
    assert_eq!(store.redeem(&a, ticket("unknown"), at(11)).await?, Redeemed::Gone);
    assert_eq!(store.redeem(&b, ticket("first"), at(11)).await?, Redeemed::OfAnother);
    assert_eq!(store.redeem(&a, ticket("first"), at(20)).await?, Redeemed::Gone, "its time is over");
    // However many come at the same time, one gets it.
    let tries = (0..4).map(|_| {
        let (store, a) = (store.clone(), a.clone());
        async move { Ok(store.redeem(&a, ticket("first"), at(12)).await?) }
    });
    let answers = together(tries.collect::<Vec<_>>()).await?;
    let given = answers.iter().filter(|answer| **answer == Redeemed::Sealed(b"first".to_vec())).count();
    let gone = answers.iter().filter(|answer| **answer == Redeemed::Gone).count();
    assert_eq!((given, gone), (1, 3), "{answers:?}");
    let enrolled = store.enrolment(&a).await?.expect("it is there");
    assert_eq!((enrolled.generation, enrolled.expires_at, enrolled.enrolled_at), (1, None, Some(at(12))));
    assert_eq!(enrolled.task_types, invited("a", 1, "").task_types);

    // The next user takes the place of the one before, and of no other.
    assert!(
        !store.invite(invited("a", 1, "again"), deed("endpoint.invite")).await?,
        "somebody has invited it meanwhile"
    );
    assert!(!store.invite(invited("a", 3, "again"), deed("endpoint.invite")).await?);
    assert!(store.invite(invited("a", 2, "second"), deed("endpoint.invite")).await?);
    assert_eq!(store.redeem(&a, ticket("again"), at(13)).await?, Redeemed::Gone);
    assert_eq!(store.redeem(&a, ticket("second"), at(13)).await?, Redeemed::Sealed(b"second".to_vec()));
    let names: Vec<_> = store.enrolments().await?.into_iter().map(|one| one.endpoint).collect();
    assert_eq!(names, [a, b]);
    Ok(())
}

pub async fn takes_nothing_of_what_was_revoked(ledger: &Ledger) -> Result<()> {
    let store = &ledger.store;
    let (a, unknown): (EndpointName, EndpointName) = ("a".parse()?, "unknown".parse()?);
    assert!(store.invite(invited("a", 1, "first"), deed("endpoint.invite")).await?);
    let joined = [
        presence("a", &["worker"], PresenceState::Joined),
        presence("b", &["worker"], PresenceState::Joined),
    ];
    assert_eq!(store.see(&joined, at(10)).await?.newcomers.len(), 2);
    let revoke = async |name: &EndpointName, generation, now| {
        store.revoke_enrolment(name, generation, deed("endpoint.revoke"), at(now)).await
    };
    assert!(!revoke(&a, 0, 11).await? && !revoke(&a, 2, 11).await? && !revoke(&unknown, 1, 11).await?);
    assert_eq!(store.enrolment(&a).await?.expect("it is there").revoked_at, None);
    assert!(revoke(&a, 1, 11).await?);
    assert_eq!(store.redeem(&a, ticket("first"), at(12)).await?, Redeemed::Gone);
    store.forget_endpoint(&a, true).await?;
    let seen = store.see(&joined, at(12)).await?.newcomers;
    assert!(seen.iter().all(|presence| presence.endpoint.as_str() == "b") && !seen.is_empty(), "{seen:?}");
    assert_eq!(store.endpoint(&a).await?, None);
    // What lay in a queue gets no queue made.
    let late = Presence { restricted: true, ..joined[0].clone() };
    let barred: Vec<_> = store.see(&[late], at(12)).await?.barred.into_iter().collect();
    assert_eq!(barred, [("worker".parse()?, a.clone())]);
    // Revoked once more, nothing changes; invited again, it is there again.
    assert!(revoke(&a, 1, 13).await?);
    assert_eq!(store.enrolment(&a).await?.expect("it is there").revoked_at, Some(at(11)));
    assert!(store.invite(invited("a", 2, "second"), deed("endpoint.invite")).await?);
    assert_eq!(store.see(&joined[..1], at(14)).await?.newcomers.len(), 1);
    // Whoever revokes what was invited again meanwhile does not revoke that.
    assert!(!revoke(&a, 1, 15).await?);
    assert_eq!(store.enrolment(&a).await?.expect("it is there").revoked_at, None);
    assert_eq!(audited(ledger).await?, ["endpoint.invite", "endpoint.revoke", "endpoint.invite"]);
    Ok(())
}

pub async fn bars_restricted_endpoints_from_types_they_were_not_invited_for(ledger: &Ledger) -> Result<()> {
    let (store, a): (_, EndpointName) = (&ledger.store, "a".parse()?);
    let invite = async |generation, now: &[&str], earlier: &[&str]| {
        let invited = Invited {
            task_types: types(now),
            earlier_types: types(earlier),
            ..invited("a", generation, &generation.to_string())
        };
        store.invite(invited, deed("endpoint.invite")).await
    };
    // Which types it may join for, and which it is told that it may not.
    let joins = async |restricted| {
        let joined = presence("a", &["worker", "backup"], PresenceState::Joined);
        let seen = store.see(&[Presence { restricted, ..joined }], at(10)).await?;
        let welcome: Vec<_> =
            seen.newcomers.iter().flat_map(|presence| &presence.task_types).map(TaskType::as_str).collect();
        let barred: Vec<_> = seen.barred.iter().map(|(task_type, _)| task_type.as_str()).collect();
        anyhow::Ok((welcome.join(" "), barred.join(" ")))
    };
    let told = async || {
        let known = store.endpoint(&a).await?.expect("it is there").subscriptions;
        let told = known.into_iter().filter_map(|known| Some((known.trouble?, known.subscribed)));
        anyhow::Ok(told.collect::<Vec<_>>())
    };
    let (both, worker) =
        (("worker backup".to_owned(), String::new()), ("worker".to_owned(), "backup".to_owned()));
    assert!(invite(1, &["worker"], &[]).await?);
    assert_eq!(joins(true).await?, worker);
    let trouble = told().await?;
    assert!(matches!(&trouble[..], [(text, false)] if text.starts_with("not_invited: ")), "{trouble:?}");
    // An endpoint that shares a user is as it was.
    assert_eq!(joins(false).await?, both);
    assert_eq!(told().await?, []);
    // An older user keeps its types until it is deleted.
    assert!(invite(2, &["worker", "backup"], &[]).await? && invite(3, &["worker"], &["backup"]).await?);
    assert_eq!(joins(true).await?, both);
    let end =
        async |generation| store.end_earlier_users(&a, generation, deed("endpoint.revoke_old"), at(11)).await;
    assert!(!end(2).await? && end(3).await?);
    assert_eq!(joins(true).await?, worker);
    assert_eq!(audited(ledger).await?.len(), 4, "one for each that was done");
    Ok(())
}

pub async fn notes_who_comes_in_as_another(ledger: &Ledger) -> Result<()> {
    let name: EndpointName = "a".parse()?;
    let unproven = presence("a", &["worker"], PresenceState::Joined);
    let proven = Presence { proven: true, state: PresenceState::Alive, ..unproven.clone() };
    let noted = async |presence: Presence, now: Timestamp| {
        ledger.store.see(&[presence], now).await?;
        anyhow::Ok(ledger.store.endpoint(&name).await?.expect("it is there").unproven_at)
    };
    assert_eq!(noted(proven.clone(), at(1)).await?, None);
    assert_eq!(noted(unproven, at(2)).await?, Some(at(2)));
    assert_eq!(noted(proven, at(3)).await?, Some(at(2)));
    Ok(())
}
