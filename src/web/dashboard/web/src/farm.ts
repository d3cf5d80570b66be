/** What a render farm is doing, out of its jobs, tasks and workers. */
import type { Look } from "./state";
import type { FarmJob, FarmStatus, FarmTask, FarmWorker } from "./types";

const TASK: Record<FarmStatus, Look> = {
  queued: { word: "waiting", glyph: "○", tone: "wait" },
  "claimed-by-manager": { word: "waiting", glyph: "○", tone: "wait" },
  "soft-failed": { word: "to be retried", glyph: "↻", tone: "warn" },
  active: { word: "running", glyph: "◐", tone: "run" },
  "cancel-requested": { word: "stopping", glyph: "◔", tone: "warn" },
  completed: { word: "completed", glyph: "✓", tone: "ok" },
  failed: { word: "failed", glyph: "✕", tone: "bad" },
  canceled: { word: "canceled", glyph: "–", tone: "off" },
  paused: { word: "paused", glyph: "‖", tone: "warn" },
  "under-construction": { word: "not released", glyph: "·", tone: "off" },
};

export const farmLook = (status: FarmStatus): Look => TASK[status] ?? { word: status, glyph: "?", tone: "off" };

/** How many tasks of a job have one of these states. */
export const tasksOf = (job: FarmJob, ...states: FarmStatus[]): number => states.reduce((sum, state) => sum + (job.tasks[state] ?? 0), 0);

/** A job is what most deserves a look: what runs, then what waits, then how it ended. */
export function farmJobLook(job: FarmJob): Look {
  if (tasksOf(job, "active") > 0) return TASK.active;
  if (tasksOf(job, "cancel-requested") > 0) return TASK["cancel-requested"];
  if (tasksOf(job, "soft-failed") > 0) return TASK["soft-failed"];
  if (tasksOf(job, "queued", "claimed-by-manager") > 0) return TASK.queued;
  for (const state of ["failed", "paused", "under-construction", "canceled"] as const) if (tasksOf(job, state) > 0) return TASK[state];
  return TASK.completed;
}

/** The parts of a job's bar; what is left of it waits. */
export const farmProgress = (job: FarmJob): { number: number; tone: string; word: string }[] => [
  { number: tasksOf(job, "completed"), tone: "ok", word: "completed" },
  { number: tasksOf(job, "failed", "soft-failed"), tone: "bad", word: "failed" },
  { number: tasksOf(job, "active", "cancel-requested"), tone: "run", word: "running" },
  { number: tasksOf(job, "canceled"), tone: "off", word: "canceled" },
];

/** A worker, by what it says of itself and by the task that it has. */
export function workerLook(worker: FarmWorker, task: FarmTask | undefined): Look {
  switch (worker.status) {
    case "awake":
      return task ? { word: "working", glyph: "◐", tone: "run" } : { word: "idle", glyph: "●", tone: "ok" };
    case "testing":
      return { word: "testing", glyph: "◐", tone: "run" };
    case "asleep":
      return { word: "asleep", glyph: "–", tone: "off" };
    case "error":
      return { word: "error", glyph: "✕", tone: "bad" };
    case "timeout":
      return { word: "silent", glyph: "▽", tone: "bad" };
    case "offline":
      return { word: "offline", glyph: "▽", tone: "off" };
    default:
      return { word: worker.status === "" ? "registered" : worker.status, glyph: "○", tone: "wait" };
  }
}
