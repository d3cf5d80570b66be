/** What a rollout allows, and how long it takes yet. The server decides again. */
import type { Rollout, RolloutCounts, RolloutWave } from "./types";

export const isOver = (rollout: Rollout): boolean => ["DONE", "PARTIAL", "ABORTED", "ROLLED_BACK", "ROLLBACK_FAILED"].includes(rollout.status);

/** Whether it is given up already; until then its endpoints may be retried and left out. */
export const isGivenUp = (rollout: Rollout): boolean => isOver(rollout) || rollout.status === "ABORTING" || rollout.status === "ROLLING_BACK";

/** The wave whose turn it is. */
const current = (rollout: Rollout): RolloutWave | undefined => rollout.waves.find((wave) => wave.wave === rollout.wave);

const needsApproval = (wave: RolloutWave): boolean => wave.gates.some((gate) => gate.startsWith("approval"));

/** What it waits at: somebody who agrees, the end of a soak time, or a probe. */
export function gate(rollout: Rollout): "approval" | "soak" | "probe" | undefined {
  const wave = current(rollout);
  if (wave?.phase === "WAITING" && wave.since !== null && needsApproval(wave)) return "approval";
  if (wave?.phase === "PROBING") return "probe";
  return wave?.phase === "SOAKING" ? "soak" : undefined;
}

type Counted = "failed" | "unreachable";

/** How many have to be allowed before it may go on: as many as there are in the waves that are over their budget. */
export function overBudget(rollout: Rollout, what: Counted): number | undefined {
  const allowed = `allowed_${what}` as const;
  const over = (of: { [key in typeof allowed]: number | null } & { counts: RolloutCounts }): boolean => of[allowed] !== null && of.counts[what] > (of[allowed] ?? 0);
  const waves = rollout.waves.filter(over);
  if (waves.length > 0) return Math.max(...waves.map((wave) => wave.counts[what]));
  return over(rollout) ? rollout.counts[what] : undefined;
}

/** The states that a retry takes, and those that can be left out. */
export const RETRIED = ["FAILED", "UNREACHABLE", "ABSENT", "SKIPPED"];
export const LEFT_OUT = ["PENDING", "FAILED", "UNREACHABLE", "ABSENT"];

/** All states in which an endpoint did not succeed. */
export const UNSUCCESSFUL = ["FAILED", "UNREACHABLE", "ABSENT", "SKIPPED", "SUPERSEDED", "PENDING", "SENT", "VERIFYING"];

export const inState = (counts: RolloutCounts, state: string): number => counts[state.toLowerCase() as keyof RolloutCounts] ?? 0;

const UNITS: Record<string, number> = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

/** The soak time of a wave, as its gates tell it. */
function soak(wave: RolloutWave): number {
  const told = wave.gates.find((gate) => gate.startsWith("soak "))?.slice("soak ".length) ?? "";
  return [...told.matchAll(/(\d+)(ms|[dhms])/g)].reduce((sum, [, number, unit]) => sum + Number(number) * UNITS[unit], 0);
}

export interface Left {
  /** Milliseconds that the wave takes yet. */
  wave: number;
  /** The same for all, where that can be told. */
  all?: number;
  /** Whether the wave soaks. */
  soaks: boolean;
  /** Whether somebody has to agree in between, for which nobody knows a time. */
  approvals: boolean;
}

/** How long it takes yet, by what an endpoint of the wave took so far. Nothing before that says something. */
export function timeLeft(rollout: Rollout, now: number): Left | undefined {
  const wave = current(rollout);
  if (rollout.status !== "RUNNING" || !wave?.since) return undefined;
  const elapsed = now - Date.parse(wave.since);
  const later = rollout.waves.filter((one) => one.wave > wave.wave);
  const approvals = later.some(needsApproval);
  if (wave.phase === "SOAKING") {
    const rest = Math.max(0, soak(wave) - elapsed);
    return { wave: rest, all: later.length === 0 ? rest : undefined, soaks: true, approvals };
  }
  if (wave.phase !== "ADMITTING") return undefined;
  const { ok, failed, unreachable, sent, verifying, pending } = wave.counts;
  const [done, flight] = [ok + failed + unreachable, sent + verifying];
  if (done < 3 || elapsed < 3000) return undefined;
  // What is in flight is half way, on average; a place in the window takes one endpoint after the other.
  const each = (elapsed * Math.min(wave.window, wave.size)) / (done + flight / 2);
  const rest = ((pending + flight / 2) * each) / Math.min(wave.window, wave.size) + soak(wave);
  const all = later.reduce((sum, one) => sum + (one.size * each) / Math.min(one.window, one.size) + soak(one), rest);
  return { wave: rest, all, soaks: false, approvals };
}
