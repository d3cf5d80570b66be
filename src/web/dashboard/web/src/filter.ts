/** The filter of a list of tasks: in words, and as the interface takes it for what is done to all tasks that it means. */
import { isOpen, statusLook } from "./state";
import type { TaskCounts, TaskStatus } from "./types";

export interface Filter {
  type: string;
  status: TaskStatus[];
  /** Only tasks that an endpoint has finished with an error. */
  failed?: boolean;
  identifier: string;
  /** The earliest time of submission, and what one chose for it. */
  since?: string;
  sinceWord?: string;
}

/** How a task of a work queue may have ended without success. */
export const WAYS = ["failed", "expired", "canceled"] as const;
export type Way = (typeof WAYS)[number];

const END: Partial<Record<TaskStatus, Way>> = { DONE: "failed", EXPIRED: "expired", CANCELED: "canceled" };

/** What a filter says of identifier and time. */
const common = ({ identifier, since }: Filter): Record<string, unknown> => ({ ...(identifier && { identifier }), ...(since && { since }) });

/** The filter of `POST /tasks/cancel`: of what it means, the tasks that are open. None where all of these have ended, or it means less than can be said there. */
export function toCancel(filter: Filter): Record<string, unknown> | undefined {
  const status = filter.status.filter(isOpen);
  if (filter.failed || (filter.status.length > 0 && status.length === 0)) return undefined;
  return { ...(filter.type && { type: [filter.type] }), ...(status.length > 0 && { status }), ...common(filter) };
}

/** The filter of `POST /queues/{type}/requeue`. */
export const toRequeue = (filter: Filter, only: Way[]): Record<string, unknown> => ({ only, ...common(filter) });

/** The ways to end that a filter shows; those that failed where it shows none, or only these. */
export function waysOf({ status, failed }: Filter): Way[] {
  if (failed) return ["failed"];
  const ways = status.flatMap((one) => END[one] ?? []);
  return ways.length > 0 ? WAYS.filter((way) => ways.includes(way)) : ["failed"];
}

/** A filter in words that go on after "tasks". */
export function filterWords({ type, status, failed, identifier, sinceWord }: Filter): string {
  return [
    type && `of type ${type}`,
    status.length > 0 && `that are ${status.map((one) => statusLook(one).word).join(" or ")}`,
    failed && "that failed for an endpoint",
    identifier && `whose identifier begins with “${identifier}”`,
    sinceWord && `submitted in the ${sinceWord}`,
  ].filter(Boolean).join(", ");
}

/** How many tasks of an open state the list has. Not known where more than the type is asked for, nor of tasks that have ended. */
export function openOf(counts: TaskCounts | undefined, { type, failed, identifier, since }: Filter, status: TaskStatus): number | undefined {
  if (!counts || !isOpen(status) || failed || identifier || since) return undefined;
  return counts.open.filter((one) => one.status === status && (type === "" || one.type === type)).reduce((sum, one) => sum + one.count, 0);
}
