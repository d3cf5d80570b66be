import type { JSX } from "preact";
import { Day } from "../chart";
import { Bar, Command, Empty, Page, Section, Show, State, Ago, Table, Waiting, count } from "../parts";
import { search, to } from "../place";
import { isThere, isTroubled } from "../presence";
import { type Resource, useResource } from "../resource";
import { mayAllTypes } from "../session";
import { rolloutLook, statusLook } from "../state";
import { now } from "../time";
import { TASK_STATUSES, type Endpoint, type EndpointPage, type QueueList, type Readiness, type RolloutPage, type TaskCounts, type TaskPage, type TypeList } from "../types";
import { rolloutProgress } from "./rollouts";
import { TaskTable } from "./tasks";

export function Overview(): JSX.Element {
  const wall = search.value.get("wall") === "1";
  const all = mayAllTypes();
  const ready = useResource<Readiness>("/ready", { every: 5000 });
  const counts = useResource<TaskCounts>("/tasks/counts", { every: 4000, watch: "tasks" });
  const recent = useResource<TaskPage>("/tasks?limit=10", { every: 4000, watch: "tasks" });
  const endpoints = useResource<EndpointPage>(all ? "/endpoints?limit=1000" : null, { every: 10_000, watch: "endpoints" });
  const queues = useResource<QueueList>(all ? "/queues" : null, { every: 5000, watch: "queues" });
  const rollouts = useResource<RolloutPage>("/rollouts?status=RUNNING,SETTLING,PAUSED,HALTED,ABORTING,ROLLING_BACK&limit=5", { every: 5000 });
  const failed = recent.data?.tasks.filter((task) => task.failed > 0 && task.finished_at !== null) ?? [];
  const troubled = endpoints.data?.endpoints.filter(isTroubled) ?? [];
  const away = endpoints.data?.endpoints.filter((endpoint) => !isThere(endpoint)) ?? [];
  const sentence = health({
    ready: ready.problem?.status === 503 ? undefined : ready.data,
    readyFails: ready.problem !== undefined,
    paused: queues.data?.queues.filter((queue) => queue.paused_at).length ?? 0,
    incomplete: sum(counts.data, "INCOMPLETE"),
    troubled: troubled.length,
    failed: failed.length,
    ended: recent.data?.tasks.filter((task) => task.finished_at !== null).length ?? 0,
  });
  const first = recent.data !== undefined && recent.data.tasks.length === 0;
  return (
    <Page title={wall ? "tasker" : "Overview"} actions={!wall && <a class="button primary" href={to(["submit"])}>New task</a>} wide={wall}>
      <p class={`health ${sentence.tone}`} role="status">
        <span class="glyph" aria-hidden="true">{sentence.tone === "ok" ? "✓" : sentence.tone === "off" ? "–" : "△"}</span> {sentence.text}
      </p>
      <div class="cards">
        {TASK_STATUSES.slice(0, 3).map((status) => (
          <a key={status} class="card" href={to(["tasks"], { status })}>
            <span class="number">{counts.data ? count(sum(counts.data, status)) : "–"}</span>
            <State look={statusLook(status)} />
          </a>
        ))}
        {all && (
          <a class="card" href={to(["endpoints"])}>
            <span class="number">{endpoints.data ? more(endpoints.data, (endpoints.data.endpoints.length - away.length)) : "–"}</span>
            <State look={{ word: "endpoints there", glyph: "●", tone: "ok" }} />
          </a>
        )}
        {all && (
          <a class="card" href={to(["endpoints"], { show: "away" })}>
            <span class="number">{endpoints.data ? more(endpoints.data, away.length) : "–"}</span>
            <State look={{ word: "endpoints away", glyph: "▽", tone: away.length > 0 ? "warn" : "off" }} />
          </a>
        )}
        {all && (
          <a class="card" href={to(["endpoints"], { show: "trouble" })}>
            <span class="number">{endpoints.data ? more(endpoints.data, troubled.length) : "–"}</span>
            <State look={{ word: "in trouble", glyph: "△", tone: troubled.length > 0 ? "warn" : "off" }} />
          </a>
        )}
      </div>
      {first
        ? <FirstSteps endpoints={endpoints.data?.endpoints ?? []} known={endpoints.data !== undefined} />
        // What may stand above the rest comes first, or the rest moves.
        : !isKnown(rollouts) || all && !isKnown(queues) ? <Waiting lines={10} /> : (
          <>
            {rollouts.data && rollouts.data.rollouts.length > 0 && <Rollouts rollouts={rollouts.data} />}
            {queues.data && queues.data.queues.length > 0 && <Queues queues={queues.data} />}
            <Day />
            <Section title="Latest tasks" aside={<a href={to(["tasks"])}>All tasks</a>}>
              <Show of={recent} lines={10}>{(page) => <TaskTable tasks={page.tasks} label="Latest tasks" />}</Show>
            </Section>
            {failed.length > 0 && (
              <p class="dim">
                {failed.length} of them failed: <a href={to(["tasks", failed[0].type, failed[0].identifier], { state: "failed" })}>{failed[0].identifier}</a> is the latest.
              </p>
            )}
          </>
        )}
    </Page>
  );
}

/** Whether it was read, or could not be. */
const isKnown = ({ data, problem }: Resource<unknown>): boolean => data !== undefined || problem !== undefined;

/** A number of the endpoints that were read, of which there may be more. */
const more = (page: EndpointPage, number: number): string => (page.next_cursor ? `${count(number)}+` : count(number));

const sum = (counts: TaskCounts | undefined, status: string): number =>
  counts?.open.filter((one) => one.status === status).reduce((total, one) => total + one.count, 0) ?? 0;

interface Facts {
  ready?: Readiness;
  readyFails: boolean;
  paused: number;
  incomplete: number;
  troubled: number;
  /** Of the latest tasks those that ended, and of these those that failed on an endpoint or more. */
  ended: number;
  failed: number;
}

/** One sentence: what is worst, and nothing where all is well. */
export function health({ ready, readyFails, paused, incomplete, troubled, ended, failed }: Facts): { text: string; tone: "ok" | "warn" | "bad" | "off" } {
  if (ready === undefined && readyFails) return { text: "The API is not ready: it cannot write its database or has lost its broker.", tone: "bad" };
  if (ready === undefined) return { text: "Loading …", tone: "off" };
  if (ready.database !== "ok") return { text: `The database is ${ready.database}: nothing new is accepted.`, tone: "bad" };
  if (ready.broker !== "ok") return { text: `The broker is ${ready.broker}: tasks are accepted and go out when it is back.`, tone: "bad" };
  const notes = [
    troubled > 0 && `${count(troubled)} ${troubled === 1 ? "endpoint is" : "endpoints are"} in trouble`,
    incomplete > 0 && `${count(incomplete)} ${incomplete === 1 ? "task misses" : "tasks miss"} endpoints`,
    failed > 0 && failed * 2 >= ended && `${count(failed)} of the last ${count(ended)} tasks that ended failed`,
    paused > 0 && `${count(paused)} ${paused === 1 ? "queue is" : "queues are"} paused`,
  ].filter((note) => note !== false);
  if (notes.length === 0) return { text: "All is well.", tone: "ok" };
  return { text: `The platform works; ${notes.join(", ")}.`, tone: "warn" };
}

function Rollouts({ rollouts }: { rollouts: RolloutPage }): JSX.Element {
  return (
    <Section title="Rollouts" aside={<a href={to(["rollouts"])}>All rollouts</a>}>
      <Table label="Rollouts in progress">
        <thead>
          <tr>
            <th scope="col" class="w-state">Status</th>
            <th scope="col">Rollout</th>
            <th scope="col" class="num">Wave</th>
            <th scope="col" class="num">Done</th>
            <th scope="col" class="w-bar"><span class="hidden">Progress</span></th>
          </tr>
        </thead>
        <tbody>
          {rollouts.rollouts.map((rollout) => (
            <tr key={rollout.id}>
              <td><State look={rolloutLook(rollout.status)} title={rollout.reason ?? undefined} /></td>
              <td class="name"><a href={to(["rollouts", rollout.identifier])}>{rollout.identifier}</a></td>
              <td class="num">{rollout.wave === null ? <span class="dim">–</span> : `${rollout.wave}/${rollout.waves.length}`}</td>
              <td class="num">{count(rollout.counts.ok)}/{count(rollout.size)}</td>
              <td><Bar whole={rollout.size} parts={rolloutProgress(rollout.counts)} /></td>
            </tr>
          ))}
        </tbody>
      </Table>
    </Section>
  );
}

function Queues({ queues }: { queues: QueueList }): JSX.Element {
  return (
    <Section title="Queues" aside={<a href={to(["queues"])}>All queues</a>}>
      <Table label="Queues">
        <thead>
          <tr>
            <th scope="col">Queue</th>
            <th scope="col" class="num">Waiting</th>
            <th scope="col" class="num">Running</th>
            <th scope="col" class="num">Oldest</th>
          </tr>
        </thead>
        <tbody>
          {queues.queues.slice(0, 8).map((queue) => (
            <tr key={queue.type}>
              <td class="name">
                <a href={to(["tasks"], { type: queue.type, status: "CREATED,SENT" })}>{queue.type}</a>
                {queue.paused_at && <State look={{ word: "paused", glyph: "‖", tone: "warn" }} />}
              </td>
              <td class="num">{count(queue.waiting + queue.held + queue.delayed)}</td>
              <td class="num">{count(queue.running)}</td>
              <td class="num"><Ago at={queue.oldest} /></td>
            </tr>
          ))}
        </tbody>
      </Table>
    </Section>
  );
}

/** From nothing to the first task. */
function FirstSteps({ endpoints, known }: { endpoints: Endpoint[]; known: boolean }): JSX.Element {
  const there = endpoints.filter(isThere);
  const types = useResource<TypeList>("/types", { every: 60_000 });
  const type = types.data?.types.find((info) => info.delivery === "fanout") ?? types.data?.types[0];
  const lately = now.value > 0 && there.length > 0;
  return (
    <Section title="The first task">
      <ol class="steps">
        <li class={lately ? "done" : undefined}>
          <h3><span class="glyph" aria-hidden="true">{lately ? "✓" : "1"}</span> An endpoint that performs tasks</h3>
          {lately
            ? <p>{there.length === 1 ? "1 endpoint is" : `${count(there.length)} endpoints are`} there: {there.slice(0, 5).map((one) => one.name).join(", ")}.</p>
            : (
              <>
                <p>{known ? "None is there yet. " : ""}On each server, with a configuration that names the broker:</p>
                <Command>tasker endpoint -e web1 --handlers-dir /etc/tasker/handlers</Command>
                <p class="dim">An executable in that folder performs the tasks of the type that it is named after.</p>
              </>
            )}
        </li>
        <li>
          <h3><span class="glyph" aria-hidden="true">2</span> A task for it</h3>
          <p>Here, or from anywhere that reaches this API:</p>
          <Command>{`curl -s -H 'Content-Type: application/json' ${location.origin}/${type?.type ?? "TYPE"} -d '{"identifier": "first"}'`}</Command>
          <p><a class="button primary" href={to(["submit"])}>Submit the first task</a></p>
        </li>
        <li>
          <h3><span class="glyph" aria-hidden="true">3</span> What became of it</h3>
          <p>Its page shows every endpoint that must answer, and who has not.</p>
        </li>
      </ol>
      {!known && <Empty><p class="dim">Endpoints are shown to tokens that are good for all task types.</p></Empty>}
    </Section>
  );
}
