import type { JSX } from "preact";
import { query } from "../api";
import { Ago, Bar, Clear, Command, Empty, Page, Show, State, Table, count } from "../parts";
import { search, to, withQuery } from "../place";
import { useResource } from "../resource";
import { rolloutLook } from "../state";
import { ROLLOUT_STATUSES, type RolloutCounts, type RolloutPage } from "../types";

export function RolloutsPage(): JSX.Element {
  const [status, cursor] = ["status", "cursor"].map((name) => search.value.get(name) ?? "");
  const page = useResource<RolloutPage>("/rollouts" + query({ status, cursor, limit: 50 }), { every: 4000 });
  const states = status === "" ? [] : status.split(",");
  const toggle = (word: string): string => {
    const next = states.includes(word) ? states.filter((state) => state !== word) : [...states, word];
    return withQuery({ status: ROLLOUT_STATUSES.filter((state) => next.includes(state)).join(","), cursor: undefined });
  };
  return (
    <Page title="Rollouts">
      <div class="filters" role="search">
        <div class="chips" role="group" aria-label="Status">
          {ROLLOUT_STATUSES.map((word) => (
            <a key={word} class={`chip ${rolloutLook(word).tone}`} href={toggle(word)} aria-current={states.includes(word) ? "true" : undefined}>
              <span class="glyph" aria-hidden="true">{rolloutLook(word).glyph}</span>
              {rolloutLook(word).word}
            </a>
          ))}
        </div>
        <Clear off={status === ""} href={to(["rollouts"])} />
      </div>
      <Show of={page} lines={10}>
        {({ rollouts, next_cursor }) => rollouts.length === 0
          ? status || cursor
            ? <Empty><p>No rollout fits these filters.</p><p><a href={to(["rollouts"])}>Show all rollouts</a></p></Empty>
            : (
              <Empty>
                <p>There is no rollout yet. A rollout changes a fleet in waves, and stops where too many endpoints fail:</p>
                <Command>tasker rollout plan FILE</Command>
              </Empty>
            )
          : (
            <>
              <Table label="Rollouts">
                <thead>
                  <tr>
                    <th scope="col" class="w-state">Status</th>
                    <th scope="col">Rollout</th>
                    <th scope="col" class="roomy">Type</th>
                    <th scope="col" class="num">Wave</th>
                    <th scope="col" class="num">Done</th>
                    <th scope="col" class="num">Failed</th>
                    <th scope="col" class="w-bar roomy"><span class="hidden">Progress</span></th>
                    <th scope="col" class="num">Created</th>
                  </tr>
                </thead>
                <tbody>
                  {rollouts.map((rollout) => (
                    <tr key={rollout.id}>
                      <td><State look={rolloutLook(rollout.status)} title={rollout.reason ?? rollout.status} /></td>
                      <td class="name"><a class="row" href={to(["rollouts", rollout.identifier])}>{rollout.identifier}</a></td>
                      <td class="roomy">{rollout.type}</td>
                      <td class="num">{rollout.wave === null ? <span class="dim">–</span> : `${rollout.wave}/${rollout.waves.length}`}</td>
                      <td class="num">{count(rollout.counts.ok)}/{count(rollout.size)}</td>
                      <td class="num">{rollout.counts.failed > 0 ? <span class="bad">{count(rollout.counts.failed)}</span> : <span class="dim">0</span>}</td>
                      <td class="roomy"><Bar whole={rollout.size} parts={rolloutProgress(rollout.counts)} /></td>
                      <td class="num"><Ago at={rollout.created} /></td>
                    </tr>
                  ))}
                </tbody>
              </Table>
              <nav class="pages" aria-label="Pages of the list">
                {cursor && <a href={withQuery({ cursor: undefined })}>Newest</a>}
                {next_cursor && <a href={withQuery({ cursor: next_cursor })}>Older</a>}
              </nav>
            </>
          )}
      </Show>
    </Page>
  );
}

/** The parts of a bar. */
export function rolloutProgress(counts: RolloutCounts): { number: number; tone: string; word: string }[] {
  return [
    { number: counts.ok, tone: "ok", word: "ok" },
    { number: counts.failed + counts.unreachable, tone: "bad", word: "failed or unreachable" },
    { number: counts.skipped + counts.superseded + counts.absent, tone: "off", word: "skipped or away" },
    { number: counts.sent + counts.verifying, tone: "run", word: "in flight" },
  ];
}
