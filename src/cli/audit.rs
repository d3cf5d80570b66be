//! `tasker audit`: what was done, by whom and from where, and whether that is all.
//!
//! `verify` reads the whole log and computes each hash itself: it believes neither the API nor the database.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use crate::client::Client;
use crate::contract::AuditPage;
use crate::domain::{AuditEntry, AuditHash, Chain, Timestamp, anchors};

use super::exit::Code;
use super::global::Global;
use super::output::{self, Failure, note, print};
use super::render::{clock, visible};
use super::table::{Narrow, Screen, Table};
use super::{access, input};

/// Entries that are read at once.
const STEP: u32 = 1000;
/// Bytes that a file with anchors may have.
const LONGEST: u64 = 1 << 30;

/// `tasker audit`.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// List what was done, by whom and from where, newest first
    #[command(
        after_help = "Examples:\n  tasker audit list\n  tasker audit list --action token. --limit 20\n  tasker audit list --actor ci --json"
    )]
    List(ListAudit),
    /// Check that no entry was changed or removed
    #[command(after_help = "\
Examples:
  tasker audit verify
  tasker audit verify --anchor /var/log/tasker/api.log

Each entry has the hash of the one before it, so an entry that was changed or removed does not fit. \
Only an anchor, a hash that was kept elsewhere, shows that the end of the log was cut off, or that all of \
it was written anew. The API logs the hash of each entry (`audit_seq`, `audit_hash`). --anchor takes a \
file with such lines, or with a number and a hash in each line.

The exit code is 0 if the log is whole, else 2.")]
    Verify(VerifyAudit),
}

/// `tasker audit list`.
#[derive(Debug, Clone, Args)]
pub struct ListAudit {
    /// Only what was done with this token
    #[arg(long, value_name = "TOKEN", value_parser = NonEmptyStringValueParser::new())]
    pub actor: Option<String>,
    /// Only actions that begin so, such as `token.`
    #[arg(long, value_name = "PREFIX", value_parser = NonEmptyStringValueParser::new())]
    pub action: Option<String>,
    /// Entries at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Only entries before this one
    #[arg(long, value_name = "SEQ")]
    pub before: Option<u64>,
}

/// `tasker audit verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyAudit {
    /// File with hashes that were kept elsewhere (repeatable); - reads standard input
    #[arg(long = "anchor", value_name = "FILE")]
    pub anchors: Vec<PathBuf>,
    /// Compare the submissions that are kept with what the log accounts for, too
    #[arg(long)]
    pub submissions: bool,
}

pub(super) async fn run(global: &Global, command: AuditCommand) -> Result<Code, Failure> {
    match command {
        AuditCommand::List(args) => list(global, args).await,
        AuditCommand::Verify(args) => verify(global, args).await,
    }
}

async fn list(global: &Global, args: ListAudit) -> Result<Code, Failure> {
    let ListAudit { actor, action, limit, before } = args;
    let page = access::client(global)?.audit(before, actor.as_deref(), action.as_deref(), limit).await?;
    let none = page.entries.is_empty().then_some("no entries in the audit log fit");
    output::list(global.json, &page, none, |screen| table(&page, screen))?;
    Ok(Code::Ok)
}

/// Entries, one a line.
fn table(page: &AuditPage, screen: Screen) -> String {
    use Narrow::{Cut, Drop, Keep};
    let mut table = Table::new([
        ("SEQ", Keep),
        ("AT", Keep),
        ("ACTOR", Keep),
        ("ACTION", Keep),
        ("SUBJECT", Cut),
        ("SOURCE", Keep),
        ("DETAIL", Drop),
    ]);
    for entry in &page.entries {
        table.push([
            entry.seq.to_string().into(),
            clock(entry.at).into(),
            visible(&entry.actor).into(),
            visible(&entry.action).into(),
            visible(&entry.subject).into(),
            visible(&entry.source).into(),
            visible(entry.detail.as_ref().map_or("", |detail| detail.get())).into(),
        ]);
    }
    table.text(screen)
}

/// What a check has come to.
#[derive(Debug, serde::Serialize)]
struct Verdict {
    /// Entries that fit.
    entries: u64,
    /// The hash of the last of them.
    hash: AuditHash,
    /// Anchors that were compared.
    anchors: usize,
    /// Hours of submissions that were compared.
    hours: u64,
    /// What is wrong.
    flaws: Vec<String>,
}

async fn verify(global: &Global, args: VerifyAudit) -> Result<Code, Failure> {
    let mut known = Vec::new();
    for path in &args.anchors {
        let source = input::name(path);
        let text = input::read(path, LONGEST)?;
        let found = anchors(&text);
        if found.is_empty() {
            return Err(Failure::Usage(format!(
                "--anchor: {source} has no anchor: expected lines with audit_seq and audit_hash, as the API logs them, or with a number and a hash"
            )));
        }
        known.extend(found);
    }
    known.sort_by_key(|anchor| anchor.seq);
    let client = access::client(global)?;
    let verdict = check(&client, &known, args.submissions).await?;
    let code = if verdict.flaws.is_empty() { Code::Ok } else { Code::SomeFailed };
    if global.json {
        output::print_json(&verdict)?;
        return Ok(code);
    }
    for flaw in &verdict.flaws {
        note(&format!("tasker: {flaw}"));
    }
    if code == Code::Ok {
        let Verdict { entries, hash, anchors, hours, .. } = verdict;
        let of = if anchors == 0 {
            ", no anchor was given".to_owned()
        } else {
            format!(", {}", count(anchors as u64, "anchor fits", "anchors fit"))
        };
        let hours = if args.submissions {
            format!(", {}", count(hours, "hour of submissions fits", "hours of submissions fit"))
        } else {
            String::new()
        };
        let all = count(entries, "entry", "entries");
        print(&format!("the audit log is whole: {all}{of}{hours}\n{entries} {hash}\n"))?;
    }
    Ok(code)
}

fn count(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

async fn check(client: &Client, known: &[Chain], submissions: bool) -> Result<Verdict, Failure> {
    let (mut chain, mut flaws, mut hours, mut head) = (Chain::default(), Vec::new(), 0, None);
    let mut rest = known;
    'log: loop {
        let page = client.audit_after(chain.seq, STEP).await?;
        // What is added meanwhile is beyond the end that was told first.
        let end: Chain = *head.get_or_insert(page.head);
        for entry in &page.entries {
            if let Err(broken) = chain.follow(entry) {
                flaws.push(broken.to_string());
                break 'log;
            }
            while let Some((anchor, later)) = rest.split_first().filter(|(anchor, _)| anchor.seq <= chain.seq)
            {
                if anchor.seq == chain.seq && anchor.hash != chain.hash {
                    flaws.push(format!(
                        "entry {} has another hash than the anchor: the log was written anew",
                        anchor.seq
                    ));
                }
                rest = later;
            }
            if submissions && entry.action == "submissions" {
                hours += 1;
                flaws.extend(accounted(client, entry).await?);
            }
            if entry.seq == end.seq && entry.hash != end.hash {
                flaws.push(format!("entry {} is the last, and the end of the log has another hash", end.seq));
            }
        }
        if !page.more {
            break;
        }
        if page.entries.is_empty() {
            return Err(Failure::Setup(format!(
                "the API says that there is more after entry {}, and sends no entry: the log could not be read to its end",
                chain.seq
            )));
        }
    }
    if flaws.is_empty() {
        if let Some(end) = head.filter(|end| end.seq > chain.seq) {
            flaws.push(format!(
                "the end of the log was cut off: there should be {} entries, and there are {}",
                end.seq, chain.seq
            ));
        }
        if let Some(anchor) = rest.last() {
            flaws.push(format!(
                "entry {} of the anchors is missing: the log ends with entry {}",
                anchor.seq, chain.seq
            ));
        }
    }
    Ok(Verdict { entries: chain.seq, hash: chain.hash, anchors: known.len() - rest.len(), hours, flaws })
}

/// What is wrong with the submissions that an entry accounts for. What is kept no longer is no flaw, since
/// nothing tells it from what was removed.
async fn accounted(client: &Client, entry: &AuditEntry) -> Result<Option<String>, Failure> {
    #[derive(serde::Deserialize)]
    struct Account {
        count: u64,
        sha256: AuditHash,
    }
    let account = entry.detail.as_ref().and_then(|detail| serde_json::from_str::<Account>(detail.get()).ok());
    let hour = entry.subject.parse::<DateTime<Utc>>().ok().map(Timestamp::from);
    let Some((Account { count, sha256 }, hour)) = account.zip(hour) else {
        return Ok(Some(format!("entry {} accounts for no submissions", entry.seq)));
    };
    let now = client.audited_submissions(hour).await?;
    Ok((now.count >= count && now.sha256 != sha256).then(|| {
        format!(
            "the submissions of the hour from {hour} are not those that entry {} accounts for: {} now, {count} then",
            entry.seq, now.count
        )
    }))
}
