import type { JSX } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import { path, query } from "../api";
import { Bulk } from "../bulk";
import { type Filter, WAYS, type Way, filterWords, openOf, toCancel, toRequeue, waysOf } from "../filter";
import { Action, Ago, Bar, Clear, Empty, Page, Search, Show, State, Table, Took, count } from "../parts";
import { search, setQuery, to, withQuery } from "../place";
import { useResource } from "../resource";
import { FAILED, type Look, isOpen, statusLook, taskLook } from "../state";
import { TASK_STATUSES, type Task, type TaskCounts, type TaskPage, type TypeList } from "../types";

/** Tasks on a page. */
const LIMIT = 50;

const SINCE: [string, string, number][] = [
  ["1h", "last hour", 3600],
  ["1d", "last day", 86400],
  ["7d", "last 7 days", 7 * 86400],
];

export function TasksPage(): JSX.Element {
  const types = useResource<TypeList>("/types", { every: 60_000 });
  const [type, status, identifier, since, cursor] = ["type", "status", "q", "since", "cursor"].map((name) => search.value.get(name) ?? "");
  const failed = search.value.get("failed") === "true";
  // Not asked for where `openOf` knows no number anyway.
  const counts = useResource<TaskCounts>(failed || identifier || since ? null : "/tasks/counts", { every: 4000, watch: "tasks" });
  // To the minute, so that the same list has the same address.
  const from = useMemo(() => {
    const seconds = SINCE.find(([name]) => name === since)?.[2];
    return seconds === undefined ? undefined : new Date(Math.floor(Date.now() / 60_000) * 60_000 - seconds * 1000).toISOString();
  }, [since]);
  const list = (type === "" ? "/tasks" : path`/${type}`) + query({ status, failed: failed ? "true" : "", identifier, since: from, cursor, limit: LIMIT });
  const tasks = useResource<TaskPage>(list, { every: 4000, watch: "tasks" });
  const filtered = type !== "" || status !== "" || failed || identifier !== "" || since !== "";
  const states = status === "" ? [] : status.split(",");
  const toggle = (word: string): string => {
    const next = states.includes(word) ? states.filter((state) => state !== word) : [...states, word];
    return withQuery({ status: TASK_STATUSES.filter((state) => next.includes(state)).join(","), cursor: undefined });
  };
  const filter: Filter = {
    type,
    status: TASK_STATUSES.filter((state) => states.includes(state)),
    failed,
    identifier,
    since: from,
    sinceWord: SINCE.find(([name]) => name === since)?.[1],
  };
  const queued = types.data?.types.some((info) => info.type === type && info.delivery === "queue") ?? false;
  return (
    <Page
      title="Tasks"
      actions={
        <>
          <ActOnAll filter={filter} filtered={filtered} queued={queued} again={tasks.again} />
          <a class="button primary" href={to(["submit"], { type })}>New task</a>
        </>
      }
    >
      <div class="filters" role="search">
        <Search value={identifier} set={(q) => setQuery({ q, cursor: undefined })} label="Identifier begins with" />
        <select aria-label="Task type" value={type} onChange={(event) => setQuery({ type: event.currentTarget.value, cursor: undefined })}>
          <option value="">All types</option>
          {withChosen(types.data?.types.map((info) => info.type) ?? [], type).map((name) => <option key={name}>{name}</option>)}
        </select>
        <select aria-label="Submitted" value={since} onChange={(event) => setQuery({ since: event.currentTarget.value, cursor: undefined })}>
          <option value="">Any time</option>
          {SINCE.map(([name, word]) => <option key={name} value={name}>{word}</option>)}
        </select>
        <div class="chips" role="group" aria-label="Status">
          {TASK_STATUSES.map((word) => (
            <Chip key={word} look={statusLook(word)} href={toggle(word)} on={states.includes(word)} number={openOf(counts.data, filter, word)} open={isOpen(word)} />
          ))}
          <Chip look={FAILED} href={withQuery({ failed: failed ? undefined : "true", cursor: undefined })} on={failed} />
        </div>
        <Clear off={!filtered} href={to(["tasks"])} />
      </div>
      <Show of={tasks} lines={12}>
        {(page) => page.tasks.length === 0
          ? <NoTasks filtered={filtered || cursor !== ""} />
          : <List key={list} page={page} live={cursor === ""} />}
      </Show>
    </Page>
  );
}

/** A state that the list may be limited to, with the number of its tasks where that is known. */
function Chip({ look, href, on, number, open }: { look: Look; href: string; on: boolean; number?: number; open?: boolean }): JSX.Element {
  return (
    <a class={`chip ${look.tone}`} href={href} aria-current={on ? "true" : undefined}>
      <span class="glyph" aria-hidden="true">{look.glyph}</span>
      {look.word}
      {open && <span class="number">{number === undefined ? "" : count(number)}</span>}
    </a>
  );
}

/** Acts on whatever the filter means, not only on what the page shows of it. */
function ActOnAll({ filter, filtered, queued, again }: { filter: Filter; filtered: boolean; queued: boolean; again: () => void }): JSX.Element {
  const [asking, ask] = useState<"cancel" | "requeue" | undefined>();
  const cancel = toCancel(filter);
  const close = (): void => ask(undefined);
  return (
    <>
      {queued && <Action needs="submit" title="New tasks for those that ended without success" run={() => ask("requeue")}>Queue again …</Action>}
      <Action
        needs="submit"
        kind="danger"
        disabled={!filtered || !cancel}
        title={!filtered ? "Set a filter first: everything that it means is canceled" : cancel ? undefined : filter.failed ? "Failed tasks cannot be canceled by a filter: most have ended" : "The filter shows tasks that have ended"}
        run={() => ask("cancel")}
      >
        Cancel all that fit …
      </Action>
      {asking === "cancel" && cancel && (
        <Bulk title="Cancel all that fit?" at="/tasks/cancel" filter={cancel} act="Cancel" done="canceled" danger close={close} again={again}>
          <p>Open tasks {filterWords({ ...filter, status: filter.status.filter(isOpen) })}. Endpoints that run them are told to stop; the others never begin.</p>
        </Bulk>
      )}
      {asking === "requeue" && <QueueAgain filter={filter} close={close} again={again} />}
    </>
  );
}

function QueueAgain({ filter, close, again }: { filter: Filter; close: () => void; again: () => void }): JSX.Element {
  const [only, choose] = useState<Way[]>(() => waysOf(filter));
  return (
    <Bulk title="Queue again?" at={path`/queues/${filter.type}/requeue`} filter={toRequeue(filter, only)} act="Queue" done="queued again" close={close} again={again}>
      <p>Each is a new task with the payload of the old one. Tasks {filterWords({ ...filter, status: [], failed: false })} that have</p>
      <fieldset>
        <legend class="hidden">How they ended</legend>
        {WAYS.map((way) => (
          <label key={way} class="check">
            <input
              type="checkbox"
              checked={only.includes(way)}
              disabled={only.length === 1 && only[0] === way}
              onChange={(event) => choose(WAYS.filter((one) => (one === way ? event.currentTarget.checked : only.includes(one))))}
            />
            {WAY_WORDS[way]}
          </label>
        ))}
      </fieldset>
    </Bulk>
  );
}

const WAY_WORDS: Record<Way, string> = { failed: "failed", expired: "expired", canceled: "been canceled" };

/** The configured names, and the one that the address has although it is none. */
const withChosen = (names: string[], chosen: string): string[] => (chosen === "" || names.includes(chosen) ? names : [...names, chosen]);

function NoTasks({ filtered }: { filtered: boolean }): JSX.Element {
  if (filtered) {
    return (
      <Empty>
        <p>No task fits these filters.</p>
        <p><a href={to(["tasks"])}>Show all tasks</a></p>
      </Empty>
    );
  }
  return (
    <Empty>
      <p>There is no task yet.</p>
      <p><a class="button primary" href={to(["submit"])}>Submit the first one</a></p>
    </Empty>
  );
}

/** Rows stay where they are: new ones wait until one asks for them. */
function List({ page, live }: { page: TaskPage; live: boolean }): JSX.Element {
  const first = useRef<Set<string>>(new Set(page.tasks.map((task) => task.id)));
  const [, show] = useState(0);
  const oldest = page.tasks.filter((task) => first.current.has(task.id)).at(-1);
  const fresh = live && oldest ? page.tasks.filter((task) => !first.current.has(task.id) && task.id > oldest.id) : [];
  const unread = new Set(fresh.map((task) => task.id));
  const shown = page.tasks.filter((task) => !unread.has(task.id));
  const take = (): void => {
    first.current = new Set(page.tasks.map((task) => task.id));
    show((times) => times + 1);
  };
  // Where nothing of the first look is left, everything is new.
  if (shown.length === 0 || !oldest) take();
  return (
    <>
      <div class="fresh">
        {fresh.length > 0 && <button type="button" onClick={take}>Show {count(fresh.length)} new</button>}
      </div>
      <TaskTable tasks={oldest ? shown : page.tasks} />
      <nav class="pages" aria-label="Pages of the list">
        {!live && <a href={withQuery({ cursor: undefined })}>Newest</a>}
        {page.next_cursor && <a href={withQuery({ cursor: page.next_cursor })}>Older</a>}
      </nav>
    </>
  );
}

export function TaskTable({ tasks, label = "Tasks" }: { tasks: Task[]; label?: string }): JSX.Element {
  return (
    <Table label={label}>
      <thead>
        <tr>
          <th scope="col" class="w-state">Status</th>
          <th scope="col">Identifier</th>
          <th scope="col" class="w-type">Type</th>
          <th scope="col" class="num">Done</th>
          <th scope="col" class="num">Failed</th>
          <th scope="col" class="w-bar roomy"><span class="hidden">Progress</span></th>
          <th scope="col" class="num roomy">Took</th>
          <th scope="col" class="num">Submitted</th>
        </tr>
      </thead>
      <tbody>
        {tasks.map((task) => (
          <tr key={task.id}>
            <td><State look={taskLook(task)} title={task.status} /></td>
            <td class="name"><a class="row" href={to(["tasks", task.type, task.identifier])}>{task.identifier}</a></td>
            <td>{task.type}</td>
            <td class="num">{task.expected > 0 ? `${count(task.finished)}/${count(task.expected)}` : <span class="dim">–</span>}</td>
            <td class="num">{task.failed > 0 ? <span class="bad">{count(task.failed)}</span> : <span class="dim">0</span>}</td>
            <td class="roomy"><Bar whole={task.expected} parts={progress(task)} /></td>
            <td class="num roomy"><Took from={task.start_time} until={task.finished_at} /></td>
            <td class="num"><Ago at={task.start_time} /></td>
          </tr>
        ))}
      </tbody>
    </Table>
  );
}

/** The parts of a task's bar. */
export function progress(task: Task): { number: number; tone: string; word: string }[] {
  return [
    { number: task.finished - task.failed, tone: "ok", word: "ok" },
    { number: task.failed, tone: "bad", word: "failed" },
    { number: task.canceled + task.expired, tone: "off", word: "canceled or expired" },
    { number: Math.max(0, task.received - task.finished - task.canceled - task.expired), tone: "run", word: "running" },
  ];
}
