//! Which part of a long list a command shows.

use clap::Args;

/// Which part of a long list.
#[derive(Debug, Clone, Args)]
pub struct Page {
    /// Entries at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Go on where the page before ended
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}
