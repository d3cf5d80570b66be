//! Endpoints that get a broker user of their own.

use anyhow::Result;
use tasker::domain::{EndpointName, Presence, PresenceState, SecretHash, Timestamp};
use tasker::store::{Invited, Redeemed};

use super::ledger::{Ledger, at, together};
use super::presence::presence;

fn invited(name: &str, generation: u32, ticket: &str) -> Invited {
    Invited {
        endpoint: name.parse().expect("a name"),
        task_types: vec!["worker".parse().expect("a type"), "backup".parse().expect("a type")],
        generation,
        ticket: SecretHash::of(ticket.as_bytes()),
        sealed: ticket.as_bytes().to_vec(),
        at: at(10),
        expires_at: at(20),
    }
}

fn ticket(text: &str) -> SecretHash {
    SecretHash::of(text.as_bytes())
}

pub async fn gives_an_invitation_out_once(ledger: &Ledger) -> Result<()> {
    let store = &ledger.store;
    let (a, b): (EndpointName, EndpointName) = ("a".parse()?, "b".parse()?);
    assert!(store.invite(invited("a", 1, "first")).await? && store.invite(invited("b", 1, "other")).await?);
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
    assert!(!store.invite(invited("a", 1, "again")).await?, "somebody has invited it meanwhile");
    assert!(!store.invite(invited("a", 3, "again")).await?);
    assert!(store.invite(invited("a", 2, "second")).await?);
    assert_eq!(store.redeem(&a, ticket("again"), at(13)).await?, Redeemed::Gone);
    assert_eq!(store.redeem(&a, ticket("second"), at(13)).await?, Redeemed::Sealed(b"second".to_vec()));
    let names: Vec<_> = store.enrolments().await?.into_iter().map(|one| one.endpoint).collect();
    assert_eq!(names, [a, b]);
    Ok(())
}

pub async fn takes_nothing_of_what_was_revoked(ledger: &Ledger) -> Result<()> {
    let store = &ledger.store;
    let (a, unknown): (EndpointName, EndpointName) = ("a".parse()?, "unknown".parse()?);
    assert!(store.invite(invited("a", 1, "first")).await?);
    let joined = [
        presence("a", &["worker"], PresenceState::Joined),
        presence("b", &["worker"], PresenceState::Joined),
    ];
    assert_eq!(store.see(&joined, at(10)).await?.newcomers.len(), 2);
    assert!(store.revoke_enrolment(&a, at(11)).await? && !store.revoke_enrolment(&unknown, at(11)).await?);
    assert_eq!(store.redeem(&a, ticket("first"), at(12)).await?, Redeemed::Gone);
    store.forget_endpoint(&a, true).await?;
    let seen = store.see(&joined, at(12)).await?.newcomers;
    assert!(seen.iter().all(|presence| presence.endpoint.as_str() == "b") && !seen.is_empty(), "{seen:?}");
    assert_eq!(store.endpoint(&a).await?, None);
    // Revoked once more, nothing changes; invited again, it is there again.
    assert!(store.revoke_enrolment(&a, at(13)).await?);
    assert_eq!(store.enrolment(&a).await?.expect("it is there").revoked_at, Some(at(11)));
    assert!(store.invite(invited("a", 2, "second")).await?);
    assert_eq!(store.see(&joined[..1], at(14)).await?.newcomers.len(), 1);
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
