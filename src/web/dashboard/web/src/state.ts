/** States: a word, a glyph and a colour each. The glyph tells them apart where the colour does not. */
import type { RequestStatus, RolloutStatus, Task, TaskResponse, TaskStatus } from "./types";

export type Tone = "wait" | "run" | "ok" | "bad" | "warn" | "off";

export interface Look {
  word: string;
  glyph: string;
  tone: Tone;
}

const TASK: Record<TaskStatus, Look> = {
  CREATED: { word: "waiting", glyph: "○", tone: "wait" },
  SENT: { word: "running", glyph: "◐", tone: "run" },
  INCOMPLETE: { word: "incomplete", glyph: "△", tone: "warn" },
  DONE: { word: "done", glyph: "✓", tone: "ok" },
  CANCELED: { word: "canceled", glyph: "–", tone: "off" },
  EXPIRED: { word: "expired", glyph: "◌", tone: "bad" },
};

export const statusLook = (status: TaskStatus): Look => TASK[status] ?? { word: status, glyph: "?", tone: "off" };

/** Some of its endpoints have finished with an error. */
export const FAILED: Look = { word: "failed", glyph: "✕", tone: "bad" };

/** A task that is done has failed for some, which is what one looks for. */
export function taskLook(task: Task): Look {
  if (task.status === "DONE" && task.failed > 0) return FAILED;
  if (task.status === "CREATED" && task.queue?.run_at && task.queue.attempts.length === 0) return { ...TASK.CREATED, word: "waiting" };
  return statusLook(task.status);
}

export function responseLook(response: Pick<TaskResponse, "status" | "errnr" | "vanished">): Look {
  if (response.vanished) return { word: "vanished", glyph: "▽", tone: "warn" };
  switch (response.status) {
    case "EXPECTED":
      return { word: "not received", glyph: "○", tone: "wait" };
    case "CREATED":
      return { word: "running", glyph: "◐", tone: "run" };
    case "FINISHED":
      return response.errnr === 0 ? { word: "ok", glyph: "✓", tone: "ok" } : { word: "failed", glyph: "✕", tone: "bad" };
    case "CANCELED":
      return { word: "canceled", glyph: "–", tone: "off" };
    case "EXPIRED":
      return { word: "expired", glyph: "◌", tone: "bad" };
    default:
      return { word: response.status, glyph: "?", tone: "off" };
  }
}

const REQUEST: Record<RequestStatus, Look> = {
  Queuing: { word: "waiting", glyph: "○", tone: "wait" },
  Inprogress: { word: "running", glyph: "◐", tone: "run" },
  Completed: { word: "completed", glyph: "✓", tone: "ok" },
  Failed: { word: "failed", glyph: "✕", tone: "bad" },
  Canceled: { word: "canceled", glyph: "–", tone: "off" },
};

export const requestLook = (status: RequestStatus): Look => REQUEST[status] ?? { word: status, glyph: "?", tone: "off" };

export function jobLook(status: string): Look {
  switch (status) {
    case "new":
      return { word: "waiting", glyph: "○", tone: "wait" };
    case "inprogress":
      return { word: "running", glyph: "◐", tone: "run" };
    case "completed":
      return { word: "completed", glyph: "✓", tone: "ok" };
    case "failed":
      return { word: "failed", glyph: "✕", tone: "bad" };
    case "retry":
      return { word: "tried again", glyph: "↻", tone: "warn" };
    default:
      return { word: status, glyph: "–", tone: "off" };
  }
}

export const isOpen = (status: TaskStatus): boolean => status === "CREATED" || status === "SENT" || status === "INCOMPLETE";

const ROLLOUT: Record<RolloutStatus, Look> = {
  CREATED: { word: "not started", glyph: "○", tone: "wait" },
  RUNNING: { word: "running", glyph: "◐", tone: "run" },
  SETTLING: { word: "settling", glyph: "◕", tone: "run" },
  PAUSED: { word: "paused", glyph: "‖", tone: "warn" },
  HALTED: { word: "halted", glyph: "△", tone: "bad" },
  ABORTING: { word: "aborting", glyph: "◔", tone: "warn" },
  DONE: { word: "done", glyph: "✓", tone: "ok" },
  PARTIAL: { word: "partial", glyph: "◍", tone: "warn" },
  ABORTED: { word: "aborted", glyph: "–", tone: "off" },
  ROLLING_BACK: { word: "rolling back", glyph: "↻", tone: "run" },
  ROLLED_BACK: { word: "rolled back", glyph: "–", tone: "warn" },
  ROLLBACK_FAILED: { word: "rollback failed", glyph: "✕", tone: "bad" },
};

export const rolloutLook = (status: RolloutStatus): Look => ROLLOUT[status] ?? { word: status, glyph: "?", tone: "off" };

const TARGET: Record<string, Look> = {
  PENDING: { word: "pending", glyph: "·", tone: "wait" },
  SENT: { word: "running", glyph: "◐", tone: "run" },
  VERIFYING: { word: "verifying", glyph: "◕", tone: "run" },
  OK: { word: "ok", glyph: "✓", tone: "ok" },
  FAILED: { word: "failed", glyph: "✕", tone: "bad" },
  UNREACHABLE: { word: "unreachable", glyph: "▽", tone: "bad" },
  ABSENT: { word: "away", glyph: "▽", tone: "warn" },
  SKIPPED: { word: "skipped", glyph: "»", tone: "off" },
  SUPERSEDED: { word: "superseded", glyph: "↷", tone: "off" },
};

export const targetLook = (state: string): Look => TARGET[state] ?? { word: state, glyph: "?", tone: "off" };
