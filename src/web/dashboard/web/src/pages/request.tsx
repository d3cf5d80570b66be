import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { change, path } from "../api";
import { Json } from "../json";
import { Action, Ago, Confirm, Page, Section, Show, State, Took, When, say } from "../parts";
import { to } from "../place";
import { useResource } from "../resource";
import { jobLook, requestLook } from "../state";
import type { Job, Request } from "../types";

const isRunning = (request: Request): boolean => request.status === "Queuing" || request.status === "Inprogress";

export function RequestPage({ token }: { token: string }): JSX.Element {
  const [open, setOpen] = useState(true);
  const request = useResource<Request>(path`/requests/${token}`, { every: open ? 2000 : 15_000, watch: "requests" });
  const told = request.data;
  if (told && isRunning(told) !== open) setOpen(isRunning(told));
  return (
    <Page title={<><span class="dim">request</span> {told?.action ?? ""} {told?.request_token ?? token}</>} actions={told && <Acts request={told} again={request.again} />}>
      <Show of={request} lines={10}>{(request) => <Body request={request} />}</Show>
    </Page>
  );
}

function Acts({ request, again }: { request: Request; again: () => void }): JSX.Element {
  const [asking, ask] = useState(false);
  const cancel = async (): Promise<void> => {
    await change("DELETE", path`/requests/${request.token}`);
    say("The request is canceled.");
    again();
  };
  const retry = async (): Promise<void> => {
    await change("POST", path`/requests/${request.token}/retry`);
    say("Its failed jobs run again.");
    again();
  };
  return (
    <>
      <Action needs="submit" disabled={request.status !== "Failed"} run={retry}>Retry failed jobs</Action>
      <Action needs="submit" kind="danger" disabled={!isRunning(request)} run={() => ask(true)}>Cancel …</Action>
      {asking && (
        <Confirm title={`Cancel ${request.request_token ?? request.token}?`} act="Cancel the request" danger run={cancel} close={() => ask(false)}>
          <p>{unfinished(request)} Steps that have completed stay as they are.</p>
        </Confirm>
      )}
    </>
  );
}

function unfinished(request: Request): string {
  const running = (request.jobs ?? []).filter((job) => job.status === "inprogress").length;
  return running > 0 ? `${running} ${running === 1 ? "job runs" : "jobs run"} and will be told to stop.` : "None of its jobs runs now.";
}

function Body({ request }: { request: Request }): JSX.Element {
  return (
    <>
      <p class="line">
        <State look={requestLook(request.status)} title={request.status} />
        <span class="left">step {Math.min(request.step + 1, request.steps.length)} of {request.steps.length}, <Took from={request.created} until={request.completed} /></span>
      </p>
      {request.error && <p class="bad">✕ {request.error}</p>}
      <ol class="chain">
        {request.steps.map((step, place) => {
          const jobs = (request.jobs ?? []).filter((job) => job.step === place);
          return (
            <li key={step.name + place} class={place === request.step && isRunning(request) ? "now" : place > request.step ? "ahead" : undefined}>
              <h3>{place + 1}. {step.name} {step.when && step.when !== "success" && <span class="dim">({step.when})</span>}</h3>
              <ul>{step.jobs.map((name) => <JobLine key={name} name={name} tries={jobs.filter((job) => job.name === name)} />)}</ul>
            </li>
          );
        })}
      </ol>
      <Section title="Params"><Json value={request.params} /></Section>
      {Object.keys(request.extras ?? {}).length > 0 && (
        <Section title="Found out by its jobs">
          <dl class="facts">
            {Object.entries(request.extras).map(([name, value]) => [<dt key={name}>{name}</dt>, <dd key={`${name} value`}>{String(value)}</dd>])}
          </dl>
        </Section>
      )}
      <dl class="facts">
        <dt>Submitted</dt>
        <dd><When at={request.created} /></dd>
        <dt>Ended</dt>
        <dd><When at={request.completed} /></dd>
        <dt>Given up</dt>
        <dd><When at={request.expires_at} /></dd>
        <dt>Token</dt>
        <dd><code>{request.token}</code></dd>
      </dl>
    </>
  );
}

function JobLine({ name, tries }: { name: string; tries: Job[] }): JSX.Element {
  const last = tries.at(-1);
  return (
    <li>
      <State look={last ? jobLook(last.status) : { word: "pending", glyph: "·", tone: "off" }} />{" "}
      {last?.task_id ? <a class="row" href={to(["tasks", name, last.task_id])}>{name}</a> : name}
      {last && <span class="dim"> {last.try > 1 && `attempt ${last.try}, `}{last.completed ? <Took from={last.created} until={last.completed} /> : last.due_at ? <>begins <Ago at={last.due_at} /></> : ""}</span>}
      {last?.error && <div class="bad">{last.error}</div>}
    </li>
  );
}
