/** Times: relative, by the ledger's clock, with both zones where one asks. */
import { signal } from "@preact/signals";
import { zone } from "./settings";

/** How far the ledger's clock is ahead of this machine's, in ms. */
let ahead = 0;

/** The ledger's time, a second at a time. */
export const now = signal(Date.now());

export function setServerTime(text: string, halfWay = 0): void {
  const told = Date.parse(text);
  if (Number.isNaN(told)) return;
  ahead = told + halfWay - Date.now();
  now.value = Date.now() + ahead;
}

/** This machine's time of a moment, as the ledger counts. */
export const ledgerTime = (): number => Date.now() + ahead;

/** How far this machine's clock is off, where a person should know. */
export const clockIsOff = (): number => (Math.abs(ahead) > 60_000 ? -ahead : 0);

setInterval(() => {
  if (!document.hidden) now.value = Date.now() + ahead;
}, 1000);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) now.value = Date.now() + ahead;
});

/** A span in words of two units: `3 m 20 s`. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (ms < 950) return `${Math.max(0, Math.round(ms))} ms`;
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return minutes < 10 && seconds % 60 ? `${minutes} m ${seconds % 60} s` : `${minutes} m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return hours < 10 && minutes % 60 ? `${hours} h ${minutes % 60} m` : `${hours} h`;
  return `${Math.floor(hours / 24)} d`;
}

/** The middle of some numbers, of which there is one at least. */
export function median(numbers: number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** A moment from now, or until now: `3 m ago`, `in 2 h`. */
export function relative(at: number, from: number): string {
  const ms = from - at;
  if (Math.abs(ms) < 1500) return "now";
  return ms > 0 ? `${coarse(ms)} ago` : `in ${coarse(-ms)}`;
}

/** A span in one unit, which does not change every second. */
function coarse(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  const days = Math.floor(seconds / 86400);
  return days < 730 ? `${days} d` : `${Math.floor(days / 365)} y`;
}

const two = (number: number): string => String(number).padStart(2, "0");

/** A moment in a zone, to the second. */
export function clock(at: number, utc: boolean): string {
  const time = new Date(at);
  if (utc) return `${time.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${day} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

/** In the zone that one has chosen. */
export const inZone = (at: number): string => clock(at, zone.value === "utc");

/** In both. */
export const inBoth = (at: number): string => `${clock(at, false)} here\n${clock(at, true)}`;
