/** Whom a task is for, as the form has it and as the interface takes it. */
import { selector } from "./selector";
import type { Task } from "./types";

export interface Target {
  whom: "all" | "match" | "names";
  names: string;
  match: string;
  groups: string[];
  exclude: string;
  /** Only a part of them, and how large. */
  part: "" | "percent" | "limit";
  size: string;
  /** Also endpoints that are stopped. */
  known: boolean;
}

export const ALL: Target = { whom: "all", names: "", match: "", groups: [], exclude: "", part: "", size: "", known: false };

const listed = (names: string): string[] => [...new Set(names.split(/[\s,]+/).filter((name) => name !== ""))];

/** The members of a submission that choose endpoints. */
export function members(target: Target): Record<string, unknown> {
  if (target.whom === "names") return { endpoints: listed(target.names) };
  const [match, exclude] = [selector(target.match), selector(target.exclude)];
  return {
    ...(target.whom === "match" && match !== "" && { match }),
    ...(target.whom === "match" && target.groups.length > 0 && { groups: target.groups }),
    ...(exclude !== "" && { exclude }),
    ...(target.part !== "" && { [target.part]: Number(target.size) }),
    ...(target.known && { expect: "known" }),
  };
}

/** What is missing in it, in words. */
export function lack({ whom, names, match, groups, part, size }: Target): string | undefined {
  if (whom === "names" && listed(names).length === 0) return "Name an endpoint: without one it would be for all.";
  if (whom === "match" && match.trim() === "" && groups.length === 0) return "Write a selector or choose a group: without one it would be for all.";
  const number = Number(size);
  if (whom !== "names" && part !== "" && !(Number.isInteger(number) && number >= 1 && (part === "limit" || number <= 100))) {
    return part === "percent" ? "The part is a whole number from 1 to 100." : "The part is a whole number from 1 on.";
  }
  return undefined;
}

/** Several selectors as one. */
const joined = (selectors: string[], word: string): string => (selectors.length < 2 ? selectors.join("") : selectors.map((one) => `(${one})`).join(` ${word} `));

/** The target that a task had. Its endpoints are chosen anew where it did not name them. */
export function targetOf({ target, endpoints }: Pick<Task, "target" | "endpoints">): Target {
  if (!target) return endpoints.length > 0 ? { ...ALL, whom: "names", names: endpoints.join("\n") } : ALL;
  const { match = [], groups = [], exclude = [], percent, limit, expect } = target;
  return {
    ...ALL,
    whom: match.length > 0 || groups.length > 0 ? "match" : "all",
    match: joined(match, "and"),
    groups,
    exclude: joined(exclude, "or"),
    part: percent !== undefined ? "percent" : limit !== undefined ? "limit" : "",
    size: String(percent ?? limit ?? ""),
    known: expect === "known",
  };
}
