//! `tasker man DIR`: the manual pages, one a command, as packages install them.

use std::fs;
use std::path::Path;

use super::exit::Code;
use super::output::{Failure, print};
use super::tree;

/// Writes `tasker.1`, `tasker-submit.1`, ...
pub(super) fn write(directory: &Path) -> Result<Code, Failure> {
    let failed = |error: std::io::Error| {
        Failure::Usage(format!("cannot write the manual pages into {}: {error}", directory.display()))
    };
    fs::create_dir_all(directory).map_err(failed)?;
    let mut count = 0;
    write_page(&tree::command(), "tasker", directory, &mut count).map_err(failed)?;
    print(&format!("{count} pages in {}\n", directory.display()))?;
    Ok(Code::Ok)
}

fn write_page(
    command: &clap::Command,
    name: &str,
    directory: &Path,
    count: &mut usize,
) -> std::io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name.to_uppercase()).render(&mut page)?;
    fs::write(directory.join(format!("{name}.1")), page)?;
    *count += 1;
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
    {
        write_page(inner, &format!("{name}-{}", inner.get_name()), directory, count)?;
    }
    Ok(())
}
