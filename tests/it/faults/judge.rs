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
    let mut fleet = Fleet::usual(Platform::idle()?)?;
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

    let (first, rest) = marked.split_once('\n').context("nothing was marked")?;
    fs::write(&path, format!("{marked}{first}\n"))?;
    refused(&taken, "was executed more than once")?;
    fs::write(&path, rest)?;
    refused(&taken, "did not run")?;
    fs::write(&path, format!("{marked}{} 9\n", first.rsplit_once(' ').context("a mark has an attempt")?.0))?;
    refused(&taken, "an attempt ran that is not recorded")?;
    fs::write(&path, format!("{marked}0 nobody 1\n"))?;
    refused(&taken, "not in the ledger")?;
    fs::write(&path, &marked)?;

    let (identifier, task) = taken.pop_first().context("nothing was taken")?;
    refused(&taken, "nobody was told so")?;
    taken.insert(identifier, task.clone());
    taken.insert("lost".to_owned(), task);
    refused(&taken, "is not in the ledger")
}
