import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { change, path, query } from "../api";
import { Action, Ago, Bar, Confirm, Empty, Json, Page, Section, Show, State, Table, Tabs, When, count, say } from "../parts";
import { search, to, withQuery } from "../place";
import { useResource } from "../resource";
import { may } from "../session";
import { rolloutLook, targetLook } from "../state";
import type { Rollout, RolloutEvents, RolloutTargetPage, RolloutWave } from "../types";
import { rolloutProgress } from "./rollouts";

const LIMIT = 100;

const TABS = ["endpoints", "events", "document"] as const;

const isOver = (rollout: Rollout): boolean => ["DONE", "PARTIAL", "ABORTED", "ROLLED_BACK", "ROLLBACK_FAILED"].includes(rollout.status);

export function RolloutPage({ id }: { id: string }): JSX.Element {
  const rollout = useResource<Rollout>(path`/rollouts/${id}`, { every: 2000 });
  const told = rollout.data;
  return (
    <Page title={<><span class="dim">rollout</span> {told?.identifier ?? id}</>} actions={told && <Acts rollout={told} again={rollout.again} />}>
      <Show of={rollout} lines={10}>{(rollout) => <Body rollout={rollout} />}</Show>
    </Page>
  );
}

function Acts({ rollout, again }: { rollout: Rollout; again: () => void }): JSX.Element {
  const [asking, ask] = useState(false);
  // Each command carries the revision that one has seen: with another one it is refused.
  const command = async (word: string, said: string): Promise<void> => {
    await change("POST", path`/rollouts/${rollout.identifier}/${word}`, { revision: rollout.revision });
    say(said);
    again();
  };
  const { status } = rollout;
  const waits = status === "PAUSED" || status === "HALTED";
  return (
    <>
      {rollout.waves.some(isHeld) && (
        <>
          <Action needs="approve" kind="primary" run={() => command("approve", "Approved.")}>Approve</Action>
          <Action needs="approve" run={() => command("refuse", "Refused.")}>Refuse</Action>
        </>
      )}
      {status === "CREATED" && <Action needs="submit" kind="primary" run={() => command("start", "The rollout starts.")}>Start</Action>}
      {waits
        ? <Action needs="submit" kind="primary" run={() => command("resume", "The rollout goes on.")}>Go on</Action>
        : <Action needs="submit" disabled={isGivenUp(rollout) || status === "CREATED"} run={() => command("pause", "The rollout is paused: endpoints in flight finish.")}>Pause</Action>}
      <Action needs="submit" kind="danger" disabled={isGivenUp(rollout)} run={() => ask(true)}>Abort …</Action>
      {asking && (
        <Confirm
          title={`Abort ${rollout.identifier}?`}
          act="Abort the rollout"
          danger
          number={rollout.counts.pending}
          run={() => command("abort", "The rollout is aborted.")}
          close={() => ask(false)}
        >
          <p>{count(rollout.counts.pending)} endpoints will not be started. {count(rollout.counts.sent + rollout.counts.verifying)} are in flight; {count(rollout.counts.ok)} have changed and stay so.</p>
        </Confirm>
      )}
    </>
  );
}

/** Whether it is given up already. */
const isGivenUp = (rollout: Rollout): boolean => isOver(rollout) || rollout.status === "ABORTING" || rollout.status === "ROLLING_BACK";

/** Whether a wave whose turn has come waits for somebody to agree. */
const isHeld = (wave: RolloutWave): boolean => wave.phase === "WAITING" && wave.since !== null && wave.gates.some((gate) => gate.includes("approv"));

function Body({ rollout }: { rollout: Rollout }): JSX.Element {
  const tab = TABS.find((name) => name === search.value.get("tab")) ?? "endpoints";
  return (
    <>
      <div class="summary">
        <p class="line">
          <State look={rolloutLook(rollout.status)} title={rollout.status} />
          <span class="left">
            {count(rollout.counts.ok)} of {count(rollout.size)} endpoints, type {rollout.type}
            {rollout.started_at && <>, started <Ago at={rollout.started_at} /></>}
            {rollout.ended_at && <>, ended <Ago at={rollout.ended_at} /></>}
            {!rollout.started_at && rollout.start_at && <>, starts <Ago at={rollout.start_at} /></>}
          </span>
        </p>
        {rollout.rollback?.rollout && <p>Rolled back by <a href={to(["rollouts", rollout.rollback.rollout])}>{rollout.rollback.rollout}</a></p>}
        {rollout.reason && <p class={rollout.status === "HALTED" ? "bad" : "warn"}>△ {rollout.reason}</p>}
        <Bar whole={rollout.size} parts={rolloutProgress(rollout.counts)} />
      </div>
      <Section title="Waves">
        <Table label="Waves">
          <thead>
            <tr>
              <th scope="col">Wave</th>
              <th scope="col">Phase</th>
              <th scope="col" class="num">Ok</th>
              <th scope="col" class="num">Failed</th>
              <th scope="col" class="num">Unreachable</th>
              <th scope="col" class="w-bar roomy"><span class="hidden">Progress</span></th>
              <th scope="col">Waits for</th>
            </tr>
          </thead>
          <tbody>
            {rollout.waves.map((wave) => (
              <tr key={wave.wave} aria-selected={wave.wave === rollout.wave}>
                <td class="name"><a href={withQuery({ wave: String(wave.wave), tab: undefined, cursor: undefined })}>{wave.wave}{wave.name && ` ${wave.name}`}</a></td>
                <td>{PHASES[wave.phase] ?? wave.phase} <span class="dim">{wave.since && <Ago at={wave.since} />}</span></td>
                <td class="num">{count(wave.counts.ok)}/{count(wave.size)}</td>
                <td class="num"><Budget number={wave.counts.failed} allowed={wave.allowed_failed} /></td>
                <td class="num"><Budget number={wave.counts.unreachable} allowed={wave.allowed_unreachable} /></td>
                <td class="roomy"><Bar whole={wave.size} parts={rolloutProgress(wave.counts)} /></td>
                <td class="wrap">{wave.gates.join("; ")} {wave.approvals.length > 0 && <span class="dim">approved by {wave.approvals.join(", ")}</span>}</td>
              </tr>
            ))}
          </tbody>
        </Table>
      </Section>
      <Tabs
        label="Views of the rollout"
        of={TABS.map((name) => ({ name: WORDS[name], href: withQuery({ tab: name === "endpoints" ? undefined : name, cursor: undefined }), chosen: name === tab }))}
      />
      {tab === "endpoints" && <Targets rollout={rollout} />}
      {tab === "events" && <Events rollout={rollout} />}
      {tab === "document" && (may("read") ? <Json value={rollout.document} /> : <Empty><p>This needs a token with the scope <code>read</code>.</p></Empty>)}
    </>
  );
}

const WORDS = { endpoints: "Endpoints", events: "Events", document: "Document" };

const PHASES: Record<string, string> = { WAITING: "waiting", ADMITTING: "under way", SOAKING: "soaking", PASSED: "passed" };

function Budget({ number, allowed }: { number: number; allowed: number | null }): JSX.Element {
  const text = `${count(number)}${allowed === null ? "" : ` of ${count(allowed)}`}`;
  return allowed !== null && number > allowed ? <span class="bad">✕ {text}</span> : number > 0 ? <span class="warn">{text}</span> : <span class="dim">{text}</span>;
}

function Targets({ rollout }: { rollout: Rollout }): JSX.Element {
  const [state, wave, cursor] = ["state", "wave", "cursor"].map((name) => search.value.get(name) ?? "");
  const page = useResource<RolloutTargetPage>(path`/rollouts/${rollout.identifier}/targets` + query({ state, wave, cursor, limit: LIMIT }), { every: isOver(rollout) ? 20_000 : 3000 });
  return (
    <>
      <div class="filters">
        <div class="chips" role="group" aria-label="State">
          {Object.entries(rollout.counts).filter(([, number]) => number > 0).map(([word, number]) => (
            <a key={word} class="chip" href={withQuery({ state: state === word.toUpperCase() ? undefined : word.toUpperCase(), cursor: undefined })} aria-current={state === word.toUpperCase() ? "true" : undefined}>
              {word} {count(number)}
            </a>
          ))}
        </div>
        {(state || wave) && <a class="clear" href={withQuery({ state: undefined, wave: undefined, cursor: undefined })}>Clear</a>}
      </div>
      <Show of={page} lines={8}>
        {({ targets, next_cursor }) => targets.length === 0 ? <Empty><p>No endpoint of this rollout fits.</p></Empty> : (
          <>
            <Table label="Endpoints of the rollout">
              <thead>
                <tr>
                  <th scope="col" class="w-state">State</th>
                  <th scope="col">Endpoint</th>
                  <th scope="col" class="num">Wave</th>
                  <th scope="col" class="num">Code</th>
                  <th scope="col">Note</th>
                  <th scope="col" class="num">Since</th>
                </tr>
              </thead>
              <tbody>
                {targets.map((target) => (
                  <tr key={target.endpoint}>
                    <td><State look={targetLook(target.state)} title={target.state} /></td>
                    <td class="name">
                      <a class="row" href={target.task_id ? to(["tasks", rollout.type, target.task_id], { endpoint: target.endpoint }) : to(["endpoints", target.endpoint])}>{target.endpoint}</a>
                    </td>
                    <td class="num">{target.wave}</td>
                    <td class="num">{target.errnr ?? <span class="dim">–</span>}</td>
                    <td class="cut">{target.note}</td>
                    <td class="num"><Ago at={target.since} /></td>
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
    </>
  );
}

function Events({ rollout }: { rollout: Rollout }): JSX.Element {
  const told = useResource<RolloutEvents>(path`/rollouts/${rollout.identifier}/events`, { every: isOver(rollout) ? 20_000 : 3000 });
  return (
    <Show of={told} lines={6}>
      {({ events }) => (
        <ol class="timeline">
          {events.slice(-200).reverse().map((event) => (
            <li key={event.seq}>
              <When at={event.time} /> {event.kind.replaceAll("_", " ").toLowerCase()}
              {event.wave !== null && ` · wave ${event.wave}`}
              {event.endpoint && ` · ${event.endpoint}`}
              {event.actor && <span class="dim"> · by {event.actor}</span>}
              {event.text && <span class="dim"> · {event.text}</span>}
            </li>
          ))}
        </ol>
      )}
    </Show>
  );
}
