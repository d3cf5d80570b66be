//! Links between the pages of the documentation lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

#[test]
fn every_link_leads_to_a_file_and_a_heading() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "supervisor/README.md"]
        .map(|name| root.join(name))
        .into();
    for entry in fs::read_dir(root.join("docs"))? {
        let page = entry?.path();
        if page.extension().is_some_and(|extension| extension == "md") {
            pages.push(page);
        }
    }
    let mut broken = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
            .filter(|link| !link.contains("://"))
        {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { page.clone() } else { page.parent().context("a directory")?.join(file) };
            let there = target.exists()
                && (heading.is_empty() || headings(&target)?.iter().any(|known| known == heading));
            if !there {
                broken.push(format!("{}: {link}", page.strip_prefix(root)?.display()));
            }
        }
    }
    ensure!(broken.is_empty(), "these links lead nowhere: {broken:#?}");
    Ok(())
}

/// The anchors that GitHub makes of the headings of a page.
fn headings(page: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(page)?;
    let titles = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase());
    Ok(titles
        .map(|title| {
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect())
}
