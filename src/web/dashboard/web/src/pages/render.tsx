import type { JSX } from "preact";
import { path, query } from "../api";
import { farmJobLook, farmLook, farmProgress, tasksOf, workerLook } from "../farm";
import { Json } from "../json";
import { Ago, Bar, Command, Empty, Page, Section, Show, State, Table, Text, When, count } from "../parts";
import { search, to, withQuery } from "../place";
import { type Resource, useResource } from "../resource";
import { span } from "../time";
import type { FarmJob, FarmJobPage, FarmTask, FarmTaskDetail, FarmTaskPage, FarmWorker, FarmWorkerList } from "../types";

/** Jobs, or tasks, on a page. */
const LIMIT = 50;

/** Milliseconds between looks at what the farm has to count: it may have a million tasks. */
const EVERY = 15_000;

export function RenderPage(): JSX.Element {
  const [job, task, cursor] = ["job", "task", "cursor"].map((name) => search.value.get(name) ?? "");
  // What one job does not show is not asked for.
  const all = (path: string): string | null => (job === "" ? path : null);
  const jobs = useResource<FarmJobPage>(all("/flamenco/jobs" + query({ cursor, limit: LIMIT })), { every: EVERY });
  const workers = useResource<FarmWorkerList>(all("/flamenco/workers"));
  const active = useResource<FarmTaskPage>(all("/flamenco/tasks?status=active,cancel-requested&limit=1000"));
  const none = jobs.data?.jobs.length === 0 && workers.data?.workers.length === 0;
  return (
    <Page title="Render farm">
      {none && cursor === "" ? <NoFarm /> : (
        <div class={task ? "split" : undefined}>
          <div>
            {job === "" ? (
              <>
                <Show of={jobs} lines={8}>{(page) => <Jobs page={page} cursor={cursor} />}</Show>
                {jobs.data && <Failing />}
                {jobs.data && <Workers list={workers} active={active.data?.tasks ?? []} />}
              </>
            ) : <OneJob job={job} cursor={cursor} />}
          </div>
          {task && <OneTask key={task} id={task} />}
        </div>
      )}
    </Page>
  );
}

function NoFarm(): JSX.Element {
  return (
    <Empty>
      <p>No render farm is known here. A Flamenco Manager gives the tasks of a Flamenco Server to workers; in the directory of its settings:</p>
      <Command>tasker flamenco-manager</Command>
      <p>
        Where its database is not the ledger's, <code>flamenco.uri</code> in the configuration of this API names it.
      </p>
    </Empty>
  );
}

function Jobs({ page, cursor }: { page: FarmJobPage; cursor: string }): JSX.Element {
  return (
    <Section title="Jobs">
      {page.jobs.length === 0 ? <Empty><p>The manager has no job now. It fetches them from its Server, and asks for them when a worker has nothing to do.</p></Empty> : (
        <Table label="Jobs">
          <thead>
            <tr>
              <th scope="col" class="w-state">State</th>
              <th scope="col">Job</th>
              <th scope="col" class="roomy">Type</th>
              <th scope="col" class="w-bar">Progress</th>
              <th scope="col" class="num">Completed</th>
              <th scope="col" class="num">Failed</th>
              <th scope="col" class="num roomy">Priority</th>
              <th scope="col" class="num roomy">Made</th>
            </tr>
          </thead>
          <tbody>
            {page.jobs.map((job) => (
              <tr key={job.id}>
                <td><State look={farmJobLook(job)} title={stateWords(job)} /></td>
                <td class="short"><a class="row" href={withQuery({ job: job.id, cursor: undefined, task: undefined })}><code>{job.id}</code></a></td>
                <td class="cut roomy">{job.job_type}</td>
                <td><Bar whole={job.total} parts={farmProgress(job)} /></td>
                <td class="num">{count(tasksOf(job, "completed"))} of {count(job.total)}</td>
                <td class={tasksOf(job, "failed", "soft-failed") > 0 ? "num bad" : "num"}>{count(tasksOf(job, "failed", "soft-failed"))}</td>
                <td class="num roomy">{job.priority}</td>
                <td class="num roomy"><Ago at={job.created_at} /></td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
      <nav class="pages" aria-label="Pages of the jobs">
        {cursor && <a href={withQuery({ cursor: undefined })}>Newest</a>}
        {page.next_cursor && <a href={withQuery({ cursor: page.next_cursor })}>Older</a>}
      </nav>
    </Section>
  );
}

const stateWords = (job: FarmJob): string => Object.entries(job.tasks).map(([state, number]) => `${count(number)} ${state}`).join(", ");

/** What failed, or is to be tried on another worker: that is what one comes for. */
function Failing(): JSX.Element | null {
  const page = useResource<FarmTaskPage>("/flamenco/tasks?status=failed,soft-failed&order=latest&limit=100", { every: EVERY });
  if (page.data?.tasks.length === 0) return null;
  return (
    <Section title="Failing tasks">
      <Show of={page} lines={3}>
        {({ tasks, next_cursor }) => (
          <>
            <Tasks label="Failing tasks" tasks={tasks} failing />
            {next_cursor && <p class="dim">These are the {tasks.length} that changed last; each job shows all of its own.</p>}
          </>
        )}
      </Show>
    </Section>
  );
}

function Workers({ list, active }: { list: Resource<FarmWorkerList>; active: FarmTask[] }): JSX.Element {
  return (
    <Section title="Workers">
      <Show of={list} lines={4}>
        {({ workers }) => workers.length === 0
          ? <Empty><p>No worker has registered. Each worker has the address of the manager in <code>manager_url</code> of its settings.</p></Empty>
          : (
            <Table label="Workers">
              <thead>
                <tr>
                  <th scope="col" class="w-state">State</th>
                  <th scope="col">Worker</th>
                  <th scope="col">Task</th>
                  <th scope="col">Says</th>
                  <th scope="col" class="roomy">Types</th>
                  <th scope="col" class="num">Heard of</th>
                </tr>
              </thead>
              <tbody>
                {workers.map((worker) => <Row key={worker.id} worker={worker} task={active.find((task) => task.worker_id === worker.id)} />)}
              </tbody>
            </Table>
          )}
      </Show>
    </Section>
  );
}

function Row({ worker, task }: { worker: FarmWorker; task: FarmTask | undefined }): JSX.Element {
  const wanted = worker.status_requested && `to be ${worker.status_requested}${worker.lazy ? " after its task" : ""}`;
  return (
    <tr>
      <td><State look={workerLook(worker, task)} title={worker.software} />{wanted && <span class="dim"> {wanted}</span>}</td>
      <td class="cut" title={worker.address}>{worker.nickname || worker.address || worker.id}</td>
      <td class="cut">{task ? <a href={withQuery({ task: task.id })}>{task.name || task.id}</a> : <span class="dim">–</span>}</td>
      <td class="cut">{task?.activity}</td>
      <td class="cut dim roomy">{worker.task_types.join(", ")}</td>
      <td class="num"><Ago at={worker.last_activity} /></td>
    </tr>
  );
}

function OneJob({ job, cursor }: { job: string; cursor: string }): JSX.Element {
  const page = useResource<FarmTaskPage>("/flamenco/tasks" + query({ job, cursor, limit: 2 * LIMIT }));
  return (
    <Section title={`Tasks of job ${job}`} aside={<a href={withQuery({ job: undefined, cursor: undefined, task: undefined })}>All jobs</a>}>
      <Show of={page} lines={10}>
        {({ tasks, next_cursor }) => (
          <>
            {tasks.length === 0 ? <Empty><p>The manager has no task of this job{cursor && " after these"}.</p></Empty> : <Tasks label="Tasks of the job" tasks={tasks} />}
            <nav class="pages" aria-label="Pages of the tasks">
              {cursor && <a href={withQuery({ cursor: undefined })}>First</a>}
              {next_cursor && <a href={withQuery({ cursor: next_cursor })}>Next {2 * LIMIT}</a>}
            </nav>
          </>
        )}
      </Show>
    </Section>
  );
}

function Tasks({ label, tasks, failing }: { label: string; tasks: FarmTask[]; failing?: boolean }): JSX.Element {
  const chosen = search.value.get("task");
  return (
    <Table label={label}>
      <thead>
        <tr>
          <th scope="col" class="w-state">State</th>
          <th scope="col">Task</th>
          <th scope="col" class="roomy">Type</th>
          <th scope="col">{failing ? "Failed on" : "Worker"}</th>
          <th scope="col">Says</th>
          <th scope="col" class="num roomy">Changed</th>
        </tr>
      </thead>
      <tbody>
        {tasks.map((task) => (
          <tr key={task.id} aria-selected={task.id === chosen}>
            <td><State look={farmLook(task.status)} title={task.status} /></td>
            <td class="name"><a class="row" href={withQuery({ task: task.id })}>{task.name || task.id}</a></td>
            <td class="dim roomy">{task.task_type}</td>
            <td class="cut">{(failing && task.failed_by.join(", ")) || task.worker || <span class="dim">–</span>}</td>
            <td class="cut">{task.activity}</td>
            <td class="num roomy"><Ago at={task.last_updated} /></td>
          </tr>
        ))}
      </tbody>
    </Table>
  );
}

function OneTask({ id }: { id: string }): JSX.Element {
  const read = useResource<FarmTaskDetail>(path`/flamenco/tasks/${id}`, { every: 3000, exact: true });
  return (
    <aside class="detail" aria-label="Task of the farm">
      <header>
        <h2>{read.data?.name || id}</h2>
        <a class="close" href={withQuery({ task: undefined })} aria-label="Close">✕</a>
      </header>
      <Show of={read} lines={6}>
        {(task) => (
          <>
            <dl class="facts">
              <dt>State</dt>
              <dd><State look={farmLook(task.status)} title={task.status} /></dd>
              <dt>Job</dt>
              <dd>{task.job ? <a href={to(["render"], { job: task.job, task: id })}><code>{task.job}</code></a> : "–"}</dd>
              <dt>Type</dt>
              <dd>{task.job_type} / {task.task_type}</dd>
              <dt>Worker</dt>
              <dd>{task.worker || "–"}</dd>
              <dt>Last change</dt>
              <dd><When at={task.last_updated} /></dd>
              <dt>Says</dt>
              <dd>{task.activity || "–"}</dd>
              {task.failed_by.length > 0 && [<dt key="dt">Failed on</dt>, <dd key="dd">{task.failed_by.join(", ")}</dd>]}
              {task.timing && Object.entries(task.timing).map(([phase, seconds]) => [<dt key={phase}>{phase}</dt>, <dd key={`${phase} took`}>{span(Number(JSON.stringify(seconds)) * 1000)}</dd>])}
              <dt>Id</dt>
              <dd><code>{id}</code></dd>
            </dl>
            <Section title="End of the log">
              {task.log_tail ? <Text tail>{task.log_tail}</Text> : <p class="dim">Its worker has logged nothing yet.</p>}
              {task.job && <p class="dim">All of it is at the manager: <code>/logfile/{task.job}/{id}</code></p>}
            </Section>
            {task.commands.length > 0 && <Section title="Commands"><Json value={task.commands} /></Section>}
          </>
        )}
      </Show>
    </aside>
  );
}
