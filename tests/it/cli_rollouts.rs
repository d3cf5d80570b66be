//! `tasker rollout` as it is typed, on a `tasker up` with a fleet of sixty endpoints whose update is an
//! executable.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tasker_services::until;

use crate::support::place::{Place, Said, Up};

/// How long a test waits for what must come. Long, because machines are busy; only failures take it.
const PATIENCE: Duration = Duration::from_secs(90);

/// Notes that it was here with which version, and fails where a file says so, unless it brings the old
/// version.
const UPDATE: &str = r#"#!/bin/sh
case $(cat) in *'"payload":"old"'*) version=old ;; *) version=new ;; esac
echo "$TASKER_ENDPOINT" >> updated
echo "$version" > "version-$TASKER_ENDPOINT"
[ ! -e "bad-$TASKER_ENDPOINT" ] || [ "$version" = old ] || { echo 'disk full' >&2; exit 32; }
while [ -e hold ]; do sleep 0.05; done
"#;

/// A directory with the update, and the platform that performs it.
struct Site {
    place: Place,
    up: Up,
}

impl Site {
    fn new(endpoints: usize) -> anyhow::Result<Self> {
        let place = Place::new()?;
        place.write("jobs/update", UPDATE)?;
        std::fs::set_permissions(place.path().join("jobs/update"), std::fs::Permissions::from_mode(0o755))?;
        let names: Vec<String> = (1..=endpoints).map(|n| format!("web{n}")).collect();
        let up =
            place.up(&format!("--listen 127.0.0.1:0 --endpoints {} --handlers-dir jobs", names.join(",")))?;
        let site = Self { place, up };
        until("the fleet is there", PATIENCE, || {
            let said = site.typed("endpoints --json")?;
            let there = said.out.matches(r#"{"type":"update","subscribed":true"#).count();
            ensure!(there == endpoints, "{there} of {endpoints}");
            Ok(())
        })?;
        Ok(site)
    }

    fn typed(&self, line: &str) -> anyhow::Result<Said> {
        let words = line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        self.place.said(&words, &["--api", &self.up.api])
    }

    fn json(&self, line: &str) -> anyhow::Result<Value> {
        let said = self.typed(&format!("{line} --json"))?;
        serde_json::from_str(&said.out).with_context(|| format!("{line}: {said:?}"))
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.place.path().join("jobs").join(name)
    }

    /// How often each endpoint was updated.
    fn updated(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for line in std::fs::read_to_string(self.file("updated")).unwrap_or_default().lines() {
            *counts.entry(line.to_owned()).or_default() += 1;
        }
        Ok(counts)
    }

    fn until_status(&self, name: &str, status: &str) -> anyhow::Result<Value> {
        until(&format!("the rollout is {status}"), PATIENCE, || {
            let rollout = self.json(&format!("rollout show {name}"))?;
            ensure!(rollout["status"] == status, "{rollout}");
            Ok(rollout)
        })
    }
}

const DOCUMENT: &str = "
identifier: kernel-6.9
type: update
payload: {version: 6.9}
waves: [1, 5, {name: half, size: 50%, window: 10}, rest]
";

#[test]
fn a_bad_wave_halts_and_goes_on_when_somebody_says_so() -> anyhow::Result<()> {
    let site = Site::new(60)?;
    site.place.write("kernel.yaml", DOCUMENT)?;
    let plan = site.typed("rollout plan kernel.yaml")?;
    let drawn: Vec<&str> = plan.out.lines().collect();
    ensure!(plan.code == Some(0) && drawn[0] == "60 endpoints, 0 absent (limit 6)", "{plan:?}");
    ensure!(drawn[4].starts_with("3 half  30    0       10      0 / 3"), "{plan:?}");
    // One endpoint of the third wave is bad.
    let planned = site.json("rollout plan kernel.yaml")?;
    let bad = planned["waves"][2]["endpoints"][4].as_str().context("a name")?.to_owned();
    std::fs::write(site.file(&format!("bad-{bad}")), "")?;

    let run = site.typed("rollout run kernel.yaml --wait 80s")?;
    ensure!(
        run.code == Some(6) && run.err.starts_with("submitted kernel-6.9 (60 endpoints in 4 waves)"),
        "{run:?}"
    );
    ensure!(run.out.starts_with("HALTED kernel-6.9 (update): wave 3 of 4: 1 failed, allowed 0\n"), "{run:?}");
    ensure!(run.out.contains(&format!("{bad}  failed  errnr 32  disk full\n")), "{run:?}");
    let next = "next: tasker rollout retry kernel-6.9\n      tasker rollout skip kernel-6.9 --state FAILED\n      tasker rollout resume kernel-6.9 --allow-failed 1\n      tasker rollout abort kernel-6.9\n";
    ensure!(run.out.ends_with(next), "{run:?}");
    let halted = site.json("rollout show kernel-6.9")?;
    ensure!(
        halted["waves"][3]["counts"]["pending"] == 24 && halted["counts"]["sent"] == 0,
        "the last wave has not begun: {halted}"
    );

    let refused = site.typed("rollout resume kernel-6.9")?;
    ensure!(
        refused.code == Some(1) && refused.err.contains("1 failed, allowed 0: retry or skip targets"),
        "{refused:?}"
    );
    let resumed = site.typed("rollout resume kernel-6.9 --allow-failed 1")?;
    ensure!(resumed.code == Some(0) && resumed.out.starts_with("RUNNING kernel-6.9"), "{resumed:?}");
    let watched = site.typed("rollout watch kernel-6.9")?;
    ensure!(
        watched.code == Some(2)
            && watched.out.starts_with("PARTIAL kernel-6.9 (update)\n59 of 60 ok, 1 failed\n"),
        "{watched:?}"
    );
    let updated = site.updated()?;
    ensure!(updated.len() == 60 && updated.values().all(|count| *count == 1), "each once: {updated:?}");
    let targets = site.typed("rollout targets kernel-6.9 --state FAILED")?;
    ensure!(
        targets
            .out
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with(&bad) && line.ends_with("32     disk full")),
        "{targets:?}"
    );

    // What failed is mended and run again, as a rollout of its own.
    std::fs::remove_file(site.file(&format!("bad-{bad}")))?;
    let again = site.typed("rollout rerun kernel-6.9 --identifier again --only FAILED")?;
    ensure!(again.code == Some(0) && again.out == "submitted again (1 endpoints in 1 waves)\n", "{again:?}");
    let done = site.typed("rollout show again --wait 60s")?;
    ensure!(done.code == Some(0) && done.out.starts_with("DONE again (update)\n1 of 1 ok\n"), "{done:?}");
    ensure!(site.updated()?[&bad] == 2);
    ensure!(site.json("rollout show again")?["parent"] == site.json("rollout show kernel-6.9")?["id"]);
    let events = site.typed("rollout events kernel-6.9")?;
    for word in [
        "  created: 60 endpoints in 4 waves\n",
        "  breached wave 3 of 4: 1 failed",
        "  resumed: allowed failed 1\n",
        "  ended: PARTIAL\n",
    ] {
        ensure!(events.out.contains(word), "{word}: {events:?}");
    }
    let verified = site.typed("verify")?;
    ensure!(verified.code == Some(0), "{verified:?}");
    Ok(())
}

#[test]
fn a_bad_version_is_rolled_back() -> anyhow::Result<()> {
    let site = Site::new(8)?;
    let document = json!({
        "identifier": "v2", "type": "update", "payload": "new", "targets": {"order": "name"}, "waves": [1, 3, "rest"],
        "on_breach": "rollback", "rollback": {"payload": "old"},
    });
    site.place.write("v2.json", &document.to_string())?;
    std::fs::write(site.file("bad-web2"), "")?;
    let run = site.typed("rollout run v2.json --wait 60s")?;
    ensure!(
        run.code == Some(6)
            && run.out.starts_with("ROLLED_BACK v2 (update): wave 2 of 3: 1 failed, allowed 0\n"),
        "{run:?}"
    );
    ensure!(site.json("rollout show v2")?["rollback"]["rollout"] == "v2-rollback");
    let undone = site.json("rollout show v2-rollback")?;
    // What web3 and web4 have not received when web2 fails is taken back, and they are left alone.
    let versions: Vec<String> =
        (1..=8).filter_map(|n| std::fs::read_to_string(site.file(&format!("version-web{n}"))).ok()).collect();
    let all_old = versions.iter().all(|version| version.trim() == "old");
    ensure!(all_old && (2..=4).contains(&versions.len()), "{versions:?}: {undone}");
    ensure!(undone["status"] == "DONE" && undone["counts"]["ok"] == versions.len(), "{undone}");
    // Somebody may ask for it too, and it is for the failed ones alone where the document says so.
    let document = json!({
        "identifier": "v3", "type": "update", "payload": "new", "targets": {"order": "name"}, "waves": [1, 3, "rest"],
        "rollback": {"payload": "old", "on": "failed"},
    });
    site.place.write("v3.json", &document.to_string())?;
    let run = site.typed("rollout run v3.json --wait 60s")?;
    ensure!(run.code == Some(6) && run.out.ends_with("tasker rollout abort v3 --rollback\n"), "{run:?}");
    site.typed("rollout abort v3 --rollback")?;
    site.until_status("v3", "ROLLED_BACK")?;
    let undone = site.json("rollout targets v3-rollback")?;
    let names: Vec<&Value> =
        undone["targets"].as_array().context("targets")?.iter().map(|target| &target["endpoint"]).collect();
    ensure!(names == ["web2"], "{undone}");
    ensure!(site.typed("verify --ended")?.code == Some(0), "all rollouts add up");
    Ok(())
}

#[test]
fn a_rollout_is_started_paused_and_given_up() -> anyhow::Result<()> {
    let site = Site::new(6)?;
    let document =
        json!({"identifier": "slow", "type": "update", "waves": ["rest"], "window": 2, "start_at": "manual"});
    site.place.write("slow.json", &document.to_string())?;
    std::fs::write(site.file("hold"), "")?;
    let run = site.typed("rollout run slow.json")?;
    ensure!(run.code == Some(0) && run.out == "submitted slow (6 endpoints in 1 waves)\n", "{run:?}");
    ensure!(site.json("rollout show slow")?["status"] == "CREATED");
    site.typed("rollout start slow")?;
    until("two are in flight", PATIENCE, || {
        let rollout = site.json("rollout show slow")?;
        ensure!(rollout["counts"]["sent"] == 2, "{rollout}");
        Ok(())
    })?;
    let holds = site.typed("rollout holds")?;
    ensure!(
        holds.out.lines().count() == 3
            && holds.out.lines().skip(1).all(|line| line.starts_with("update  web")),
        "{holds:?}"
    );
    let paused = site.typed("rollout pause slow")?;
    ensure!(paused.code == Some(0) && paused.out.starts_with("PAUSED slow"), "{paused:?}");
    std::fs::remove_file(site.file("hold"))?;
    let rested = site.until_status("slow", "PAUSED")?;
    until("what has started ends", PATIENCE, || {
        let rollout = site.json("rollout show slow")?;
        ensure!(rollout["counts"]["ok"] == 2 && rollout["counts"]["pending"] == 4, "{rollout}: {rested}");
        Ok(())
    })?;
    site.typed("rollout abort slow")?;
    let aborted = site.typed("rollout show slow --wait 60s")?;
    ensure!(aborted.code == Some(5) && aborted.out.starts_with("ABORTED slow"), "{aborted:?}");
    ensure!(site.updated()?.len() == 2, "nothing started after the pause");
    let refused = site.typed("rollout resume slow")?;
    ensure!(refused.code == Some(1) && refused.err.contains("the rollout is ABORTED"), "{refused:?}");
    let listed = site.typed("rollout list")?;
    ensure!(
        listed.out.lines().nth(1).is_some_and(|line| line.starts_with("slow     update  ABORTED  1/1   2/6")),
        "{listed:?}"
    );
    ensure!(site.typed("rollout holds")?.out.is_empty(), "nothing is held at the end");
    Ok(())
}

/// An older rollout starts nothing that a newer one of its subject has started, nor undoes it.
#[test]
fn the_newest_rollout_of_a_subject_has_the_last_word() -> anyhow::Result<()> {
    let site = Site::new(6)?;
    let versions = || -> anyhow::Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for n in 1..=6 {
            let version = std::fs::read_to_string(site.file(&format!("version-web{n}"))).unwrap_or_default();
            *counts.entry(version.trim().to_owned()).or_default() += 1;
        }
        Ok(counts)
    };
    let all_new: BTreeMap<String, usize> = [("new".to_owned(), 6)].into();
    let document = |name: &str, payload: &str, more: &str| {
        format!("{{identifier: {name}, type: update, payload: {payload}, {more}}}")
    };
    let waits = "subject: web, waves: [1, rest], approval: {before: [2]}, rollback: {payload: old}";
    let whole = "subject: web, waves: [rest]";
    let first_wave = |name: &str| {
        until("its first wave is over", PATIENCE, || {
            let rollout = site.json(&format!("rollout show {name}"))?;
            ensure!(rollout["waves"][0]["phase"] == "PASSED", "{rollout}");
            Ok(())
        })
    };
    site.place.write("o5.yaml", &document("o5", "old", waits))?;
    site.place.write("n6.yaml", &document("n6", "new", whole))?;
    site.place.write("none.yaml", &document("none", "new", "waves: [rest]"))?;
    site.typed("rollout run o5.yaml")?;
    first_wave("o5")?;
    let warned = site.typed("rollout plan none.yaml")?;
    ensure!(
        warned.out.contains("warning: `o5` (RUNNING) of the lane `update` can change the same endpoints")
            && warned.out.contains("this document has no `subject`"),
        "{warned:?}"
    );
    let planned = site.typed("rollout plan n6.yaml")?;
    ensure!(
        planned.out.contains("\nsubject web of the lane update\n") && !planned.out.contains("warning"),
        "{planned:?}"
    );
    let newer = site.typed("rollout run n6.yaml --wait 80s")?;
    ensure!(newer.code == Some(0) && versions()? == all_new, "{newer:?}");
    site.typed("rollout approve o5")?;
    let older = site.until_status("o5", "PARTIAL")?;
    ensure!(
        older["counts"]["superseded"] == 5 && older["counts"]["ok"] == 1 && versions()? == all_new,
        "{older}, {:?}",
        versions()?
    );
    let events = site.typed("rollout events o5")?;
    let left = "left to n6, which is newer and has started";
    ensure!(events.out.contains(&format!("5 targets: {left} them")), "{events:?}");
    let rerun = site.typed("rollout rerun o5 --identifier o5-again")?;
    ensure!(rerun.code != Some(0) && rerun.err.contains("no endpoint of the rollout is"), "{rerun:?}");
    ensure!(!site.typed("rollout show o5")?.out.contains("next:"), "there is nothing to be done");
    let targets = site.typed("rollout targets o5 --state SUPERSEDED")?;
    ensure!(targets.out.matches(&format!("{left} it")).count() == 5, "{targets:?}");

    // Nor is it undone.
    site.place.write("o7.yaml", &document("o7", "new", waits))?;
    site.place.write("n8.yaml", &document("n8", "new", whole))?;
    site.typed("rollout run o7.yaml")?;
    first_wave("o7")?;
    ensure!(site.typed("rollout run n8.yaml --wait 80s")?.code == Some(0));
    site.typed("rollout abort o7 --rollback")?;
    site.until_status("o7", "ROLLED_BACK")?;
    let undone = site.json("rollout show o7-rollback")?;
    ensure!(undone["counts"]["superseded"] == 1 && undone["subject"] == "web", "{undone}");
    ensure!(versions()? == all_new, "{:?}", versions()?);
    Ok(())
}

#[test]
fn waves_change_while_a_rollout_is_halted() -> anyhow::Result<()> {
    let site = Site::new(12)?;
    let document = "{identifier: r, type: update, waves: [1, {name: most, size: 8, window: 1}, rest]}";
    site.place.write("r.yaml", document)?;
    let planned = site.json("rollout plan r.yaml")?;
    let turns: Vec<String> = (planned["waves"].as_array().context("waves")?.iter())
        .flat_map(|wave| wave["endpoints"].as_array().cloned().unwrap_or_default())
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    // The second of the second wave is bad: one after it have begun.
    let bad = &turns[2];
    std::fs::write(site.file(&format!("bad-{bad}")), "")?;
    let run = site.typed("rollout run r.yaml --wait 80s")?;
    ensure!(run.code == Some(6), "{run:?}");

    for (waves, wrong) in [
        ("[2,8,rest]", "/waves/0: has begun; it must be there"),
        ("[1,1,rest]", "/waves/1: is 1 of 12 targets, and 2 of it have been started"),
        ("[1,2,9,1]", "/waves/3: would be empty: earlier waves already take all targets (12)"),
    ] {
        let refused = site.typed(&format!("rollout edit r --set waves={waves}"))?;
        ensure!(refused.code != Some(0) && refused.err.contains(wrong), "{waves}: {refused:?}");
    }
    let edited = site.json("rollout edit r --set waves=[1,2,3,rest]")?;
    let told = |rollout: &Value, member: &str| -> Vec<Value> {
        rollout["waves"].as_array().into_iter().flatten().map(|wave| wave[member].clone()).collect()
    };
    ensure!(told(&edited, "size") == [json!(1), json!(2), json!(3), json!(6)], "{edited}");
    ensure!(
        told(&edited, "phase") == [json!("PASSED"), json!("ADMITTING"), json!("WAITING"), json!("WAITING")]
    );
    ensure!(
        (
            edited["size"].clone(),
            edited["counts"]["pending"].clone(),
            edited["waves"][1]["counts"]["failed"].clone()
        ) == (json!(12), json!(9), json!(1)),
        "{edited}"
    );
    let shown = site.json("rollout targets r")?;
    let rows = shown["targets"].as_array().context("targets")?;
    let order: Vec<&str> = rows.iter().filter_map(|row| row["endpoint"].as_str()).collect();
    ensure!(order == turns, "turns come as they would have come: {order:?}, {turns:?}");
    let seen: Vec<u64> = rows.iter().filter_map(|row| row["wave"].as_u64()).collect();
    ensure!(seen == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4], "{seen:?}");
    // Nothing ends or grows because somebody has left something out. The shortest time is over by then.
    std::thread::sleep(Duration::from_secs(1));
    for (change, wrong) in [
        ("--set waves=[1]", "/waves/1: has begun; it must be there"),
        ("--set waves=[1,2]", "/waves: leave 9 targets without a wave: end them with `rest`"),
        ("--set expires_after=1s", "/expires_after: counts from the submission"),
        ("--set soak=", "`soak` has no value; `soak=none` takes it away"),
        ("--set window=2 --set window=3", "`--set window` is given twice"),
    ] {
        let refused = site.typed(&format!("rollout edit r {change}"))?;
        ensure!(refused.code != Some(0) && refused.err.contains(wrong), "{change}: {refused:?}");
    }

    ensure!(site.typed("rollout resume r --allow-failed 1")?.code == Some(0));
    let running = site.typed("rollout edit r --set waves=[1,2,rest]")?;
    // It goes on meanwhile: its revision may be another by now, or it has ended.
    let reasons = [
        "pause it first",
        "does not change any more",
        "by now; read it again",
        "all targets have been started",
        "has begun; it must be there",
    ];
    ensure!(running.code != Some(0) && reasons.iter().any(|why| running.err.contains(why)), "{running:?}");
    let done = site.until_status("r", "PARTIAL")?;
    ensure!(done["counts"]["ok"] == 11 && done["counts"]["failed"] == 1, "{done}");
    let updated = site.updated()?;
    ensure!(updated.len() == 12 && updated.values().all(|count| *count == 1), "each once: {updated:?}");
    Ok(())
}

/// On endpoints of its own, and on those of a platform, to which it submits nothing.
#[test]
fn a_rollout_is_rehearsed() -> anyhow::Result<()> {
    let site = Site::new(4)?;
    site.place.write(
        "faults.yaml",
        "takes: 1s\nsets: {release: /version}\nfaults:\n- {endpoints: [web3, sim-00003], when: {/version: '6.9'}, fails: {errnr: 32, errmsg: disk full}}\n- {match: [site=rome], hangs: true}\n",
    )?;
    let document = json!({
        "identifier": "kernel", "type": "update", "payload": {"version": "6.9"}, "targets": {"order": "name"}, "waves": [1, "rest"], "soak": "10m",
        "approval": {"before": "all"}, "windows": [{"cron": "0 3 29 2 *", "for": "1h"}], "on_breach": "rollback",
        "healthy": {"stays": "1s", "within": "1m", "match": ["release=6.9"]}, "rollback": {"payload": {"version": "6.8"}},
    });
    site.place.write("kernel.yaml", &document.to_string())?;
    for (line, endpoints, failed) in [
        ("rollout rehearse kernel.yaml --faults faults.yaml --faster 100", 4, "web3"),
        ("rollout rehearse kernel.yaml --faults faults.yaml --faster 100 --simulate 8", 8, "sim-00003"),
    ] {
        let said = site.typed(line)?;
        ensure!(said.code == Some(6), "{said:?}");
        for told in [
            format!(
                "rehearsal on {endpoints} simulated endpoints; maintenance windows are left out; approvals are left out"
            ),
            "all times are 100 times shorter".to_owned(),
            format!(
                "warning: --faults: faults/1 (site=rome) fits none of the {endpoints} simulated endpoints"
            ),
        ] {
            ensure!(said.err.contains(&told), "no `{told}` in {said:?}");
        }
        for told in [
            format!("target_failed wave 2 {failed}: disk full"),
            "breached wave 2 of 2: 1 failed, allowed 0".to_owned(),
            "rolling_back".to_owned(),
            "ROLLED_BACK kernel (update)".to_owned(),
        ] {
            ensure!(said.out.contains(&told), "no `{told}` in {said:?}");
        }
    }
    let said = site.typed("rollout list")?;
    ensure!(said.out.contains("no rollouts") || said.err.contains("no rollouts"), "{said:?}");
    let refused = site.typed("rollout rehearse kernel.yaml --simulate 2 --faults kernel.yaml")?;
    ensure!(refused.code == Some(1) && refused.err.contains("unknown field `approval`"), "{refused:?}");
    Ok(())
}
