/** Statistics of minutes as bars of a quarter of an hour. */
import type { Statistics } from "./types";

/** Milliseconds. */
export const QUARTER = 15 * 60_000;
/** A day of them. */
export const BARS = 96;

/** What became of the tasks of a quarter of an hour. */
export interface Quarter {
  /** When it begins. */
  at: number;
  accepted: number;
  done: number;
  failed: number;
  /** Canceled or expired. */
  other: number;
}

/** The last 96 quarters up to a moment; minutes that were not told had nothing. */
export function quarters(statistics: Statistics, moment: number): Quarter[] {
  const end = Math.floor(moment / QUARTER) * QUARTER;
  const all = Array.from({ length: BARS }, (_, at) => ({ at: end - (BARS - 1 - at) * QUARTER, accepted: 0, done: 0, failed: 0, other: 0 }));
  for (const { time, accepted, done, failed, canceled, expired } of statistics.spans) {
    const quarter = all[BARS - 1 + Math.floor((Date.parse(time) - end) / QUARTER)];
    if (quarter === undefined) continue;
    quarter.accepted += accepted;
    quarter.done += done;
    quarter.failed += failed;
    quarter.other += canceled + expired;
  }
  return all;
}
