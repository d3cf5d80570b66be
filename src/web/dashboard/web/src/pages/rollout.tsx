import type { JSX } from "preact";
import { path, query } from "../api";
import { Commands, command } from "../commands";
import { Json } from "../json";
import { Action, Ago, Bar, Clear, Empty, Page, Section, Show, State, Table, Tabs, When, count, left, say } from "../parts";
import { search, to, withQuery } from "../place";
import { useResource } from "../resource";
import { LEFT_OUT, RETRIED, gate, isGivenUp, isOver, timeLeft } from "../rollout";
import { may } from "../session";
import { rolloutLook, targetLook } from "../state";
import { ledgerTime, now, span } from "../time";
import type { Rollout, RolloutEvents, RolloutTarget, RolloutTargetPage } from "../types";
import { rolloutProgress } from "./rollouts";

const LIMIT = 100;

const TABS = ["endpoints", "events", "document"] as const;

export function RolloutPage({ id }: { id: string }): JSX.Element {
  const rollout = useResource<Rollout>(path`/rollouts/${id}`, { every: 2000 });
  const told = rollout.data;
  return (
    <Page title={<><span class="dim">rollout</span> {told?.identifier ?? id}</>} actions={told && <Commands rollout={told} again={rollout.again} />}>
      <Show of={rollout} lines={10}>{(told) => <Body rollout={told} again={rollout.again} />}</Show>
    </Page>
  );
}

function Body({ rollout, again }: { rollout: Rollout; again: () => void }): JSX.Element {
  const tab = TABS.find((name) => name === search.value.get("tab")) ?? "endpoints";
  const held = gate(rollout) === "approval" && !isGivenUp(rollout);
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
            {!rollout.started_at && !rollout.start_at && !isOver(rollout) && ", waits until somebody starts it"}
            {rollout.created_by && <>, by {rollout.created_by}</>}
          </span>
          <span class="left">{remaining(rollout)}</span>
        </p>
        {rollout.rollback?.rollout && <Undoing name={rollout.rollback.rollout} />}
        {rollout.parent && rollout.identifier.endsWith(UNDOES) && <Undone name={rollout.identifier.slice(0, -UNDOES.length)} id={rollout.parent} />}
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
              <th scope="col">Gates</th>
            </tr>
          </thead>
          <tbody>
            {rollout.waves.map((wave) => (
              <tr key={wave.wave} aria-selected={wave.wave === rollout.wave}>
                <td class="cut"><a href={withQuery({ wave: String(wave.wave), tab: undefined, cursor: undefined })}>{wave.wave}{wave.name && ` ${wave.name}`}</a></td>
                <td>{held && wave.wave === rollout.wave ? <span class="warn">waits for approval</span> : phase(rollout, wave.phase)} <span class="dim">{wave.since && <Ago at={wave.since} />}</span></td>
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
        of={TABS.map((name) => ({ name: WORDS[name], href: withQuery({ tab: name === "endpoints" ? undefined : name, cursor: undefined, after: undefined }), chosen: name === tab }))}
      />
      {tab === "endpoints" && <Targets rollout={rollout} again={again} />}
      {tab === "events" && <Events rollout={rollout} />}
      {tab === "document" && (may("read") ? <Json value={rollout.document} /> : <Empty><p>This needs a token with the scope <code>read</code>.</p></Empty>)}
    </>
  );
}

/** How long it takes yet, and when it is given up. */
function remaining(rollout: Rollout): string {
  if (isOver(rollout) || now.value === 0) return "";
  const told = timeLeft(rollout, ledgerTime());
  const parts: string[] = [];
  if (told) {
    parts.push(told.soaks ? `wave ${rollout.wave} soaks for another ${span(told.wave)}` : `wave ${rollout.wave}: about ${span(told.wave)} left`);
    const beside = [told.approvals && "approvals", rollout.document?.windows && "maintenance windows"].filter(Boolean).join(" and ");
    if (told.all !== undefined && told.all > told.wave) parts.push(`all: about ${span(told.all)}${beside && ` beside ${beside}`}`);
  }
  if (rollout.status === "SETTLING") parts.push(`waits for ${count(rollout.counts.absent + rollout.counts.unreachable + rollout.counts.sent + rollout.counts.verifying)} endpoints`);
  return [...parts, `expires in ${left(rollout.expires_at)}`].join("; ");
}

/** What the identifier of a rollout ends with that undoes another one. */
const UNDOES = "-rollback";

/** The rollout that undoes this one, and how far it is. */
function Undoing({ name }: { name: string }): JSX.Element {
  const told = useResource<Rollout>(path`/rollouts/${name}`, { every: 3000 }).data;
  return (
    <p class="line">
      <span>Rolled back by <a href={to(["rollouts", name])}>{name}</a></span>
      {told && <State look={rolloutLook(told.status)} title={told.status} />}
      {told && <span class="left">{count(told.counts.ok)} of {count(told.size)} endpoints{told.counts.failed > 0 && <>, <span class="bad">{count(told.counts.failed)} failed</span></>}</span>}
    </p>
  );
}

/** The rollout that this one undoes, if it still is the one of that name. */
function Undone({ name, id }: { name: string; id: string }): JSX.Element | null {
  const told = useResource<Rollout>(path`/rollouts/${name}`, { every: 30_000 }).data;
  return told?.id === id ? <p>Rolls back <a href={to(["rollouts", name])}>{name}</a></p> : null;
}

const WORDS = { endpoints: "Endpoints", events: "Events", document: "Document" };

const PHASES = { WAITING: "waiting", ADMITTING: "in progress", SOAKING: "soaking", PROBING: "probed", PASSED: "passed" };

const targetWord = (rollout: Rollout, state: string): string =>
  isOver(rollout) && state === "PENDING" ? "not begun" : targetLook(state).word;

/** Of a rollout that is over nothing is in progress any more, and nothing comes. */
function phase(rollout: Rollout, of: keyof typeof PHASES): string {
  if (!isOver(rollout) || of === "PASSED") return PHASES[of];
  return of === "WAITING" ? "not begun" : "stopped";
}

/** Endpoints in a state that a budget limits, and how many the budget allows. */
function Budget({ number, allowed }: { number: number; allowed: number | null }): JSX.Element {
  const text = `${count(number)}${allowed === null ? "" : ` (max ${count(allowed)})`}`;
  return allowed !== null && number > allowed ? <span class="bad">✕ {text}</span> : number > 0 ? <span class="warn">{text}</span> : <span class="dim">{text}</span>;
}

function Targets({ rollout, again }: { rollout: Rollout; again: () => void }): JSX.Element {
  const [state, wave, cursor] = ["state", "wave", "cursor"].map((name) => search.value.get(name) ?? "");
  const page = useResource<RolloutTargetPage>(path`/rollouts/${rollout.identifier}/targets` + query({ state, wave, cursor, limit: LIMIT }), { every: isOver(rollout) ? 20_000 : 3000 });
  const run = async (word: string, said: string, { endpoint }: RolloutTarget): Promise<void> => {
    await command(rollout, word, { endpoints: [endpoint] });
    say(`${endpoint} ${said}.`);
    again();
    page.again();
  };
  const acts = !isGivenUp(rollout);
  return (
    <>
      <div class="filters">
        <div class="chips" role="group" aria-label="State">
          {Object.entries(rollout.counts).filter(([, number]) => number > 0).map(([word, number]) => (
            <a key={word} class={`chip ${targetLook(word.toUpperCase()).tone}`} href={withQuery({ state: state === word.toUpperCase() ? undefined : word.toUpperCase(), cursor: undefined })} aria-current={state === word.toUpperCase() ? "true" : undefined}>
              <span class="glyph" aria-hidden="true">{targetLook(word.toUpperCase()).glyph}</span>
              {targetWord(rollout, word.toUpperCase())} {count(number)}
            </a>
          ))}
        </div>
        {wave && <span class="dim">of wave {wave}</span>}
        <Clear off={!(state || wave)} href={withQuery({ state: undefined, wave: undefined, cursor: undefined })} />
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
                  {acts && <th scope="col"><span class="hidden">Actions</span></th>}
                </tr>
              </thead>
              <tbody>
                {targets.map((target) => (
                  <tr key={target.endpoint}>
                    <td><State look={{ ...targetLook(target.state), word: targetWord(rollout, target.state) }} title={target.state} /></td>
                    <td class="name">
                      <a class="row" href={target.task_id ? to(["tasks", rollout.type, target.task_id], { endpoint: target.endpoint }) : to(["endpoints", target.endpoint])}>{target.endpoint}</a>
                      {target.domain && <span class="dim" title="Failure domain"> {target.domain}</span>}
                    </td>
                    <td class="num">{target.wave}{target.round > 1 && <span class="dim" title={`Started ${target.round} times`}> ×{target.round}</span>}</td>
                    <td class="num">{target.errnr ?? <span class="dim">–</span>}</td>
                    <td class="cut">{target.note}</td>
                    <td class="num"><Ago at={target.since} /></td>
                    {acts && (
                      <td class="acts">
                        {RETRIED.includes(target.state) && <Action needs="submit" run={() => run("retry", "is tried again", target)}>Retry</Action>}
                        {LEFT_OUT.includes(target.state) && <Action needs="submit" run={() => run("skip", "is skipped", target)}>Skip</Action>}
                      </td>
                    )}
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

/** Events on a page. */
const EVENTS = 1000;

function Events({ rollout }: { rollout: Rollout }): JSX.Element {
  const after = search.value.get("after") ?? "";
  const list = path`/rollouts/${rollout.identifier}/events` + query({ after, limit: EVENTS });
  const told = useResource<RolloutEvents>(list, { every: isOver(rollout) ? 20_000 : 3000 });
  return (
    <Show of={told} lines={6}>
      {({ events }) => (
        <>
          {(after || events.length >= EVENTS) && (
            <nav class="pages" aria-label="Pages of the events">
              {after && <a href={withQuery({ after: undefined })}>Oldest</a>}
              {events.length >= EVENTS && <a href={withQuery({ after: String(events.at(-1)?.seq) })}>Later than these {count(EVENTS)}</a>}
            </nav>
          )}
          {events.length === 0 && <Empty><p>Nothing has happened since.</p></Empty>}
          <ol class="timeline">
            {[...events].reverse().map((event) => (
              <li key={event.seq}>
                <When at={event.time} /> {event.kind.replaceAll("_", " ")}
                {event.wave !== null && ` · wave ${event.wave}`}
                {event.endpoint && <> · <a href={to(["endpoints", event.endpoint])}>{event.endpoint}</a></>}
                {event.actor && <span class="dim"> · by {event.actor}</span>}
                {event.text && <span class="dim"> · {event.text}</span>}
              </li>
            ))}
          </ol>
        </>
      )}
    </Show>
  );
}
