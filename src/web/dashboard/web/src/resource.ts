/** What is read from the interface and read again: while it fails, what was read last stays, with the time. */
import { useEffect, useRef, useState } from "preact/hooks";
import { type Problem, get, isAbort, problemOf } from "./api";
import { paused } from "./settings";
import { changes } from "./live";

export interface Resource<T> {
  data?: T;
  problem?: Problem;
  /** When `data` was read. */
  at?: number;
  /** Reads it again at once. */
  again: () => void;
}

interface Options {
  /** Milliseconds between two reads. */
  every?: number;
  /** Whether numbers stay as they are written. */
  exact?: boolean;
  /** What the interface tells of, after which it is read at once; `every` is for what it did not tell. */
  watch?: string;
}

/** Milliseconds between two reads that events ask for. */
const GAP = 1000;

/** Reads a path now and again. Another path is another resource; none reads nothing. */
export function useResource<T>(path: string | null, { every = 5000, watch, exact = false }: Options = {}): Resource<T> {
  const [state, setState] = useState<{ path: string | null; data?: T; problem?: Problem; at?: number }>({ path });
  const again = useRef<() => void>(() => {});

  useEffect(() => {
    if (path === null) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let begun = 0;
    let asked: AbortController | undefined;
    let ended = false;

    const read = async (): Promise<void> => {
      clearTimeout(timer);
      asked?.abort();
      const mine = new AbortController();
      asked = mine;
      begun = Date.now();
      let wait = every;
      try {
        const data = await get<T>(path, mine.signal, exact);
        if (!ended) setState({ path, data, at: Date.now() });
      } catch (error) {
        if (isAbort(error) || ended) return;
        const problem = problemOf(error);
        setState((before) => ({ ...(before.path === path ? before : { path }), problem }));
        if (problem.status === 0 || problem.status >= 500) wait = Math.min(every, 2000);
      }
      if (asked === mine) asked = undefined;
      later(wait);
    };
    const later = (wait: number): void => {
      clearTimeout(timer);
      if (!ended) timer = setTimeout(tick, wait);
    };
    // What nobody sees, or wants to stay as it is, is not read.
    const tick = (): void => {
      if (document.hidden || paused.value) later(Math.min(every, 1000));
      else if (!asked) void read();
    };
    const seen = (): void => {
      if (!document.hidden && !paused.value && Date.now() - begun > GAP) void read();
    };
    again.current = () => void read();
    document.addEventListener("visibilitychange", seen);
    const forget = watch === undefined ? undefined : changes(watch, () => {
      if (!asked) later(Math.max(0, begun + GAP - Date.now()));
    });
    // A stream that ends because the tab is hidden changes how often is read, and so begins anew.
    if (document.hidden) later(Math.min(every, 1000));
    else void read();
    return () => {
      ended = true;
      clearTimeout(timer);
      asked?.abort();
      document.removeEventListener("visibilitychange", seen);
      forget?.();
    };
  }, [path, every, watch, exact]);

  // Until the new path has answered, nothing of the old one is shown as if it were its.
  const current = state.path === path ? state : {};
  return { ...current, again: () => again.current() };
}
