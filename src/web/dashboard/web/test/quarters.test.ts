import { expect, test } from "vitest";
import { quarters } from "../src/quarters";
import type { Statistics } from "../src/types";

test("minutes are added up to quarters of an hour", () => {
  const span = (time: string, done: number) => ({ time, accepted: done, done, failed: 1, canceled: 2, expired: 3, answers: 0, errors: 0 });
  const spans = [
    span("2026-02-28T12:14:00Z", 1),
    span("2026-02-28T12:15:00Z", 2),
    span("2026-03-01T11:59:00Z", 4),
    span("2026-03-01T12:00:00Z", 8),
    span("2026-03-01T12:07:00Z", 16),
    // The clock of the ledger may be a little ahead.
    span("2026-03-01T12:15:00Z", 32),
  ];
  const statistics: Statistics = { step: "minute", since: "", until: "", spans };
  const all = quarters(statistics, Date.parse("2026-03-01T12:07:30Z"));
  expect(all.length).toBe(96);
  expect(new Date(all[0].at).toISOString()).toBe("2026-02-28T12:15:00.000Z");
  const at = (index: number) => [all[index].done, all[index].failed, all[index].other];
  expect([at(0), at(1), at(94), at(95)]).toEqual([[2, 1, 5], [0, 0, 0], [4, 1, 5], [24, 2, 10]]);
});
