//! What `tasker rollout` may be asked.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::choice::one_of;
use super::page::Page;
use crate::config::span;
use crate::contract::RerunOnly;
use crate::domain::rollout::{RolloutStatus, TargetState};
use crate::domain::{EndpointName, RolloutName};

/// `tasker rollout`.
#[derive(Debug, Clone, Subcommand)]
pub enum RolloutCommand {
    /// Show what a document would do to the fleet: its waves with all numbers resolved
    #[command(after_help = "Example:\n  tasker rollout plan kernel.yaml")]
    Plan(PlanRollout),
    /// Try a document on simulated endpoints: print what would have happened
    ///
    /// The controller, the ledger and the messages are real, on a platform of its own that goes with the
    /// command. Nothing is submitted to yours: it is asked for the names and labels of its endpoints and for
    /// its groups, unless --simulate makes others.
    #[command(after_help = "\
Examples:
  tasker rollout rehearse kernel.yaml --faults faults.yaml
  tasker rollout rehearse kernel.yaml --simulate 100 --faults f.yaml --faster 60

Approvals, maintenance windows and `start_at` are left out: nobody is asked and no night is waited for. \
The rehearsal ends when the rollout does, or halts. Endpoints that are away on your platform stay away. \
The exit codes are those of a run that is waited for.")]
    Rehearse(RehearseRollout),
    /// Submit a document and start its rollout
    #[command(after_help = "\
Examples:
  tasker rollout run kernel.yaml
  tasker rollout run kernel.yaml --wait 2h
  generate-document | tasker rollout run - --wait

A document is YAML or JSON, see docs/rollouts.md. The shortest one:
  {identifier: first, type: worker}

The same document again under its identifier is the same rollout.
Ctrl-C ends a wait, never the rollout.

Exit codes with --wait:
  0    DONE: all endpoints succeeded
  2    PARTIAL, some endpoints failed
  3    PARTIAL or SETTLING, some endpoints are away, unreachable or left out
  4    no endpoint succeeded
  5    ABORTED
  6    HALTED: somebody has to decide; ROLLED_BACK, ROLLBACK_FAILED
  124  timed out waiting; the rollout goes on")]
    Run(RunRollout),
    /// List rollouts, newest first
    #[command(after_help = "Example:\n  tasker rollout list --status RUNNING,HALTED")]
    List(ListRollouts),
    /// Show a rollout: its waves, who failed, and what can be done next
    #[command(
        after_help = "Examples:\n  tasker rollout show kernel-6.9\n  tasker rollout show kernel-6.9 --wait 10m"
    )]
    Show(ShowRollout),
    /// Follow a rollout on the screen until it ends or somebody has to decide
    #[command(after_help = "Example:\n  tasker rollout watch kernel-6.9")]
    Watch(OneRollout),
    /// Show what happened to a rollout, and who asked for it
    #[command(after_help = "Example:\n  tasker rollout events kernel-6.9 --follow")]
    Events(RolloutEvents),
    /// List the endpoints of a rollout
    #[command(after_help = "Example:\n  tasker rollout targets kernel-6.9 --state FAILED,UNREACHABLE")]
    Targets(RolloutTargets),
    /// List the endpoints that rollouts have in flight, or free one
    #[command(after_help = "Examples:\n  tasker rollout holds\n  tasker rollout holds --free update/web17")]
    Holds(RolloutHolds),
    /// Start a rollout whose document says `start_at: manual`
    #[command(after_help = "Example:\n  tasker rollout start kernel-6.9")]
    Start(OneRollout),
    /// Pause a rollout: what has started finishes, nothing new starts
    #[command(after_help = "Example:\n  tasker rollout pause kernel-6.9")]
    Pause(OneRollout),
    /// Let a paused or halted rollout go on
    #[command(
        after_help = "Examples:\n  tasker rollout resume kernel-6.9\n  tasker rollout resume kernel-6.9 --allow-failed 1"
    )]
    Resume(ResumeRollout),
    /// Give a rollout up for good: what has started finishes, nothing new starts
    #[command(
        after_help = "Examples:\n  tasker rollout abort kernel-6.9\n  tasker rollout abort kernel-6.9 --rollback"
    )]
    Abort(AbortRollout),
    /// Agree to the wave that waits for it
    #[command(after_help = "\
If the document asks for the approval of more than one person, the wave begins after the last approval.

Example:
  tasker rollout approve kernel-6.9
  tasker rollout approve kernel-6.9 --revision 4")]
    Approve(ApproveRollout),
    /// Do not agree to the wave that waits for it
    #[command(after_help = "Example:\n  tasker rollout refuse kernel-6.9")]
    Refuse(OneRollout),
    /// Leave endpoints out that have not succeeded, or pass over the gate that a rollout waits at
    #[command(after_help = "\
Examples:
  tasker rollout skip kernel-6.9 --endpoints web17,web18
  tasker rollout skip kernel-6.9 --state ABSENT
  tasker rollout skip kernel-6.9 --gate

Passing over an approval needs the right to approve, if one approval is enough, or the scope `admin`.")]
    Skip(SkipTargets),
    /// Try endpoints again that have failed or were unreachable
    #[command(after_help = "\
Examples:
  tasker rollout retry kernel-6.9
  tasker rollout retry kernel-6.9 --endpoints web17")]
    Retry(RetryTargets),
    /// Change the document of a rollout while it goes on
    #[command(after_help = "\
Examples:
  tasker rollout edit kernel-6.9 --set window=20 --set soak=1h
  tasker rollout edit kernel-6.9 --set 'budget={wave: {failed: 2}}'
  tasker rollout edit kernel-6.9 --set 'waves=[1, 5%, 10%, rest]'
  tasker rollout edit kernel-6.9 changes.yaml

What can be changed: window, budget, soak, probe, approval, windows, catch_up, catch_up_for, on_breach, in_flight, rollback, expires_after,
and waves while the rollout is paused or halted. `none` takes a member away.")]
    Edit(EditRollout),
    /// Make a new rollout of the same document, for the endpoints that did not succeed
    #[command(
        after_help = "Examples:\n  tasker rollout rerun kernel-6.9 --identifier kernel-6.9-again --only FAILED\n  tasker rollout rerun kernel-6.9 --identifier kernel-6.9-newcomers --only new"
    )]
    Rerun(RerunRollout),
}

/// A document.
#[derive(Debug, Clone, Args)]
pub struct PlanRollout {
    /// File with the document, YAML or JSON; - reads standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Show the endpoints of each wave, in the order of their turns
    #[arg(long)]
    pub endpoints: bool,
}

/// `tasker rollout rehearse`.
#[derive(Debug, Clone, Args)]
pub struct RehearseRollout {
    /// File with the document, YAML or JSON; - reads standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Simulate so many endpoints, sim-00000 and on [default: those that the platform knows for the type, by
    /// name and labels]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub simulate: Option<u32>,
    /// How the simulated endpoints behave, in YAML: times, failures, reboots; see docs/rollouts.md
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// Make all times of the document, of the type and of --faults so many times shorter; those that are
    /// printed are multiplied again
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub faster: u32,
    /// Stop after this time if the rollout has not ended
    #[arg(long, value_name = "DURATION", value_parser = span::parse, default_value = "10m")]
    pub limit: Duration,
}

/// `tasker rollout run`.
#[derive(Debug, Clone, Args)]
pub struct RunRollout {
    /// File with the document, YAML or JSON; - reads standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Wait until the rollout ends or somebody has to decide; at most for DURATION
    #[arg(long, value_name = "DURATION", value_parser = span::parse, num_args = 0..=1)]
    pub wait: Option<Option<Duration>>,
}

/// `tasker rollout list`.
#[derive(Debug, Clone, Args)]
pub struct ListRollouts {
    /// Only rollouts of these states, separated by commas: CREATED, RUNNING, SETTLING, PAUSED, HALTED,
    /// ABORTING, DONE, PARTIAL, ABORTED, ROLLING_BACK, ROLLED_BACK, ROLLBACK_FAILED
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = one_of(&RolloutStatus::ALL, RolloutStatus::as_str), hide_possible_values = true)]
    pub status: Vec<RolloutStatus>,
    /// Where and how much.
    #[command(flatten)]
    pub page: Page,
}

/// `tasker rollout show`.
#[derive(Debug, Clone, Args)]
pub struct ShowRollout {
    /// Identifier of the rollout
    #[arg(value_name = "ROLLOUT")]
    pub name: RolloutName,
    /// Wait until the rollout ends or somebody has to decide; at most for DURATION
    #[arg(long, value_name = "DURATION", value_parser = span::parse, num_args = 0..=1)]
    pub wait: Option<Option<Duration>>,
}

/// One rollout.
#[derive(Debug, Clone, Args)]
pub struct OneRollout {
    /// Identifier of the rollout
    #[arg(value_name = "ROLLOUT")]
    pub name: RolloutName,
}

/// `tasker rollout approve`.
#[derive(Debug, Clone, Args)]
pub struct ApproveRollout {
    /// Which.
    #[command(flatten)]
    pub rollout: OneRollout,
    /// The revision that was read, as `show --json` has it: with another one nothing is approved [default:
    /// that of now]
    #[arg(long, value_name = "N")]
    pub revision: Option<u32>,
}

/// `tasker rollout abort`.
#[derive(Debug, Clone, Args)]
pub struct AbortRollout {
    /// Identifier of the rollout
    #[arg(value_name = "ROLLOUT")]
    pub name: RolloutName,
    /// Roll back the endpoints that the rollout has changed, as its document says
    #[arg(long)]
    pub rollback: bool,
}

/// `tasker rollout events`.
#[derive(Debug, Clone, Args)]
pub struct RolloutEvents {
    /// Identifier of the rollout
    #[arg(value_name = "ROLLOUT")]
    pub name: RolloutName,
    /// Only events after this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub after: u32,
    /// Go on with each new event until the rollout ends
    #[arg(short, long)]
    pub follow: bool,
}

/// `tasker rollout targets`.
#[derive(Debug, Clone, Args)]
pub struct RolloutTargets {
    /// Identifier of the rollout
    #[arg(value_name = "ROLLOUT")]
    pub name: RolloutName,
    /// Only endpoints in these states, separated by commas: PENDING, SENT, VERIFYING, OK, FAILED,
    /// UNREACHABLE, ABSENT, SKIPPED, SUPERSEDED
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = one_of(&TargetState::ALL, TargetState::as_str), hide_possible_values = true)]
    pub state: Vec<TargetState>,
    /// Only endpoints of this wave
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub wave: Option<u32>,
    /// Where and how much.
    #[command(flatten)]
    pub page: Page,
}

/// `tasker rollout holds`.
#[derive(Debug, Clone, Args)]
pub struct RolloutHolds {
    /// Free an endpoint that will never answer, so that other rollouts of the lane may start it
    #[arg(long, value_name = "LANE/ENDPOINT", value_parser = held)]
    pub free: Option<(String, EndpointName)>,
}

/// `tasker rollout resume`.
#[derive(Debug, Clone, Args)]
pub struct ResumeRollout {
    /// Identifier of the rollout
    #[arg(value_name = "ROLLOUT")]
    pub name: RolloutName,
    /// Endpoints that may fail, in each wave that has exceeded its budget
    #[arg(long, value_name = "N")]
    pub allow_failed: Option<u32>,
    /// Endpoints that may be unreachable, in each wave that has exceeded its budget
    #[arg(long, value_name = "N")]
    pub allow_unreachable: Option<u32>,
}

/// `tasker rollout skip`.
#[derive(Debug, Clone, Args)]
pub struct SkipTargets {
    /// Which endpoints.
    #[command(flatten)]
    pub picked: Picked,
    /// Not endpoints, but the approval or the soak time that the rollout waits for
    #[arg(long, conflicts_with_all = ["endpoints", "state", "wave"])]
    pub gate: bool,
}

/// `tasker rollout retry`.
#[derive(Debug, Clone, Args)]
pub struct RetryTargets {
    /// Which endpoints.
    #[command(flatten)]
    pub picked: Picked,
}

/// Endpoints of a rollout.
#[derive(Debug, Clone, Args)]
pub struct Picked {
    /// Identifier of the rollout
    #[arg(value_name = "ROLLOUT")]
    pub name: RolloutName,
    /// These endpoints, separated by commas
    #[arg(short, long, value_name = "NAMES", value_delimiter = ',', conflicts_with_all = ["state", "wave"])]
    pub endpoints: Vec<EndpointName>,
    /// All endpoints in these states, separated by commas
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = one_of(&TargetState::ALL, TargetState::as_str), hide_possible_values = true)]
    pub state: Vec<TargetState>,
    /// Only endpoints of this wave
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub wave: Option<u32>,
}

impl Picked {
    /// Whether nothing says which endpoints.
    pub const fn is_nobody(&self) -> bool {
        self.endpoints.is_empty() && self.state.is_empty() && self.wave.is_none()
    }
}

/// `tasker rollout edit`.
#[derive(Debug, Clone, Args)]
pub struct EditRollout {
    /// Identifier of the rollout
    #[arg(value_name = "ROLLOUT")]
    pub name: RolloutName,
    /// File with members of the document and their new values, YAML or JSON; - reads standard input
    #[arg(value_name = "FILE", required_unless_present = "set")]
    pub file: Option<PathBuf>,
    /// A member and its new value, in YAML or JSON; may be repeated
    #[arg(long, value_name = "MEMBER=VALUE", value_parser = member)]
    pub set: Vec<(String, String)>,
    /// The revision that was read, as `show --json` has it: with another one nothing is changed [default:
    /// that of now]
    #[arg(long, value_name = "N")]
    pub revision: Option<u32>,
}

/// `tasker rollout rerun`.
#[derive(Debug, Clone, Args)]
pub struct RerunRollout {
    /// Identifier of the rollout
    #[arg(value_name = "ROLLOUT")]
    pub name: RolloutName,
    /// Identifier of the new rollout
    #[arg(long, value_name = "NAME")]
    pub identifier: RolloutName,
    /// Only endpoints in these states, separated by commas; `new` for those that its targets choose now and
    /// did not choose then [default: all that did not succeed and were not superseded]
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = one_of(&RerunOnly::ALL, RerunOnly::as_str), hide_possible_values = true)]
    pub only: Vec<RerunOnly>,
}

fn member(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected MEMBER=VALUE such as `window=20`")?;
    if value.trim().is_empty() {
        return Err(format!("`{name}` has no value; `{name}=none` takes it away"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn held(text: &str) -> Result<(String, EndpointName), String> {
    let (lane, endpoint) = text
        .split_once('/')
        .filter(|(lane, _)| !lane.is_empty())
        .ok_or("expected LANE/ENDPOINT such as `update/web17`")?;
    Ok((lane.to_owned(), endpoint.parse().map_err(|error: crate::domain::InvalidName| error.to_string())?))
}
