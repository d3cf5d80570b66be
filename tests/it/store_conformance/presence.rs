//! Who is there.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use tasker::domain::{
    Attendance, Expect, FleetState, Grain, Labels, NewTask, Presence, PresenceState, ReasonCode, RefusedType,
    TaskType, Throughput, WireVersion,
};
use tasker::store::{
    ClockOffsets, EndpointForgotten, Freeze, GroupRecord, GroupWritten, Missed, StandbyRecord,
    SubscriptionRecord,
};
use uuid::Uuid;

use super::ledger::{Ledger, RETENTION, at, fleet, name, names, task, together, worker};
use crate::support;

pub fn presence(endpoint: &str, types: &[&str], state: PresenceState) -> Presence {
    Presence {
        instance: Uuid::from_u128(1),
        session: Uuid::from_u128(2),
        version: "1.0".into(),
        reads: WireVersion::One,
        ..support::presence::presence(endpoint, types, state)
    }
}

pub async fn keeps_what_endpoints_say_of_themselves(ledger: &Ledger) -> Result<()> {
    use Attendance::{Away, Subscribed};
    let labels = |site: &str| Labels::of([("site".to_owned(), site.to_owned())]).expect("a label");
    let of = |endpoint: &str, site: &str| Presence {
        labels: labels(site),
        ..presence(endpoint, &["worker"], PresenceState::Alive)
    };
    let troubled = Presence { trouble: Some("disk full".to_owned()), ..of("b", "k\u{f6}ln \u{1f680}") };
    ledger
        .store
        .see(&[of("a", "berlin"), troubled, presence("c", &["backup"], PresenceState::Alive)], at(0))
        .await?;
    let members = ledger.store.members(&worker()).await?;
    let told: Vec<_> = members
        .iter()
        .map(|it| (it.name.as_str(), it.labels.get("site"), it.attendance, it.trouble.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            ("a", Some("berlin"), Subscribed, None),
            ("b", Some("k\u{f6}ln \u{1f680}"), Subscribed, Some("disk full"))
        ]
    );
    // They are what was said last, and stay when the endpoint goes.
    let bare = presence("a", &["worker"], PresenceState::Alive);
    ledger.store.see(&[bare, Presence { state: PresenceState::Leaving, ..of("b", "paris") }], at(1)).await?;
    let members = ledger.store.members(&worker()).await?;
    let told: Vec<_> =
        members.iter().map(|it| (it.name.as_str(), it.labels.get("site"), it.attendance)).collect();
    assert_eq!(told, [("a", None, Subscribed), ("b", Some("paris"), Away)]);
    let labels = ledger
        .store
        .endpoints(None, 10)
        .await?
        .into_iter()
        .map(|record| record.labels.to_string())
        .collect::<Vec<_>>();
    assert_eq!(labels, ["", "site=paris", ""]);
    Ok(())
}

pub async fn tells_who_is_away(ledger: &Ledger) -> Result<()> {
    let (store, both) = (&ledger.store, &["worker", "backup"][..]);
    let there = ["a", "b", "c", "d"].map(|endpoint| presence(endpoint, both, PresenceState::Alive));
    store.see(&there, at(0)).await?;
    // One is stopped; one performs another type alone; one is missed.
    store
        .see(
            &[
                presence("b", both, PresenceState::Leaving),
                presence("c", &["worker"], PresenceState::Leaving),
            ],
            at(5),
        )
        .await?;
    store
        .see(
            &[presence("a", both, PresenceState::Alive), presence("c", &["backup"], PresenceState::Alive)],
            at(25),
        )
        .await?;
    store.miss(at(31)).await?;
    let known = async |expect| anyhow::Ok(store.subscribers(&[worker(), backup()], expect).await?);
    let subscribed = known(Expect::Subscribed).await?;
    assert_eq!(
        (&subscribed[&worker()].names, &subscribed[&backup()].names),
        (&names(&["a"]), &names(&["a", "c"]))
    );
    let all = known(Expect::Known).await?;
    assert_eq!(
        (&all[&worker()].names, &all[&backup()].names),
        (&names(&["a", "b", "d"]), &names(&["a", "b", "c", "d"]))
    );
    assert_eq!(
        (store.away(&worker()).await?, store.away(&backup()).await?, store.away(&"other".parse()?).await?),
        (2, 2, 0)
    );
    let attendance: Vec<_> =
        store.members(&worker()).await?.into_iter().map(|member| member.attendance).collect();
    assert_eq!(
        attendance,
        [Attendance::Subscribed, Attendance::Away, Attendance::OtherTypes, Attendance::Away]
    );
    // Since when they are away.
    assert_eq!(store.gone_since(at(5), 10).await?, names(&["d"]));
    assert_eq!(store.gone_since(at(30), 10).await?, names(&["b", "d"]));
    assert_eq!(store.gone_since(at(30), 1).await?, names(&["b"]));
    Ok(())
}

pub async fn keeps_groups(ledger: &Ledger) -> Result<()> {
    let store = &ledger.store;
    let group = |name: &str, selector: &str, by: Option<&str>, time: u64| GroupRecord {
        name: name.parse().expect("a name"),
        selector: selector.parse().expect("a selector"),
        changed_by: by.map(|by| by.parse().expect("a name")),
        changed_at: at(time),
    };
    assert!(store.groups().await?.is_empty());
    let (web, long) = (
        group("web", "role=\u{1f680}", None, 1),
        group("Web", &format!("a={}", "\u{f6}".repeat(2000)), Some("ops"), 2),
    );
    assert_eq!(store.write_group(&web).await?, GroupWritten::New);
    assert_eq!(store.write_group(&long).await?, GroupWritten::New, "names differ by their capitals");
    assert_eq!(store.groups().await?, [long.clone(), web]);
    let web = group("web", "role=web", Some("ops"), 3);
    assert_eq!(store.write_group(&web).await?, GroupWritten::Changed);
    assert_eq!(store.group_selectors().await?[&web.name].to_string(), "role=web");
    assert!(store.delete_group(&long.name).await?);
    assert!(!store.delete_group(&long.name).await?);
    assert_eq!(store.groups().await?, [web]);
    Ok(())
}

pub async fn adds_up_throughput(ledger: &Ledger) -> Result<()> {
    let store = &ledger.store;
    let begin = Grain::Hour.beginning(at(0));
    let minute = |seconds: u64| begin.after(Duration::from_secs(seconds));
    let spans = async |grain, types: Option<&[TaskType]>| {
        let spans = store.throughput(grain, types, begin, minute(7200)).await?;
        anyhow::Ok(spans.into_iter().map(|(time, of)| (time, of.accepted, of.errors)).collect::<Vec<_>>())
    };
    let more = |accepted, errors| Throughput { accepted, errors, ..Throughput::default() };
    store
        .add_throughput(&[
            (minute(0), worker(), more(1, 0)),
            (minute(0), backup(), more(2, 1)),
            (minute(120), worker(), more(4, 0)),
        ])
        .await?;
    store.add_throughput(&[(minute(0), worker(), more(8, u64::from(u32::MAX)))]).await?;
    let errors = u64::from(u32::MAX);
    assert_eq!(spans(Grain::Minute, None).await?, [(minute(0), 11, errors + 1), (minute(120), 4, 0)]);
    assert_eq!(spans(Grain::Hour, None).await?, [(begin, 15, errors + 1)]);
    assert_eq!(spans(Grain::Minute, Some(&[backup()])).await?, [(minute(0), 2, 1)]);
    assert_eq!(spans(Grain::Minute, Some(&[])).await?, []);
    // Many processes add at the same time.
    let others = [ledger.another()?, ledger.another()?, ledger.another()?];
    let adds = others.iter().cloned().map(|store| async move {
        for _ in 0..10 {
            store
                .add_throughput(&[(minute(180), worker(), more(1, 0)), (minute(180), backup(), more(1, 0))])
                .await?;
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(adds).await?;
    assert_eq!(spans(Grain::Minute, None).await?.last(), Some(&(minute(180), 60, 0)));
    // Minutes go after a week, hours stay.
    let later = minute(180).after(Grain::Minute.kept_for());
    assert!(!store.forget_throughput(later).await?);
    assert_eq!(spans(Grain::Minute, None).await?, [(minute(180), 60, 0)]);
    assert_eq!(spans(Grain::Hour, None).await?, [(begin, 75, errors + 1)]);
    assert!(!store.forget_throughput(minute(7200).after(Grain::Hour.kept_for())).await?);
    assert_eq!(spans(Grain::Hour, None).await?, []);
    for store in others {
        store.close().await;
    }
    Ok(())
}

fn backup() -> TaskType {
    "backup".parse().expect("a type")
}

pub async fn welcomes_whoever_is_new(ledger: &Ledger) -> Result<()> {
    use PresenceState::{Alive, Joined};
    let joined = presence("a", &["worker", "backup"], Joined);
    let alive = presence("a", &["worker", "backup"], Alive);
    assert_eq!(
        ledger.store.see(&[joined.clone(), alive.clone()], at(0)).await?.newcomers,
        std::slice::from_ref(&joined)
    );
    assert!(ledger.store.see(std::slice::from_ref(&alive), at(1)).await?.newcomers.is_empty(), "it is known");
    assert_eq!(
        ledger.store.see(std::slice::from_ref(&joined), at(2)).await?.newcomers.len(),
        1,
        "it says that no welcome has reached it"
    );
    let reconnected = Presence { session: Uuid::from_u128(3), ..alive.clone() };
    assert_eq!(
        ledger.store.see(std::slice::from_ref(&reconnected), at(3)).await?.newcomers,
        std::slice::from_ref(&reconnected)
    );
    assert!(ledger.store.see(std::slice::from_ref(&reconnected), at(4)).await?.newcomers.is_empty());
    let more = Presence { task_types: vec![worker(), "restore".parse()?], ..reconnected.clone() };
    assert_eq!(
        ledger.store.see(std::slice::from_ref(&more), at(4)).await?.newcomers.len(),
        1,
        "a type is new"
    );
    let unheard = presence("b", &["worker"], Alive);
    assert_eq!(ledger.store.see(&[reconnected, unheard.clone()], at(5)).await?.newcomers, [unheard]);
    assert!(ledger.store.see(&[], at(5)).await?.newcomers.is_empty());

    let subscribed = ledger.store.subscribed(&[worker(), backup(), "other".parse()?]).await?;
    assert_eq!(subscribed.get(&worker()), Some(&names(&["a", "b"])));
    assert_eq!(subscribed.get(&backup()), Some(&names(&["a"])));
    assert!(
        subscribed.iter().all(|(task_type, endpoints)| task_type.as_str() != "other" || endpoints.is_empty())
    );
    Ok(())
}

pub async fn tells_a_farewell_from_a_silence(ledger: &Ledger) -> Result<()> {
    use PresenceState::{Alive, Joined, Leaving};
    let [alive, leaving] = [Alive, Leaving].map(|state| presence("a", &["worker"], state));
    let online = async || {
        anyhow::Ok(ledger.store.subscribed(&[worker()]).await?.remove(&worker()).unwrap_or_default())
    };
    ledger.store.see(&[alive.clone(), presence("b", &["worker"], Alive)], at(0)).await?;

    // Silence: gone after three intervals, and back with the next sign of life.
    assert_eq!(ledger.store.miss(at(30)).await?, Missed::default());
    ledger.store.see(&[presence("b", &["worker"], Alive)], at(25)).await?;
    assert_eq!(ledger.store.miss(at(31)).await?, Missed { subscriptions: 1, endpoints: names(&["a"]) });
    assert_eq!(ledger.store.miss(at(31)).await?, Missed::default());
    assert_eq!(online().await?, names(&["b"]));
    assert_eq!(
        ledger.store.see(std::slice::from_ref(&alive), at(32)).await?.newcomers.len(),
        1,
        "it is welcomed back"
    );
    assert_eq!(online().await?, names(&["a", "b"]));

    // A farewell holds against signs of life that it has overtaken, but not against a new process.
    assert!(ledger.store.see(std::slice::from_ref(&leaving), at(33)).await?.newcomers.is_empty());
    assert_eq!(online().await?, names(&["b"]));
    assert!(ledger.store.see(std::slice::from_ref(&alive), at(34)).await?.newcomers.is_empty());
    assert_eq!(online().await?, names(&["b"]));
    let successor = Presence {
        instance: Uuid::from_u128(7),
        session: Uuid::from_u128(8),
        ..presence("a", &["worker"], Joined)
    };
    assert_eq!(ledger.store.see(&[successor], at(35)).await?.newcomers.len(), 1);
    assert!(ledger.store.see(&[leaving], at(36)).await?.newcomers.is_empty());
    assert_eq!(online().await?, names(&["a", "b"]), "the farewell of the predecessor came late");
    Ok(())
}

pub async fn lets_in_again_who_has_not_gone(ledger: &Ledger) -> Result<()> {
    use PresenceState::{Alive, Leaving};
    let [alive, leaving] = [Alive, Leaving].map(|state| presence("a", &["worker"], state));
    let there = async || anyhow::Ok(!ledger.store.subscribed(&[worker()]).await?[&worker()].is_empty());
    ledger.store.see(std::slice::from_ref(&alive), at(0)).await?;
    // Somebody else says goodbye for it. It does not know, and says in its turn that it is alive.
    ledger.store.see(std::slice::from_ref(&leaving), at(7)).await?;
    // The clock of another API process is behind that of the one that noted the goodbye.
    for secs in [6, 10] {
        assert!(ledger.store.see(std::slice::from_ref(&alive), at(secs)).await?.newcomers.is_empty());
        assert!(!there().await?, "that may have been sent before, at {secs}");
    }
    assert_eq!(
        ledger.store.see(std::slice::from_ref(&alive), at(20)).await?.newcomers,
        [alive],
        "it is welcomed anew"
    );
    assert!(there().await?);
    Ok(())
}

/// An API process may hold presence for as long as it likes before the ledger hears of it.
pub async fn lets_nobody_in_by_what_was_said_before_a_goodbye(ledger: &Ledger) -> Result<()> {
    use PresenceState::{Alive, Joined, Leaving};
    // The endpoint's clock is half an hour ahead.
    let says =
        |state, secs: u64| Presence { sent_at: Some(at(1800 + secs)), ..presence("a", &["worker"], state) };
    let there = async || anyhow::Ok(!ledger.store.subscribed(&[worker()]).await?[&worker()].is_empty());
    ledger.store.see(&[says(Joined, 0)], at(0)).await?;
    ledger.store.see(&[says(Leaving, 19)], at(20)).await?;
    for late in [says(Alive, 10), says(Joined, 5), says(Alive, 18)] {
        assert!(
            ledger.store.see(std::slice::from_ref(&late), at(50)).await?.newcomers.is_empty(),
            "{late:?}"
        );
        assert!(!there().await?, "{late:?}");
    }
    let alive = says(Alive, 51);
    assert_eq!(
        ledger.store.see(std::slice::from_ref(&alive), at(51)).await?.newcomers,
        [alive],
        "somebody else said goodbye"
    );
    assert!(there().await?);
    Ok(())
}

pub async fn thinks_nobody_there_for_ever(ledger: &Ledger) -> Result<()> {
    let there = async || anyhow::Ok(ledger.store.subscribed(&[worker()]).await?[&worker()].len());
    let longest =
        Presence { interval: Presence::LONGEST_INTERVAL, ..presence("a", &["worker"], PresenceState::Alive) };
    ledger.store.see(&[longest.clone(), Presence { endpoint: name("b"), ..longest }], at(0)).await?;
    assert_eq!((ledger.store.miss(at(0)).await?, there().await?), (Missed::default(), 2));
    // As an older version believed it.
    let ever = if ledger.is_mysql() { "'9999-12-31 23:59:59'" } else { "9223372036854775807" };
    ledger.execute(&format!("UPDATE subscription SET seen_until = {ever} WHERE endpoint = 'b'")).await?;
    assert_eq!((ledger.store.miss(at(0)).await?.subscriptions, there().await?), (1, 1));
    assert_eq!((ledger.store.miss(at(3 * 3600)).await?.subscriptions, there().await?), (0, 1));
    assert_eq!((ledger.store.miss(at(3 * 3600 + 1)).await?.subscriptions, there().await?), (1, 0));
    Ok(())
}

pub async fn knows_what_all_who_are_there_read(ledger: &Ledger) -> Result<()> {
    use PresenceState::{Alive, Leaving};
    use WireVersion::{One, Two};
    let process = |endpoint, reads, state| Presence { reads, ..presence(endpoint, &["worker"], state) };
    let read =
        async || anyhow::Ok(ledger.store.subscribers(&[worker()], Expect::Subscribed).await?[&worker()].read);
    let readers =
        async |names: &[&str]| ledger.store.readers(names.iter().map(|text| name(text)).collect()).await;
    assert_eq!(read().await?, WireVersion::NEWEST, "nobody is there");
    ledger.store.see(&[process("a", Two, Alive), process("b", One, Alive)], at(0)).await?;
    assert_eq!(
        (read().await?, ledger.store.subscribed(&[worker()]).await?[&worker()].clone()),
        (One, names(&["a", "b"]))
    );
    let (a, b) = ((worker(), name("a")), (worker(), name("b")));
    let known =
        |versions: [_; 2]| [a.clone(), b.clone()].into_iter().zip(versions).collect::<HashMap<_, _>>();
    assert_eq!(readers(&["a", "b", "nobody"]).await?, known([Two, One]));
    assert_eq!(readers(&["b"]).await?, [(b.clone(), One)].into());
    assert_eq!(readers(&[]).await?, [].into());
    // It is upgraded; the other one goes back to an older version.
    ledger.store.see(&[process("a", One, Alive), process("b", Two, Alive)], at(1)).await?;
    assert_eq!((read().await?, readers(&["a", "b"]).await?), (One, known([One, Two])));
    // Those who are gone do not count. What a process that stands by reads is not known before it says so.
    let second =
        Presence { instance: Uuid::from_u128(7), home: Uuid::from_u128(9), ..process("b", Two, Alive) };
    ledger.store.see(&[process("a", One, Leaving), second.clone()], at(2)).await?;
    assert_eq!(read().await?, Two);
    ledger.store.see(&[process("b", Two, Leaving)], at(3)).await?;
    assert_eq!(
        (read().await?, readers(&["b"]).await?),
        (One, [(b.clone(), One)].into()),
        "handed over by a goodbye"
    );
    ledger.store.see(&[second], at(3)).await?;
    assert_eq!(read().await?, Two);
    let third = process("b", Two, Alive);
    ledger.store.see(&[Presence { interval: Duration::from_secs(100), ..third.clone() }], at(4)).await?;
    assert_eq!(
        (ledger.store.miss(at(34)).await?.subscriptions, read().await?),
        (0, One),
        "handed over after a silence"
    );
    Ok(())
}

pub async fn fences_a_second_memory_of_a_name(ledger: &Ledger) -> Result<()> {
    use PresenceState::{Alive, Joined, Leaving};
    let first = |state| presence("a", &["worker"], state);
    let second = |state, types: &[&str]| Presence {
        instance: Uuid::from_u128(7),
        session: Uuid::from_u128(8),
        home: Uuid::from_u128(9),
        ..presence("a", types, state)
    };
    ledger.store.see(&[first(Alive)], at(0)).await?;
    let seen = ledger.store.see(&[second(Joined, &["worker"]), first(Alive)], at(5)).await?;
    assert_eq!((seen.newcomers, seen.fenced), (vec![], vec![second(Joined, &["worker"])]));
    // With other types it is another matter: two processes of one endpoint share it.
    let other = second(Joined, &["backup"]);
    assert_eq!(ledger.store.see(std::slice::from_ref(&other), at(6)).await?.newcomers, [other]);
    // Once the first is missed the place is the second's, whatever the time, and then the first is the
    // second.
    assert_eq!(ledger.store.see(&[second(Alive, &["worker"])], at(34)).await?.fenced.len(), 1);
    assert_eq!(
        ledger.store.see(&[second(Alive, &["worker"])], at(3600)).await?.fenced.len(),
        1,
        "the clock may have been set"
    );
    assert_eq!(ledger.store.miss(at(36)).await?.subscriptions, 0, "it is handed over");
    assert_eq!(ledger.store.see(&[second(Alive, &["worker"])], at(36)).await?.newcomers.len(), 1);
    assert_eq!(ledger.store.see(&[first(Alive)], at(36)).await?.fenced.len(), 1);
    // Whoever says goodbye makes room at once.
    ledger.store.see(&[second(Leaving, &["worker"])], at(37)).await?;
    assert_eq!(ledger.store.see(&[first(Joined)], at(37)).await?.newcomers.len(), 1);
    Ok(())
}

/// A process of `a` that says that another one has the queue of `worker`.
fn standing_by(state: PresenceState) -> Presence {
    let refused = vec![RefusedType { task_type: worker(), held: true, reason: "in exclusive use".into() }];
    Presence {
        instance: Uuid::from_u128(7),
        session: Uuid::from_u128(8),
        home: Uuid::from_u128(9),
        refused,
        ..presence("a", &[], state)
    }
}

/// How the one type of the endpoint `a` stands.
async fn of_a(ledger: &Ledger) -> Result<(bool, Option<String>, Option<StandbyRecord>)> {
    let record = ledger.store.endpoints(None, 1).await?.remove(0);
    let SubscriptionRecord { subscribed, trouble, standby, .. } = record.subscriptions[0].clone();
    Ok((subscribed, trouble, standby))
}

pub async fn hands_a_name_over_to_who_stands_by(ledger: &Ledger) -> Result<()> {
    use PresenceState::{Alive, Joined, Leaving};
    let first = |state| presence("a", &["worker"], state);
    let taking_over = |state| Presence { task_types: vec![worker()], refused: vec![], ..standing_by(state) };
    ledger.store.see(&[first(Joined)], at(0)).await?;
    let seen = ledger.store.see(&[standing_by(Alive)], at(1)).await?;
    assert!(
        seen.newcomers.is_empty() && seen.fenced.is_empty(),
        "who stands by is neither let in nor fenced off"
    );
    ledger.store.see(&[standing_by(Alive), first(Alive)], at(11)).await?;
    let standby = StandbyRecord { instance: Uuid::from_u128(7), since: at(1), seen_until: at(41) };
    assert_eq!(of_a(ledger).await?, (true, None, Some(standby)));
    assert_eq!((ledger.store.standbys(at(40)).await?, ledger.store.standbys(at(41)).await?), (1, 0));

    // A farewell leaves no gap, and what comes late of the first does not bring it back.
    ledger.store.see(&[first(Leaving)], at(12)).await?;
    assert_eq!(of_a(ledger).await?, (true, None, None));
    assert_eq!(ledger.store.see(&[first(Alive)], at(12)).await?.fenced.len(), 1);
    assert_eq!(ledger.store.see(&[taking_over(Joined)], at(13)).await?.newcomers.len(), 1);
    ledger.store.see(&[taking_over(Leaving)], at(14)).await?;

    // Nor does a crash, once the first has been silent for three intervals; until then it keeps the other
    // out.
    let second = Presence { instance: Uuid::from_u128(17), session: Uuid::from_u128(18), ..first(Joined) };
    ledger.store.see(&[second], at(20)).await?;
    ledger.store.see(&[standing_by(Alive)], at(40)).await?;
    assert_eq!(ledger.store.see(&[taking_over(Joined)], at(45)).await?.fenced.len(), 1);
    assert_eq!(ledger.store.miss(at(51)).await?.subscriptions, 0);
    assert_eq!(of_a(ledger).await?, (true, None, None));
    assert_eq!(ledger.store.see(&[taking_over(Alive)], at(52)).await?.newcomers.len(), 1, "it is welcomed");

    // One that is not heard of any more inherits nothing, and one that leaves does not either.
    let third = Presence { instance: Uuid::from_u128(27), session: Uuid::from_u128(28), ..first(Joined) };
    ledger.store.see(&[taking_over(Leaving), third.clone(), standing_by(Alive)], at(60)).await?;
    assert_eq!(
        ledger.store.see(&[Presence { state: Leaving, ..third.clone() }], at(90)).await?.newcomers.len(),
        0
    );
    assert!(!of_a(ledger).await?.0);
    ledger.store.see(&[third.clone(), standing_by(Alive), standing_by(Leaving)], at(100)).await?;
    assert_eq!(of_a(ledger).await?, (true, None, None));
    ledger.store.see(&[standing_by(Alive)], at(101)).await?;
    assert_eq!(ledger.store.miss(at(132)).await?.subscriptions, 1, "both have been silent");
    Ok(())
}

pub async fn tells_why_a_type_is_refused(ledger: &Ledger) -> Result<()> {
    use PresenceState::{Alive, Joined, Leaving};
    let refused =
        |reason: &str| vec![RefusedType { task_type: backup(), held: false, reason: reason.into() }];
    let partly = Presence { refused: refused("inequivalent arg"), ..presence("a", &["worker"], Joined) };
    assert_eq!(ledger.store.see(std::slice::from_ref(&partly), at(0)).await?.newcomers, [partly]);
    assert!(
        ledger
            .store
            .see(
                &[Presence { refused: refused(&"é".repeat(255)), ..presence("a", &["worker"], Alive) }],
                at(1)
            )
            .await?
            .newcomers
            .is_empty()
    );
    let record = ledger.store.endpoints(None, 1).await?.remove(0);
    let told: Vec<_> = record
        .subscriptions
        .iter()
        .map(|one| (one.task_type.as_str(), one.subscribed, one.trouble.is_some()))
        .collect();
    assert_eq!(told, [("backup", false, true), ("worker", true, false)]);

    // It is welcomed for a type of its own when that can be had, in the same session and the same batch as
    // others.
    let [joined, alive] = [(Joined, vec!["backup"]), (Alive, vec!["backup", "worker"])]
        .map(|(state, types)| presence("a", &types, state));
    assert_eq!(ledger.store.see(&[joined.clone(), alive], at(2)).await?.newcomers, [joined]);
    assert!(
        ledger.store.endpoints(None, 1).await?[0]
            .subscriptions
            .iter()
            .all(|one| one.subscribed && one.trouble.is_none())
    );

    // Refused again, it is expected for as long as silence is allowed; another process of the name is not
    // spoken of.
    ledger
        .store
        .see(&[Presence { refused: refused("down"), ..presence("a", &["worker"], Alive) }], at(20))
        .await?;
    let other =
        Presence { instance: Uuid::from_u128(7), refused: refused("other"), ..presence("a", &[], Alive) };
    ledger.store.see(&[other], at(21)).await?;
    let record = ledger.store.endpoints(None, 1).await?.remove(0);
    assert_eq!(
        (record.subscriptions[0].subscribed, record.subscriptions[0].trouble.as_deref()),
        (true, Some("down"))
    );
    assert_eq!(ledger.store.miss(at(33)).await?.subscriptions, 1);

    // All types refused: it is listed with the reasons.
    let all = Presence { refused: refused("no permission"), ..presence("b", &[], Alive) };
    assert!(ledger.store.see(&[all], at(40)).await?.newcomers.is_empty());
    let record = ledger.store.endpoints(Some(&name("a")), 1).await?.remove(0);
    assert_eq!(
        (record.subscriptions[0].subscribed, record.subscriptions[0].trouble.as_deref()),
        (false, Some("no permission"))
    );
    ledger.store.see(&[Presence { refused: refused("late"), ..presence("b", &[], Leaving) }], at(41)).await?;
    assert_eq!(
        ledger.store.endpoints(Some(&name("a")), 1).await?[0].subscriptions[0].trouble.as_deref(),
        Some("no permission")
    );
    Ok(())
}

pub async fn forgets_endpoints(ledger: &Ledger) -> Result<()> {
    let (store, ghost) = (&ledger.store, name("ghost"));
    assert_eq!(store.forget_endpoint(&ghost, true).await?, EndpointForgotten::Unknown);
    let there = [
        presence("ghost", &["worker", "backup"], PresenceState::Alive),
        presence("other", &["worker"], PresenceState::Alive),
    ];
    assert_eq!(store.see(&there, at(0)).await?.newcomers.len(), 2);
    let task = NewTask { endpoints: names(&["ghost", "other"]), ..task("owed") };
    store.accept(std::slice::from_ref(&task), at(10), RETENTION).await?;
    store.freeze(&[Freeze { id: task.id, expected: names(&["ghost", "other"]) }], at(0)).await?;
    assert_eq!(store.forget_endpoint(&ghost, false).await?, EndpointForgotten::Present);
    store.miss(at(31)).await?;
    assert_eq!(store.forget_endpoint(&ghost, false).await?, EndpointForgotten::Gone { open: 1 });
    assert_eq!(store.forget_endpoint(&ghost, false).await?, EndpointForgotten::Unknown);
    assert_eq!(
        store.endpoints(None, 10).await?.iter().map(|known| known.name.clone()).collect::<Vec<_>>(),
        names(&["other"])
    );
    assert_eq!(store.open_rows(&[task.id]).await?[&task.id].len(), 2, "what it owes stays");
    // By force, and back with the next sign of life.
    assert_eq!(store.see(&there[..1], at(32)).await?.newcomers.len(), 1, "it is new");
    assert_eq!(store.forget_endpoint(&ghost, true).await?, EndpointForgotten::Gone { open: 1 });
    assert_eq!(store.subscribed(&[worker(), backup()]).await?[&backup()], names(&[]));
    assert_eq!(store.see(&there[..1], at(33)).await?.newcomers.len(), 1);
    Ok(())
}

pub async fn lists_endpoints_by_name(ledger: &Ledger) -> Result<()> {
    let presences: Vec<Presence> = fleet(700)
        .iter()
        .map(|name| presence(name.as_str(), &["worker", "backup"], PresenceState::Alive))
        .collect();
    assert_eq!(ledger.store.see(&presences, at(0)).await?.newcomers.len(), 700);
    let gone = Presence {
        version: "é".repeat(255),
        trouble: Some("no room".into()),
        ..presence("ep5", &["worker"], PresenceState::Leaving)
    };
    ledger.store.see(&[gone], at(9)).await?;
    let mut expected = fleet(700);
    expected.sort();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.store.endpoints(after.as_ref(), 300).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        seen.extend(page);
    }
    assert_eq!(seen.iter().map(|record| record.name.clone()).collect::<Vec<_>>(), expected);
    let record = seen.iter().find(|record| record.name == name("ep5")).expect("it is listed");
    let subscription = |task_type, subscribed, trouble: Option<&str>| SubscriptionRecord {
        task_type,
        subscribed,
        left: !subscribed,
        trouble: trouble.map(str::to_owned),
        slots: None,
        standby: None,
    };
    assert_eq!(
        record.subscriptions,
        [subscription(backup(), true, None), subscription(worker(), false, Some("no room"))]
    );
    assert_eq!((record.last_seen, record.version.chars().count()), (at(9), 255));
    assert_eq!((seen[0].last_seen, seen[0].version.as_str()), (at(0), "1.0"));
    Ok(())
}

pub async fn tells_how_far_clocks_are_off(ledger: &Ledger) -> Result<()> {
    use PresenceState::{Alive, Leaving};
    let store = &ledger.store;
    let says =
        |name: &str, state, sent_at| Presence { sent_at, ..presence(name, &["worker", "backup"], state) };
    let offsets = async || -> Result<Vec<Option<i64>>> {
        Ok(store.endpoints(None, 10).await?.iter().map(|record| record.clock_offset_ms).collect())
    };
    let first =
        [says("ahead", Alive, Some(at(300))), says("old", Alive, None), says("well", Alive, Some(at(0)))];
    store.see(&first, at(0)).await?;
    assert_eq!(offsets().await?, [Some(300_000), None, Some(0)]);
    assert_eq!(store.clock_offsets().await?, ClockOffsets { beyond: 1, largest: Duration::from_secs(300) });
    // All in one batch, and all of them waited, the last the least.
    let late = [
        says("well", Alive, Some(at(10))),
        says("well", Alive, Some(at(20))),
        says("well", Alive, Some(at(30))),
    ];
    store.see(&late, at(200)).await?;
    assert_eq!(offsets().await?[2], Some(0));
    // Set back: followed with the fifth in a row, whatever batch each came with.
    for (round, shown) in [(0, 0), (1, -170_000)] {
        store.see(&[says("well", Alive, Some(at(30)))], at(200 + round)).await?;
        assert_eq!(offsets().await?[2], Some(shown), "in round {round}");
    }
    assert_eq!(store.clock_offsets().await?.beyond, 2);
    // Whoever has gone is no trouble, and whoever does not tell any more is not held to what he told.
    store.see(&[says("ahead", Leaving, Some(at(502)))], at(202)).await?;
    store.see(&[says("well", Alive, None)], at(203)).await?;
    assert_eq!(offsets().await?, [Some(300_000), None, None]);
    assert_eq!(store.clock_offsets().await?, ClockOffsets::default());
    Ok(())
}

pub async fn counts_endpoints_that_their_stop_file_stops(ledger: &Ledger) -> Result<()> {
    use PresenceState::{Alive, Leaving};
    let store = &ledger.store;
    let says = |name: &str, state, trouble: Option<&str>| Presence {
        trouble: trouble.map(str::to_owned),
        ..presence(name, &["worker", "backup"], state)
    };
    let told = ReasonCode::StopFile.told("the file exists; journal_full: no room");
    let all = [
        says("one", Alive, Some(&told)),
        says("two", Alive, Some(&told)),
        says("full", Alive, Some("journal_full: the file stop_file: is there")),
        says("well", Alive, None),
    ];
    store.see(&all, at(0)).await?;
    assert_eq!(store.stopped_by_file().await?, 2);
    // Whoever has gone begins nothing anyway.
    store.see(&[says("one", Leaving, Some(&told)), says("two", Alive, None)], at(1)).await?;
    assert_eq!(store.stopped_by_file().await?, 0);
    Ok(())
}

pub async fn tells_how_the_fleet_stands(ledger: &Ledger) -> Result<()> {
    use PresenceState::{Alive, Leaving};
    let both = |endpoint: &str, state| presence(endpoint, &["worker", "backup"], state);
    assert!(ledger.store.fleet().await?.is_empty());
    let troubled = Presence { trouble: Some("disk full".to_owned()), ..both("d", Alive) };
    ledger
        .store
        .see(&[both("a", Alive), both("b", Alive), both("c", Alive), troubled, both("B", Alive)], at(0))
        .await?;
    ledger.store.see(&[both("c", Leaving)], at(1)).await?;
    ledger
        .store
        .see(
            &[
                both("a", Alive),
                both("B", Alive),
                Presence { trouble: Some("disk full".to_owned()), ..both("d", Alive) },
            ],
            at(25),
        )
        .await?;
    ledger.store.miss(at(40)).await?;
    let fleet = ledger.store.fleet().await?;
    let told: Vec<_> = fleet.iter().map(|(name, state)| (name.as_str(), *state)).collect();
    let expected = [
        ("B", FleetState::Present),
        ("a", FleetState::Present),
        ("b", FleetState::Gone),
        ("c", FleetState::Stopped),
        ("d", FleetState::Trouble),
    ];
    assert_eq!(told, expected);
    Ok(())
}

pub async fn survives_crossing_presences(ledger: &Ledger) -> Result<()> {
    let runs = (0..6u64).map(|run| {
        let store = ledger.store.clone();
        async move {
            for round in 0..5 {
                let mut presences: Vec<Presence> = fleet(100)
                    .iter()
                    .map(|name| presence(name.as_str(), &["worker", "backup"], PresenceState::Alive))
                    .collect();
                fastrand::shuffle(&mut presences);
                store.see(&presences, at(run + round)).await?;
                store.miss(at(run + round)).await?;
            }
            Ok(())
        }
    });
    together(runs).await?;
    assert_eq!(ledger.store.subscribed(&[worker()]).await?[&worker()].len(), 100);
    Ok(())
}
