/**
 * What the interface tells of by itself, for all tabs of a browser by one stream: a browser opens six connections to a host, and seven tabs
 * must not take them all.
 *
 * The tab that holds a lock leads. The others tell it what they watch, and it tells them what it hears. A tab that nobody looks at watches
 * nothing and does not lead.
 */
import { signal } from "@preact/signals";
import { PREFIX } from "./base";
import { look } from "./session";
import { paused } from "./settings";

/** The data of an event. */
export interface Told {
  watch: string;
  [member: string]: unknown;
}

type Call = (told: Told | undefined) => void;

type Message =
  | { kind: "want"; tab: string; topics: string[] }
  | { kind: "who" }
  | { kind: "told"; event: string; told: Told }
  | { kind: "state"; open: boolean };

/** Whether events come. Without them, pages read again by the clock. */
export const streaming = signal(false);

/** Another tasker below another path of the same host has a stream of its own. */
const NAME = `tasker.events${PREFIX}`;

/** What one stream can watch. */
const MOST = 16;

const calls = new Map<string, Set<Call>>();
const tab = crypto.randomUUID?.() ?? String(Math.random());
const channel = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel(NAME);

/** Watches a topic of `GET /events`. Each call has an event, or nothing where the stream begins again. */
export function watch(topic: string, call: Call): () => void {
  const set = calls.get(topic) ?? new Set();
  set.add(call);
  calls.set(topic, set);
  tellWants();
  return () => {
    set.delete(call);
    if (set.size === 0) calls.delete(topic);
    tellWants();
  };
}

/** Calls when something has changed; answers what ends that. */
export const changes = (topic: string, call: () => void): (() => void) => (isTopic(topic) ? watch(topic, call) : () => {});

const isTopic = (topic: string): boolean => topic === "endpoints" || topic === "queues" || topic.startsWith("task:");

const seen = (): boolean => !document.hidden && !paused.value;

const wanted = (): string[] => (seen() ? [...calls.keys()] : []);

let telling: ReturnType<typeof setTimeout> | undefined;

/** A page that is left and another that is entered are one change. */
function tellWants(): void {
  clearTimeout(telling);
  telling = setTimeout(() => {
    send({ kind: "want", tab, topics: wanted() });
  }, 50);
}

function send(message: Message): void {
  channel?.postMessage(message);
  // A channel does not speak to its own tab.
  hear(message);
}

function hear(message: Message): void {
  switch (message.kind) {
    case "want":
      lead?.wants(message.tab, message.topics);
      return;
    case "who":
      tellWants();
      return;
    case "told":
      for (const call of calls.get(message.told.watch) ?? []) call(message.told);
      return;
    case "state":
      streaming.value = message.open;
      return;
  }
}

/** What the leading tab does. */
class Lead {
  private readonly tabs = new Map<string, string[]>();
  private readonly gone = new Set<string>();
  private topics = "";
  private source: EventSource | undefined;
  private again: ReturnType<typeof setTimeout> | undefined;

  wants(tab: string, topics: string[]): void {
    const before = this.tabs.get(tab) ?? [];
    if (topics.length > 0) this.tabs.set(tab, topics);
    else this.tabs.delete(tab);
    // A tab that watches states needs the whole of them once, also where another tab has them already.
    const more = topics.some((topic) => topic !== "queues" && !before.includes(topic));
    this.open(more);
    this.tell();
  }

  /** A tab that has just come does not know whether events come. */
  private tell(): void {
    send({ kind: "state", open: this.source?.readyState === EventSource.OPEN });
  }

  private open(anew: boolean): void {
    const all = new Set([...this.tabs.values()].flat().filter((topic) => !this.gone.has(topic)));
    const topics = [...all].sort().slice(0, MOST).join(",");
    if (!anew && topics === this.topics) return;
    this.end();
    this.topics = topics;
    if (topics === "") return;
    const source = new EventSource(`${PREFIX}/events?watch=${encodeURIComponent(topics)}`);
    this.source = source;
    source.onopen = () => this.tell();
    for (const event of ["task", "endpoints", "queues", "gone"]) {
      source.addEventListener(event, (message) => {
        const told: Told = JSON.parse((message as MessageEvent<string>).data);
        if (event === "gone") this.gone.add(told.watch);
        send({ kind: "told", event, told });
      });
    }
    source.onerror = () => {
      this.tell();
      // A browser connects again by itself, unless it was refused.
      if (source.readyState === EventSource.CLOSED && source === this.source) {
        clearTimeout(this.again);
        this.again = setTimeout(() => void this.refused(), 3000);
      }
    };
  }

  /** A stream is refused as a whole where one of its tasks is not there any more. */
  private async refused(): Promise<void> {
    await look();
    for (const topic of this.topics.split(",").filter((topic) => topic.startsWith("task:"))) {
      const answer = await fetch(`${PREFIX}/tasks/${encodeURIComponent(topic.slice("task:".length))}?responses=none`).catch(() => undefined);
      if (answer?.status === 404) this.gone.add(topic);
    }
    this.open(true);
  }

  private end(): void {
    clearTimeout(this.again);
    this.source?.close();
    this.source = undefined;
  }

  close(): void {
    this.end();
    this.tell();
  }
}

let lead: Lead | undefined;
let resign: (() => void) | undefined;
let standing = false;

async function stand(): Promise<void> {
  if (standing || !seen()) return;
  standing = true;
  const leading = (): Promise<void> =>
    new Promise((done) => {
      if (!seen()) return done();
      lead = new Lead();
      resign = () => {
        lead?.close();
        lead = undefined;
        resign = undefined;
        done();
      };
      send({ kind: "who" });
    });
  // Without locks each tab has a stream of its own.
  await (navigator.locks ? navigator.locks.request(NAME, leading) : leading());
  standing = false;
}

function follow(): void {
  tellWants();
  if (seen()) void stand();
  else resign?.();
}

export function listenToEvents(): void {
  channel?.addEventListener("message", (message) => hear(message.data as Message));
  document.addEventListener("visibilitychange", follow);
  paused.subscribe(follow);
  addEventListener("pagehide", () => {
    channel?.postMessage({ kind: "want", tab, topics: [] } satisfies Message);
    resign?.();
  });
  addEventListener("pageshow", follow);
}
