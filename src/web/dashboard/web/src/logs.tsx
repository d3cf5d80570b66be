/** What the handlers of a task log, while they run. */
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type Problem, get, isAbort, path, problemOf, query } from "./api";
import { Ago, Empty, Section, Text, Trouble, Waiting, count } from "./parts";
import { withQuery } from "./place";
import { paused } from "./settings";
import type { Log, LogPage, Task } from "./types";

/** Milliseconds between two reads. */
const EVERY = 2000;

/** Logs that are kept, those that changed last. */
const KEPT = 200;

/** Endpoints whose logs are read together: of 50,000 nobody reads all, and each has its own. */
const MOST = 1000;

/** Logs that are shown at once. */
const SHOWN = 20;

interface Read {
  logs: Log[];
  /** How many were heard of. */
  heard: number;
  ended: boolean;
}

/** The logs of a task, or that of one endpoint, read on and on until no more lines follow. */
function useLogs(task: Task, endpoint?: string): { read?: Read; problem?: Problem } {
  const [told, setTold] = useState<{ read?: Read; problem?: Problem }>({});
  useEffect(() => {
    const asked = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let after: string | undefined;
    let logs = new Map<string, Log>();
    const heard = new Set<string>();
    let behind = true;
    const look = async (): Promise<void> => {
      if (document.hidden || paused.value) return later(1000);
      try {
        const page = await get<LogPage>(path`/${task.type}/${task.id}/logs` + query({ endpoint, after }), asked.signal);
        after = page.next;
        for (const log of page.logs) {
          const before = logs.get(log.endpoint);
          heard.add(log.endpoint);
          // Put last: the log of one endpoint goes on, those of many come whole.
          logs.delete(log.endpoint);
          logs.set(log.endpoint, endpoint !== undefined && before ? { ...log, begin: before.begin, text: before.text + log.text } : log);
        }
        logs = new Map([...logs].slice(-KEPT));
        setTold({ read: { logs: [...logs.values()].reverse(), heard: heard.size, ended: page.ended } });
        behind &&= page.logs.length > 0;
        if (heard.size < MOST && (behind || !page.ended)) later(behind ? 200 : EVERY);
      } catch (error) {
        if (isAbort(error)) return;
        setTold((before) => ({ ...before, problem: problemOf(error) }));
        later(EVERY);
      }
    };
    const later = (wait: number): void => {
      if (!asked.signal.aborted) timer = setTimeout(() => void look(), wait);
    };
    setTold({});
    void look();
    return () => {
      clearTimeout(timer);
      asked.abort();
    };
  }, [task.type, task.id, endpoint]);
  return told;
}

/** The logs of all endpoints, the one with the latest line first. */
export function Logs({ task }: { task: Task }): JSX.Element {
  const { read, problem } = useLogs(task);
  const [shown, show] = useState(SHOWN);
  if (!read) return problem ? <Trouble problem={problem} /> : <Waiting lines={6} />;
  if (read.logs.length === 0) return <Empty><p>{read.ended ? "No handler has logged a line." : "No handler has logged a line yet. Lines come while handlers run."}</p></Empty>;
  return (
    <>
      {problem && <p class="stale" role="status">△ {problem.message}</p>}
      {read.heard >= MOST
        ? <p class="warn">△ More endpoints log than are read together: these are some of them, as they were. Each endpoint has its own log.</p>
        : read.heard > read.logs.length && <p class="dim">The {count(read.logs.length)} of {count(read.heard)} logs that changed last; each endpoint has its own.</p>}
      {read.logs.slice(0, shown).map((log) => (
        <section key={log.endpoint} aria-label={`Log of ${log.endpoint}`}>
          <div class="head">
            <h2><a href={withQuery({ endpoint: log.endpoint, tab: undefined })}>{log.endpoint}</a></h2>
            <span class="dim"><Ago at={log.time} /></span>
          </div>
          <Cut log={log} />
        </section>
      ))}
      {read.logs.length > shown && <p><button type="button" onClick={() => show(shown + SHOWN)}>Show {Math.min(SHOWN, read.logs.length - shown)} more</button></p>}
    </>
  );
}

/** The log of one endpoint. What came with the answer is shown where no line came before. */
export function OneLog({ task, endpoint, last }: { task: Task; endpoint: string; last: string | null }): JSX.Element | null {
  const log = useLogs(task, endpoint).read?.logs[0];
  if (!log && !last) return null;
  const text = log?.text ?? last ?? "";
  return (
    <Section title="Log" aside={<button type="button" class="quiet" onClick={() => download(`${task.identifier}-${endpoint}.log`, text)}>Download as text</button>}>
      {log ? <Cut log={log} /> : <Text tail>{text}</Text>}
    </Section>
  );
}

/** Has the browser keep a text as a file. */
function download(name: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = name;
  link.click();
  // A browser that is slow still reads it then.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function Cut({ log }: { log: Log }): JSX.Element {
  return (
    <>
      {log.begin > 0 && <p class="dim">The first {count(log.begin)} bytes are not kept.</p>}
      <Text tail>{log.text}</Text>
    </>
  );
}
