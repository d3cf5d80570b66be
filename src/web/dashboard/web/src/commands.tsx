/** What one asks of a rollout. Each command carries the revision that one has seen: with another one it is refused. */
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { change, path } from "./api";
import { Action, Confirm, count, say } from "./parts";
import { go, search, to } from "./place";
import { LEFT_OUT, RETRIED, UNSUCCESSFUL, gate, inState, isGivenUp, isOver, overBudget } from "./rollout";
import { targetLook } from "./state";
import { ledgerTime } from "./time";
import type { Rollout, RolloutCounts } from "./types";

type Dialogs = "abort" | "resume" | "retry" | "skip" | "gate" | "rerun";

export async function command(rollout: Rollout, word: string, body: Record<string, unknown> = {}): Promise<Rollout> {
  return change<Rollout>("POST", path`/rollouts/${rollout.identifier}/${word}`, { revision: rollout.revision, ...body });
}

interface Props {
  rollout: Rollout;
  again: () => void;
}

export function Commands({ rollout, again }: Props): JSX.Element {
  const [asking, ask] = useState<Dialogs | undefined>();
  const close = (): void => ask(undefined);
  const run = async (word: string, said: string, body?: Record<string, unknown>): Promise<void> => {
    const now = await command(rollout, word, body);
    say(now.warnings?.[0] ?? said);
    again();
  };
  const { status, counts } = rollout;
  const [over, givenUp, held] = [isOver(rollout), isGivenUp(rollout), gate(rollout)];
  const exceeded = overBudget(rollout, "failed") !== undefined || overBudget(rollout, "unreachable") !== undefined;
  const any = (states: string[]): boolean => states.some((state) => inState(counts, state) > 0);
  return (
    <>
      {held === "approval" && !givenUp && (
        <>
          <Action needs="approve" kind="primary" run={() => run("approve", "Approved.")}>Approve</Action>
          <Action needs="approve" run={() => run("refuse", "Refused.")}>Refuse</Action>
        </>
      )}
      {held && !givenUp && <Action needs="submit" run={() => ask("gate")}>{GATES[held].act} …</Action>}
      {status === "CREATED" && <Action needs="submit" kind="primary" run={() => run("start", "The rollout starts.")}>Start</Action>}
      {status === "PAUSED" || status === "HALTED"
        ? <Action needs="submit" kind="primary" run={() => (exceeded ? ask("resume") : run("resume", "The rollout is resumed."))}>{exceeded ? "Resume …" : "Resume"}</Action>
        : !over && <Action needs="submit" disabled={givenUp || status === "CREATED"} run={() => run("pause", "The rollout is paused: nothing new starts.")}>Pause</Action>}
      {over
        ? <Action needs="submit" disabled={!any(UNSUCCESSFUL)} title="A new rollout for the endpoints that did not succeed" run={() => ask("rerun")}>Rerun …</Action>
        : (
          <>
            <Action needs="submit" disabled={givenUp || !any(RETRIED)} title="Try endpoints again that did not succeed" run={() => ask("retry")}>Retry …</Action>
            <Action needs="submit" disabled={givenUp || !any(LEFT_OUT)} title="Skip endpoints that have not begun or did not succeed" run={() => ask("skip")}>Skip …</Action>
            <Action needs="submit" kind="danger" disabled={givenUp} run={() => ask("abort")}>Abort …</Action>
          </>
        )}
      {asking === "abort" && <Abort rollout={rollout} run={run} close={close} />}
      {asking === "resume" && <Resume rollout={rollout} run={run} close={close} />}
      {asking === "retry" && (
        <Pick rollout={rollout} title="Retry" states={RETRIED} usual={["FAILED", "UNREACHABLE"]} close={close}
          run={(body, number) => run("retry", `${words(number)} tried again.`, body)}>
          They are started again when their wave has room. Endpoints whose task may still run are not touched.
        </Pick>
      )}
      {asking === "skip" && (
        <Pick rollout={rollout} title="Skip" states={LEFT_OUT} usual={["FAILED", "UNREACHABLE", "ABSENT"]} close={close}
          run={(body, number) => run("skip", `${words(number)} skipped.`, body)}>
          They are not started, and count neither as failed nor as unreachable. A retry takes them in again.
        </Pick>
      )}
      {asking === "gate" && held && (
        <Confirm
          title={`${GATES[held].act}?`}
          act={GATES[held].act}
          run={() => run("skip", GATES[held].said, { gate: true })}
          close={close}
        >
          <p>{GATES[held].means} The events of the rollout name you.</p>
        </Confirm>
      )}
      {asking === "rerun" && <Rerun rollout={rollout} close={close} />}
    </>
  );
}

/** What passing over a gate is called, what is said afterwards, and what it means. */
const GATES = {
  approval: { act: "Pass over the approval", said: "The wave begins without an approval.", means: "The wave begins although nobody has agreed to it." },
  soak: { act: "End the soak time", said: "The soak time is over.", means: "Its probe follows, or the next wave begins at once." },
  probe: { act: "Pass over the probe", said: "The wave has passed without its probe.", means: "The next wave begins although the probe has not succeeded." },
};

const words = (number: number): string => `${count(number)} ${number === 1 ? "endpoint is" : "endpoints are"}`;

interface Asked {
  rollout: Rollout;
  run: (word: string, said: string, body?: Record<string, unknown>) => Promise<void>;
  close: () => void;
}

function Abort({ rollout, run, close }: Asked): JSX.Element {
  const [back, setBack] = useState(false);
  const { counts, rollback } = rollout;
  const flight = counts.sent + counts.verifying;
  return (
    <Confirm
      title={`Abort ${rollout.identifier}?`}
      act={back ? "Abort and roll back" : "Abort the rollout"}
      danger
      number={back ? counts.ok + counts.failed + flight : counts.pending}
      run={() => run("abort", back ? "The rollout is aborted and rolled back." : "The rollout is aborted.", { rollback: back })}
      close={close}
    >
      <p>{count(counts.pending)} endpoints will not be started. {count(flight)} are in flight and {rollout.document?.in_flight === "stop" ? "are stopped" : "finish"}; {count(counts.ok)} have changed{back ? "." : " and stay so."}</p>
      {rollback
        ? (
          <label class="check">
            <input type="checkbox" checked={back} onChange={(event) => setBack(event.currentTarget.checked)} />
            {rollback.on === "failed" ? "Then roll back the endpoints that failed" : "Then roll back all endpoints that have received it"}, with {rollback.type}
          </label>
        )
        : <p class="dim">It cannot be rolled back: its document has no <code>rollback</code>.</p>}
    </Confirm>
  );
}

/** Goes on although more have failed than were allowed. */
function Resume({ rollout, run, close }: Asked): JSX.Element {
  const [failed, unreachable] = [overBudget(rollout, "failed"), overBudget(rollout, "unreachable")];
  const [allow, setAllow] = useState({ failed, unreachable });
  const field = (what: "failed" | "unreachable", least: number): JSX.Element => (
    <label class="field">
      Endpoints of a wave that may {what === "failed" ? "fail" : "be unreachable"}
      <input
        type="number"
        required
        min={least}
        max={rollout.size}
        value={allow[what]}
        onInput={(event) => setAllow({ ...allow, [what]: event.currentTarget.valueAsNumber })}
      />
    </label>
  );
  return (
    <Confirm title={`Resume ${rollout.identifier}?`} act="Resume" run={() => run("resume", "The rollout is resumed.", { allow })} close={close}>
      <p>More endpoints did not succeed than its budgets allow. Allow them, or go back, and retry or skip them.</p>
      {failed !== undefined && field("failed", failed)}
      {unreachable !== undefined && field("unreachable", unreachable)}
    </Confirm>
  );
}

/** States of which one chooses, with the number of endpoints in each. */
function States({ legend, states, counts, chosen, choose }: { legend: string; states: string[]; counts: RolloutCounts; chosen: string[]; choose: (states: string[]) => void }): JSX.Element {
  return (
    <fieldset>
      <legend>{legend}</legend>
      {states.map((state) => {
        const number = inState(counts, state);
        return (
          <label key={state} class="check">
            <input
              type="checkbox"
              checked={chosen.includes(state) && number > 0}
              disabled={number === 0}
              onChange={(event) => choose(states.filter((one) => (one === state ? event.currentTarget.checked : chosen.includes(one))))}
            />
            {targetLook(state).word} <span class="dim">{count(number)}</span>
          </label>
        );
      })}
    </fieldset>
  );
}

interface PickProps {
  rollout: Rollout;
  title: string;
  states: string[];
  usual: string[];
  run: (body: Record<string, unknown>, number: number) => Promise<void>;
  close: () => void;
  children: ComponentChildren;
}

/** Chooses endpoints by their states, of all waves or of the one that the page shows. */
function Pick({ rollout, title, states, usual, run, close, children }: PickProps): JSX.Element {
  const [chosen, choose] = useState(usual);
  const [wave, setWave] = useState(search.value.get("wave") ?? "");
  const counts = rollout.waves.find((one) => String(one.wave) === wave)?.counts ?? rollout.counts;
  const meant = chosen.filter((state) => inState(counts, state) > 0);
  const number = meant.reduce((sum, state) => sum + inState(counts, state), 0);
  return (
    <Confirm
      title={`${title}: ${rollout.identifier}`}
      act={number > 0 ? `${title} ${count(number)} ${number === 1 ? "endpoint" : "endpoints"}` : title}
      number={number}
      disabled={number === 0}
      run={() => run({ states: meant, ...(wave && { wave: Number(wave) }) }, number)}
      close={close}
    >
      <label class="field">
        Waves
        <select value={wave} onChange={(event) => setWave(event.currentTarget.value)}>
          <option value="">all</option>
          {rollout.waves.map((one) => <option key={one.wave} value={String(one.wave)}>wave {one.wave}{one.name && ` (${one.name})`}</option>)}
        </select>
      </label>
      <States legend="Endpoints that are" states={states} counts={counts} chosen={chosen} choose={choose} />
      <p class="dim">{children}</p>
    </Confirm>
  );
}

function Rerun({ rollout, close }: { rollout: Rollout; close: () => void }): JSX.Element {
  const [chosen, choose] = useState(UNSUCCESSFUL);
  const stamp = new Date(ledgerTime()).toISOString().slice(0, 19).replaceAll(":", "").replace("T", "-");
  const [identifier, setIdentifier] = useState(`${rollout.identifier.slice(0, 104)}-again-${stamp}`);
  const meant = chosen.filter((state) => inState(rollout.counts, state) > 0);
  const number = meant.reduce((sum, state) => sum + inState(rollout.counts, state), 0);
  const run = async (): Promise<void> => {
    const made = await change<Rollout>("POST", path`/rollouts/${rollout.identifier}/rerun`, { identifier, only: meant });
    go(to(["rollouts", made.identifier]));
  };
  return (
    <Confirm title={`Rerun ${rollout.identifier}`} act={number > 0 ? `Rerun for ${count(number)}` : "Rerun"} number={number} disabled={number === 0} run={run} close={close}>
      <States legend="For the endpoints that are" states={UNSUCCESSFUL.filter((state) => inState(rollout.counts, state) > 0)} counts={rollout.counts} chosen={chosen} choose={choose} />
      <p class="dim">A new rollout of the same document, which starts at once.</p>
      <label class="field">
        Identifier of the new rollout
        <input value={identifier} maxLength={128} onInput={(event) => setIdentifier(event.currentTarget.value)} />
      </label>
    </Confirm>
  );
}
