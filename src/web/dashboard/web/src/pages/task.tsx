import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { change, path, query } from "../api";
import { Json } from "../json";
import { Action, Ago, Bar, Clear, Confirm, Empty, Page, Search, Section, Show, State, Table, Tabs, Text, Took, When, count, left, say } from "../parts";
import { go, search, setQuery, to, withQuery } from "../place";
import { PREFIX } from "../base";
import { Answers } from "../answers";
import { PART } from "../codes";
import { Explain } from "../explain";
import { Grid, useStatesAhead } from "../grid";
import { streaming, watch } from "../live";
import { Logs, OneLog } from "../logs";
import { useResource } from "../resource";
import { isOpen, responseLook, taskLook } from "../state";
import { ledgerTime, median, now, span } from "../time";
import type { ResponsePage, Task, TaskPage as TaskList, TaskResponse, TaskWithResponses } from "../types";
import { progress } from "./tasks";

/** Endpoints from which on a grid says more than the table. */
const SHOWN_AS_GRID = 10;

/** Responses on a page. */
const LIMIT = 100;

const TABS = ["endpoints", "answers", "log", "why", "payload", "timeline"] as const;
type Tab = (typeof TABS)[number];

export function TaskPage({ type, id }: { type: string; id: string }): JSX.Element {
  const [open, setOpen] = useState(true);
  const base = path`/${type}/${id}`;
  useStatesAhead(base);
  // Events tell how it stands. What they do not tell changes seldom, and the list of its endpoints may be long.
  const task = useResource<TaskWithResponses>(`${base}?responses=none`, { every: open && !streaming.value ? 2000 : 15_000, exact: true });
  const told = useLive(task.data?.task);
  if (told && isOpen(told.status) !== open) setOpen(isOpen(told.status));
  const status = told?.status;
  useEffect(() => {
    if (status !== undefined && status !== task.data?.task.status) task.again();
  }, [status]);
  return (
    <Page title={<><span class="dim">{type} /</span> {id}</>} actions={told && <Acts task={told} again={task.again} />}>
      <Show of={task} lines={10}>{({ task }) => <Body task={told ?? task} base={base} />}</Show>
    </Page>
  );
}

/** A task with what events have told of it since it was read. */
function useLive(task: Task | undefined): Task | undefined {
  const [told, setTold] = useState<Partial<Task> & { time: string } | undefined>();
  const id = task?.id;
  useEffect(() => {
    if (id === undefined) return;
    return watch(`task:${id}`, (event) => {
      if (event?.status === undefined) return;
      const { status, time, expected, received, finished, failed, canceled, expired, published_at, finished_at, expires_at } = event as unknown as Task & { time: string };
      setTold({ status, time, expected, received, finished, failed, canceled, expired, published_at, finished_at, expires_at });
    });
  }, [id]);
  return useMemo(() => {
    if (!task || !told) return task;
    // What was read after the event is newer: counts never go back.
    const behind = told.finished !== undefined && told.finished < task.finished || !isOpen(task.status);
    if (behind) return task;
    const { time: _, ...counts } = told;
    return { ...task, ...counts };
  }, [task, told]);
}

function Body({ task, base }: { task: Task; base: string }): JSX.Element {
  const tab = TABS.find((name) => name === search.value.get("tab")) ?? "endpoints";
  const chosen = search.value.get("endpoint");
  return (
    <>
      <Summary task={task} />
      {task.expected >= SHOWN_AS_GRID && (
        <Grid
          base={base}
          topic={`task:${task.id}`}
          codes={PART}
          label="Endpoints of the task"
          choose={(name) => setQuery({ endpoint: name, tab: undefined }, false)}
        />
      )}
      <Tabs
        label="Views of the task"
        of={TABS.map((name) => ({
          name: WORDS[name],
          href: withQuery({ tab: name === "endpoints" ? undefined : name, endpoint: undefined, cursor: undefined }),
          chosen: name === tab,
          aside: name === "endpoints" && task.expected > 0 ? count(task.expected) : undefined,
        }))}
      />
      {tab === "endpoints" && (
        <div class={chosen ? "split" : undefined}>
          <Responses task={task} />
          {chosen && <OneResponse task={task} endpoint={chosen} />}
        </div>
      )}
      {tab === "answers" && <Answers task={task} />}
      {tab === "log" && <Logs task={task} />}
      {tab === "why" && <Explain task={task} />}
      {tab === "payload" && <Json value={task.payload} />}
      {tab === "timeline" && <Timeline task={task} />}
    </>
  );
}

const WORDS: Record<Tab, string> = { endpoints: "Endpoints", answers: "Answers", log: "Log", why: "Why", payload: "Payload", timeline: "Timeline" };

/** How it stands: the state, the time that is left, and a count for each way an endpoint may have fared. */
function Summary({ task }: { task: Task }): JSX.Element {
  const look = taskLook(task);
  const fared: [string, string, number, string][] = [
    ["", "expected", task.expected, "off"],
    ["ok", "ok", task.finished - task.failed, "ok"],
    ["failed", "failed", task.failed, "bad"],
    ["running", "running", Math.max(0, task.received - task.finished - task.canceled - task.expired), "run"],
    ["missing", "not received", Math.max(0, task.expected - task.received), "wait"],
    ["canceled", "canceled", task.canceled, "off"],
    ["expired", "expired", task.expired, "bad"],
  ];
  const chosen = search.value.get("state") ?? "";
  return (
    <div class="summary">
      <p class="line">
        <State look={look} title={task.status} />
        <span class="left">{remaining(task)}</span>
        {isOpen(task.status) && <Usual type={task.type} />}
      </p>
      <Bar whole={task.expected} parts={progress(task)} />
      <div class="counts" role="group" aria-label="Endpoints by how they fared">
        {fared.filter(([state, , number]) => number > 0 || state === "" || state === chosen).map(([state, word, number, tone]) => (
          <a
            key={state}
            class={`countlink ${tone}`}
            href={withQuery({ state, tab: undefined, cursor: undefined, from: undefined })}
            aria-current={chosen === state && state !== "" ? "true" : undefined}
          >
            <span class="number">{count(number)}</span> {word}
          </a>
        ))}
      </div>
      {task.target && <p class="dim">For {targetWords(task)}.</p>}
      {task.rerun_of && <p class="dim">A rerun of <a href={to(["tasks", task.type, task.rerun_of])}>{task.rerun_of}</a>.</p>}
      {task.queue?.replaced_by && <p>Replaced by <a href={to(["tasks", task.type, task.queue.replaced_by])}>{task.queue.replaced_by}</a> while it waited.</p>}
      {task.queue?.successor_error && <p class="bad">△ Nothing was queued after it: {task.queue.successor_error}</p>}
      {task.queue?.parent && <p class="dim">Queued after <a href={to(["tasks", task.type, task.queue.parent])}>{task.queue.parent}</a>.</p>}
      {(task.queue?.attempts.length ?? 0) > 0 && (
        <ul class="notes">
          {task.queue?.attempts.map((attempt) => <li key={attempt.attempt}>△ Attempt {attempt.attempt} was lost with its worker: {attempt.errmsg}</li>)}
        </ul>
      )}
    </div>
  );
}

/** Tasks of a type that say how long such a task takes. */
const USUAL = 20;

/** How long the latest tasks of the type took. */
function Usual({ type }: { type: string }): JSX.Element | null {
  const done = useResource<TaskList>(path`/${type}` + query({ status: "DONE", limit: USUAL }), { every: 60_000 });
  const took = (done.data?.tasks ?? []).filter((task) => task.finished_at !== null).map((task) => Date.parse(task.finished_at ?? "") - Date.parse(task.start_time));
  if (took.length === 0) return null;
  return <span class="left" title={`The median of the ${took.length} that were done last`}>usually takes {span(median(took))}</span>;
}

function targetWords(task: Task): string {
  const { match = [], groups = [], exclude = [], percent, limit, expect } = task.target ?? {};
  const part = percent !== undefined ? `${percent} % of ` : limit !== undefined ? `at most ${limit} of ` : "";
  const chosen = [match.length > 0 && `that fit ${match.join(" and ")}`, groups.length > 0 && `of ${groups.map((name) => `@${name}`).join(" and ")}`].filter(Boolean);
  const fits = chosen.length > 0 ? `the endpoints ${chosen.join(" or ")}` : "all endpoints";
  return part + fits + (exclude.length > 0 ? `, except ${exclude.join(" or ")}` : "") + (expect === "known" ? ", also stopped ones" : "");
}

/** How long it takes yet: by the rate so far once that says something, and always by when it is given up. */
function remaining(task: Task): string {
  if (now.value === 0) return "";
  if (task.finished_at) return `took ${span(Date.parse(task.finished_at) - Date.parse(task.start_time))}`;
  if (task.queue && task.status === "CREATED") return `waits for a worker; expires in ${left(task.expires_at)}`;
  const since = Date.parse(task.published_at ?? task.start_time);
  const elapsed = ledgerTime() - since;
  const rest = task.expected - task.finished - task.canceled - task.expired;
  const reachable = rest - Math.max(0, task.expected - task.received);
  const guess = task.finished >= 5 && reachable > 0 && elapsed > 3000 ? `about ${span((elapsed / task.finished) * rest)} left; ` : "";
  if (task.status === "INCOMPLETE") return `${guess}some have not received it; expires in ${left(task.expires_at)}`;
  return `${guess}expires in ${left(task.expires_at)}`;
}

function Acts({ task, again }: { task: Task; again: () => void }): JSX.Element {
  const [asking, ask] = useState<"cancel" | "rerun" | undefined>();
  const rest = task.expected - task.finished - task.canceled - task.expired;
  const unsuccessful = task.failed + task.canceled + task.expired + (isOpen(task.status) ? 0 : Math.max(0, task.expected - task.received));
  const cancel = async (): Promise<void> => {
    await change("DELETE", path`/${task.type}/${task.id}`);
    say("The task is canceled.");
    again();
  };
  return (
    <>
      <a class="button" href={to(["submit"], { from: `${task.type}/${task.id}` })}>Submit a copy</a>
      <Action needs="submit" disabled={unsuccessful === 0 && !(task.queue && !isOpen(task.status))} title="Once more, for those that did not succeed" run={() => ask("rerun")}>Rerun …</Action>
      <Action needs="submit" kind="danger" disabled={!isOpen(task.status)} run={() => ask("cancel")}>Cancel …</Action>
      {asking === "cancel" && (
        <Confirm title={`Cancel ${task.identifier}?`} act="Cancel the task" danger number={rest} run={cancel} close={() => ask(undefined)}>
          <p>
            {rest > 0
              ? `${count(rest)} of ${count(task.expected)} endpoints have not finished. Those that run it are told to stop; the others never begin.`
              : "Nobody has begun it, and nobody will."}
          </p>
        </Confirm>
      )}
      {asking === "rerun" && <Rerun task={task} close={() => ask(undefined)} />}
    </>
  );
}

function Rerun({ task, close }: { task: Task; close: () => void }): JSX.Element {
  const ended = !isOpen(task.status);
  const ways: [string, string, number][] = [
    ["failed", "failed", task.failed],
    ["missing", "never received it", ended ? Math.max(0, task.expected - task.received) : 0],
    ["expired", "had not finished when it expired", task.expired],
    ["canceled", "had not finished when it was canceled", task.canceled],
  ];
  const [chosen, choose] = useState<string[]>(ways.filter(([, , number]) => number > 0).map(([way]) => way));
  const [identifier, setIdentifier] = useState(`${task.identifier.slice(0, 170)}-again-${stamp()}`);
  const number = ways.filter(([way]) => chosen.includes(way)).reduce((sum, [, , of]) => sum + of, 0);
  const run = async (): Promise<void> => {
    const made = await change<Task>("POST", path`/${task.type}/${task.id}/rerun`, { identifier, only: chosen });
    go(to(["tasks", made.type, made.identifier]));
  };
  return (
    <Confirm title={`Rerun ${task.identifier}`} act={number > 0 ? `Rerun for ${count(number)}` : "Rerun"} number={number} run={run} close={close}>
      <fieldset>
        <legend>For the endpoints that</legend>
        {ways.map(([way, word, of]) => (
          <label key={way} class="check">
            <input
              type="checkbox"
              checked={chosen.includes(way)}
              disabled={of === 0 && !(task.queue && ended)}
              onChange={(event) => choose(event.currentTarget.checked ? [...chosen, way] : chosen.filter((one) => one !== way))}
            />
            {word} <span class="dim">{count(of)}</span>
          </label>
        ))}
      </fieldset>
      <label class="field">
        Identifier of the new task
        <input value={identifier} maxLength={191} onInput={(event) => setIdentifier(event.currentTarget.value)} />
      </label>
    </Confirm>
  );
}

/** Tells two reruns of one task apart. */
const stamp = (): string => new Date(ledgerTime()).toISOString().slice(0, 19).replaceAll(":", "").replace("T", "-");

function Responses({ task }: { task: Task }): JSX.Element {
  const [state, from, answer, cursor] = ["state", "from", "answer", "cursor"].map((name) => search.value.get(name) ?? "");
  const list = path`/${task.type}/${task.id}/responses` + query({ state, from, answer, cursor, limit: LIMIT });
  const page = useResource<ResponsePage>(list, { every: isOpen(task.status) ? 3000 : 20_000, watch: `task:${task.id}` });
  const chosen = search.value.get("endpoint");
  return (
    <div>
      <div class="filters">
        <Search value={from} set={(name) => setQuery({ from: name, cursor: undefined })} label="Names from" placeholder="Go to a name" />
        {answer && <span class="dim">with one answer</span>}
        <Clear off={!(state || from || answer)} href={withQuery({ state: undefined, from: undefined, answer: undefined, cursor: undefined })} />
      </div>
      <Show of={page} lines={10}>
        {({ responses, next_cursor }) => responses.length === 0
          ? <Empty><p>{task.expected === 0 ? nobody(task) : "No endpoint of this task fits."}</p></Empty>
          : (
            <>
              <Table label="Endpoints of the task">
                <thead>
                  <tr>
                    <th scope="col" class="w-state">State</th>
                    <th scope="col">Endpoint</th>
                    <th scope="col" class="num">Code</th>
                    <th scope="col">Answer</th>
                    <th scope="col" class="num">Attempt</th>
                    <th scope="col" class="num">Took</th>
                  </tr>
                </thead>
                <tbody>
                  {responses.map((response) => (
                    <tr key={response.endpoint} aria-selected={response.endpoint === chosen}>
                      <td><State look={responseLook(response)} title={response.status} /></td>
                      <td class="name"><a class="row" href={withQuery({ endpoint: response.endpoint })}>{response.endpoint}</a></td>
                      <td class="num">{response.errnr ?? <span class="dim">–</span>}</td>
                      <td class="cut">{answerLine(response)}</td>
                      <td class="num">{response.attempt > 1 ? <span class="warn">{response.attempt}</span> : response.attempt || <span class="dim">–</span>}</td>
                      <td class="num">{response.start_time ? <Took from={response.start_time} until={response.status === "CREATED" ? null : response.last_modified_time} /> : <span class="dim">–</span>}</td>
                    </tr>
                  ))}
                </tbody>
              </Table>
              <nav class="pages" aria-label="Pages of the endpoints">
                {cursor && <a href={withQuery({ cursor: undefined })}>First</a>}
                {next_cursor && <a href={withQuery({ cursor: next_cursor })}>Next {LIMIT}</a>}
              </nav>
            </>
          )}
      </Show>
    </div>
  );
}

function nobody(task: Task): string {
  if (task.queue && isOpen(task.status)) return "It waits in its queue: no worker has it yet.";
  if (isOpen(task.status)) return "Who must answer is not settled yet.";
  return "No endpoint was to perform it.";
}

/** What an endpoint says, in a line. */
function answerLine(response: TaskResponse): string {
  if (response.errmsg) return response.errmsg.split("\n")[0];
  if (response.status === "CREATED" && response.progress !== null) return `${response.progress} %`;
  if (response.payload === null || response.payload === undefined) return "";
  return (typeof response.payload === "string" ? response.payload.split("\n")[0] : JSON.stringify(response.payload)).slice(0, 300);
}

function OneResponse({ task, endpoint }: { task: Task; endpoint: string }): JSX.Element {
  const address = path`/${task.type}/${task.id}` + query({ endpoint });
  const read = useResource<TaskWithResponses>(address, { every: isOpen(task.status) ? 2000 : 20_000, watch: `task:${task.id}`, exact: true });
  return (
    <aside class="detail" aria-label={`Endpoint ${endpoint}`}>
      <header>
        <h2><a href={to(["endpoints", endpoint])}>{endpoint}</a></h2>
        <a class="close" href={withQuery({ endpoint: undefined })} aria-label="Close">✕</a>
      </header>
      <Show of={read} lines={6}>
        {({ taskResponseList }) => {
          const response = taskResponseList[0];
          if (!response) return <Empty><p>The task is not for this endpoint.</p></Empty>;
          return (
            <>
              <dl class="facts">
                <dt>State</dt>
                <dd><State look={responseLook(response)} />{response.progress !== null && response.status === "CREATED" && ` ${response.progress} %`}</dd>
                <dt>Received</dt>
                <dd><When at={response.start_time} /></dd>
                <dt>Last change</dt>
                <dd><When at={response.last_modified_time} /> (<Ago at={response.last_modified_time} />)</dd>
                <dt>Code</dt>
                <dd>{response.errnr ?? "–"}</dd>
                <dt>Attempt</dt>
                <dd>{response.attempt || "–"}</dd>
              </dl>
              {response.vanished && <p class="warn">▽ The endpoint has the task and is gone. It is asked when it returns.</p>}
              {isOpen(task.status) && response.status !== "FINISHED" && <Section title="Why it is not done"><Explain task={task} endpoint={endpoint} /></Section>}
              {response.errmsg && <Section title="Error"><Text>{response.errmsg}</Text></Section>}
              {response.attempts.length > 0 && (
                <Section title="Earlier attempts">
                  <ol class="attempts">
                    {response.attempts.map((attempt) => <li key={attempt.attempt}><b>{attempt.attempt}</b> code {attempt.errnr}: {attempt.errmsg}</li>)}
                  </ol>
                </Section>
              )}
              {response.late && (
                <p class="warn">△ Another answer came after the end ({response.late.contradicts ? "it contradicts this one" : "it had been given up"}): code {response.late.errnr} {response.late.errmsg}</p>
              )}
              {response.payload !== null && <Section title="Answer"><Json value={response.payload} /></Section>}
              <OneLog task={task} endpoint={endpoint} last={response.log} />
              <p><a href={PREFIX + address} download={`${task.identifier}-${endpoint}.json`}>Download as JSON</a></p>
            </>
          );
        }}
      </Show>
    </aside>
  );
}

function Timeline({ task }: { task: Task }): JSX.Element {
  const events = useMemo(() => {
    const all: [string | null, string][] = [
      [task.start_time, "accepted"],
      [task.queue?.run_at ?? null, "not to begin before"],
      [task.published_at, "confirmed by the broker"],
      [task.queue ? null : task.receive_by, "every endpoint should have received it"],
      [task.finished_at, taskLook(task).word],
      [task.finished_at ? null : task.expires_at, "expires, if it has not ended"],
    ];
    return all.filter((event): event is [string, string] => event[0] !== null).sort((a, b) => Date.parse(a[0]) - Date.parse(b[0]));
  }, [task]);
  return (
    <>
      <ol class="timeline">
        {events.map(([at, word]) => (
          <li key={word} class={Date.parse(at) > now.value ? "ahead" : undefined}>
            <When at={at} /> <span class="dim"><Ago at={at} /></span> {word}
          </li>
        ))}
      </ol>
      <dl class="facts">
        <dt>Our id</dt>
        <dd><code>{task.id}</code></dd>
        {task.queue && (
          <>
            <dt>Priority</dt>
            <dd>{task.queue.priority}</dd>
          </>
        )}
      </dl>
    </>
  );
}

