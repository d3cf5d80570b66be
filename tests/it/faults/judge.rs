//! The judge sees what it is there for: what is lost, doubled or not run at all.

use std::fs;

use anyhow::{Context, ensure};

use super::load_for;
use crate::support::fleet::Fleet;
use crate::support::loader::{Loader, marks};
use crate::support::oracle;
use crate::support::platform::Platform;

#[test]
fn the_judge_sees_what_is_wrong() -> anyhow::Result<()> {
    let mut fleet = Fleet::with_workers(Platform::idle()?)?;
    let loader = Loader::start(&fleet, 30);
    load_for(&mut fleet, &loader, 20)?;
    let mut taken = loader.finish(&mut fleet)?;
    oracle::judge(&mut fleet, &taken)?;
    let path = marks(&fleet);
    let marked = fs::read_to_string(&path)?;
    let mut refused = |taken: &_, why: &str| {
        let error = oracle::judge(&mut fleet, taken).err().with_context(|| format!("not seen: {why}"))?;
        ensure!(format!("{error:#}").contains(why), "not `{why}`: {error:#}");
        anyhow::Ok(())
    };

    let first =
        marked.lines().find(|line| line.contains(" console")).context("no endpoint has marked anything")?;
    fs::write(&path, format!("{marked}{first}\n"))?;
    refused(&taken, "was executed more than once")?;
    fs::write(&path, marked.replace(&format!("{first}\n"), ""))?;
    refused(&taken, "did not run")?;
    fs::write(&path, format!("{marked}{} 9\n", first.rsplit_once(' ').context("a mark has an attempt")?.0))?;
    refused(&taken, "an attempt ran that is not recorded")?;
    let by_worker =
        marked.lines().find(|line| line.contains(" worker")).context("no worker has marked anything")?;
    fs::write(&path, format!("{marked}{by_worker}\n"))?;
    refused(&taken, "was executed more than once by worker")?;
    fs::write(
        &path,
        format!("{marked}{} 9\n", by_worker.rsplit_once(' ').context("a mark has an attempt")?.0),
    )?;
    refused(&taken, "an attempt ran that is not recorded, by worker")?;
    fs::write(&path, marked.replace(&format!("{by_worker}\n"), ""))?;
    refused(&taken, "did not run, only")?;
    fs::write(&path, format!("{marked}0 nobody 1\n"))?;
    refused(&taken, "not in the ledger")?;
    fs::write(&path, &marked)?;

    let (identifier, task) = taken.pop_first().context("nothing was taken")?;
    refused(&taken, "nobody was told so")?;
    taken.insert(identifier, task.clone());
    taken.insert("lost".to_owned(), task);
    refused(&taken, "is not in the ledger")
}
