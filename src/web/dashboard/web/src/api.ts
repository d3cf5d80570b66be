/** The interface as the page reads it: `GET` for resources, one function for whatever changes something. */
import { signal } from "@preact/signals";
import { PREFIX } from "./base";

export interface ProblemItem {
  pointer: string;
  message: string;
}

/** Why the interface said no (RFC 9457), or why nothing came. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly errors: ProblemItem[] = [],
    readonly requestId = "",
    /** How many tasks a filter means now. */
    readonly count?: number,
  ) {
    super(detail);
  }
}

/** Whatever was thrown, as a problem. */
export const problemOf = (error: unknown): Problem =>
  error instanceof Problem ? error : new Problem(0, "unknown", error instanceof Error ? error.message : String(error));

/** When the interface last answered, and since when it does not. */
export const contact = signal<{ at: number; failingSince?: number; why?: string }>({ at: Date.now() });

/** Called when the interface no longer knows who one is. */
let whenUnknown: () => void = () => {};

export const onUnknown = (call: () => void): void => {
  whenUnknown = call;
};

export const isAbort = (error: unknown): boolean => error instanceof DOMException && error.name === "AbortError";

function failing(why: string): void {
  const { at, failingSince } = contact.value;
  contact.value = { at, failingSince: failingSince ?? Date.now(), why };
}

async function refusal(answer: Response): Promise<Problem> {
  const body = await answer.json().catch(() => null);
  if (typeof body?.detail !== "string") return new Problem(answer.status, "unknown", `the API answered ${answer.status}`);
  const errors = Array.isArray(body.errors) ? body.errors : [];
  return new Problem(answer.status, String(body.code), body.detail, errors, String(body.request_id ?? ""), typeof body.count === "number" ? body.count : undefined);
}

async function send(path: string, init: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(PREFIX + path, { credentials: "same-origin", redirect: "error", ...init });
  } catch (error) {
    if (isAbort(error)) throw error;
    failing("the API does not answer");
    throw new Problem(0, "unreachable", "the API does not answer");
  }
  if (answer.ok) {
    contact.value = { at: Date.now() };
    return answer;
  }
  const problem = await refusal(answer);
  if (answer.status >= 500) failing(problem.message);
  else contact.value = { at: Date.now() };
  if (answer.status === 401) whenUnknown();
  throw problem;
}

export async function get<T>(path: string, abort?: AbortSignal, exact = false): Promise<T> {
  const answer = await send(path, { headers: { Accept: "application/json" }, signal: abort });
  return (exact ? parseExactly(await answer.text()) : await answer.json()) as T;
}

type Raw = { rawJSON?: (text: string) => unknown };
type Exactly = (key: string, value: unknown, context?: { source?: string }) => unknown;

/** A number that may be written in another way than a script writes it: long, with a fraction or an exponent, or `-0`. In a text it costs time alone. */
const UNUSUAL = /[:,[]\s*(?:-?(?:\d{16,}|\d+\.\d+|\d+(?:\.\d+)?[eE][-+]?\d+)|-0)\s*[,\]}]/;

/** JSON whose numbers stay as they are written: an id above 2^53 is another one otherwise. In old browsers they do not. */
export function parseExactly(text: string): unknown {
  const raw = (JSON as Raw).rawJSON;
  // Looking at each value takes a quarter of a second where there are a hundred thousand of them.
  if (!raw || !UNUSUAL.test(`:${text},`)) return JSON.parse(text);
  const keep: Exactly = (_key, value, context) =>
    typeof value === "number" && context?.source !== undefined && String(value) !== context.source ? raw(context.source) : value;
  return JSON.parse(text, keep as (key: string, value: unknown) => unknown);
}

/** The same as bytes, with the headers that come along. */
export const getBytes = (path: string, abort?: AbortSignal, headers: Record<string, string> = {}): Promise<Response> =>
  send(path, { signal: abort, headers });

/** Whatever changes something. Every `POST` is JSON, with a body or without. */
export async function change<T>(method: "POST" | "PUT" | "DELETE", path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const headers: Record<string, string> = method === "POST" || body !== undefined ? { "Content-Type": "application/json" } : {};
  const text = body === undefined ? (method === "POST" ? "{}" : undefined) : JSON.stringify(body);
  const answer = await send(path, { method, headers, body: text, signal });
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

/** The same with a body that is JSON text already: payloads stay byte for byte what was typed. */
export async function changeWithText<T>(path: string, text: string, headers: Record<string, string> = {}): Promise<T> {
  const answer = await send(path, { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: text });
  return (await answer.json()) as T;
}

/** A path of the interface; what stands in it is escaped. */
export function path(parts: TemplateStringsArray, ...names: (string | number)[]): string {
  return parts.reduce((text, part, at) => text + encodeURIComponent(String(names[at - 1])) + part);
}

/** A query string of what is there. */
export function query(values: Record<string, string | number | undefined | null>): string {
  const set = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return set.length === 0 ? "" : `?${new URLSearchParams(set.map(([name, value]) => [name, String(value)]))}`;
}
