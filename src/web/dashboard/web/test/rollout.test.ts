import { describe, expect, test } from "vitest";
import { gate, overBudget, timeLeft } from "../src/rollout";
import type { Rollout, RolloutCounts, RolloutWave } from "../src/types";

const NONE: RolloutCounts = { pending: 0, sent: 0, verifying: 0, ok: 0, failed: 0, unreachable: 0, absent: 0, skipped: 0, superseded: 0 };
const BEGAN = "2026-11-29T10:00:00Z";
const after = (seconds: number): number => Date.parse(BEGAN) + seconds * 1000;

function wave(number: number, rest: Partial<Omit<RolloutWave, "counts">> & { counts?: Partial<RolloutCounts> } = {}): RolloutWave {
  const { counts, ...others } = rest;
  return { wave: number, name: null, phase: "WAITING", since: null, size: 10, window: 100, allowed_failed: 0, allowed_unreachable: null, gates: [], approvals: [], ...others, counts: { ...NONE, ...counts } };
}

function rollout(waves: RolloutWave[], rest: Partial<Rollout> = {}): Rollout {
  const counts = waves.reduce((sum, one) => ({ ...sum, failed: sum.failed + one.counts.failed, unreachable: sum.unreachable + one.counts.unreachable }), NONE);
  return { status: "RUNNING", wave: 1, waves, counts, allowed_failed: null, allowed_unreachable: null, ...rest } as Rollout;
}

describe("the gate of a rollout", () => {
  test("is where it waits", () => {
    const held = wave(1, { since: BEGAN, gates: ["approval (2)", "soak 1h"] });
    expect(gate(rollout([held]))).toBe("approval");
    expect(gate(rollout([{ ...held, since: null }]))).toBeUndefined();
    expect(gate(rollout([{ ...held, phase: "SOAKING" }]))).toBe("soak");
    expect(gate(rollout([{ ...held, phase: "PROBING" }]))).toBe("probe");
    expect(gate(rollout([{ ...held, phase: "ADMITTING" }]))).toBeUndefined();
    expect(gate(rollout([held], { wave: null }))).toBeUndefined();
  });
});

describe("what has to be allowed", () => {
  test("is what is over its budget", () => {
    expect(overBudget(rollout([wave(1, { counts: { failed: 2 } }), wave(2, { counts: { failed: 3 }, allowed_failed: 3 })]), "failed")).toBe(2);
    expect(overBudget(rollout([wave(1, { counts: { unreachable: 9 } })]), "unreachable")).toBeUndefined();
    expect(overBudget(rollout([wave(1, { counts: { failed: 2 }, allowed_failed: 2 })], { allowed_failed: 1 }), "failed")).toBe(2);
  });
});

describe("the time that is left", () => {
  test("goes by what endpoints took so far", () => {
    const under = wave(1, { phase: "ADMITTING", since: BEGAN, window: 2, counts: { ok: 4, pending: 6 } });
    expect(timeLeft(rollout([under]), after(40))?.wave).toBe(60_000);
    const next = wave(2, { size: 4, window: 2, gates: ["soak 1m30s"] });
    expect(timeLeft(rollout([under, next]), after(40))).toEqual({ wave: 60_000, all: 60_000 + 40_000 + 90_000, soaks: false, approvals: false });
    expect(timeLeft(rollout([under, wave(2, { gates: ["approval (1)"] })]), after(40))?.approvals).toBe(true);
  });

  test("is not told before it can be", () => {
    expect(timeLeft(rollout([wave(1, { phase: "ADMITTING", since: BEGAN, counts: { ok: 2, pending: 8 } })]), after(40))).toBeUndefined();
    expect(timeLeft(rollout([wave(1, { phase: "ADMITTING", since: BEGAN, counts: { ok: 5 } })], { status: "HALTED" }), after(40))).toBeUndefined();
  });

  test("is known of a soak time", () => {
    expect(timeLeft(rollout([wave(1, { phase: "SOAKING", since: BEGAN, gates: ["healthy 30s", "soak 1h"] })]), after(600))).toEqual({ wave: 3_000_000, all: 3_000_000, soaks: true, approvals: false });
  });
});
