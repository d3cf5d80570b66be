/** The answers of a task's endpoints, in groups of equal ones: what sets each apart from the largest. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { change, path } from "./api";
import { Json } from "./json";
import { Action, Bar, Confirm, Empty, Show, State, Text, count } from "./parts";
import { go, to, withQuery } from "./place";
import { useResource } from "./resource";
import { isOpen, responseLook } from "./state";
import { ledgerTime } from "./time";
import type { AnswerGroup, Answers as Told, Task } from "./types";

export function Answers({ task }: { task: Task }): JSX.Element {
  const told = useResource<Told>(path`/${task.type}/${task.id}/answers?limit=50`, { every: isOpen(task.status) ? 5000 : 30_000 });
  const [asking, ask] = useState<AnswerGroup | undefined>();
  return (
    <Show of={told} lines={6}>
      {({ groups, more }) => groups.length === 0
        ? <Empty><p>No endpoint has to answer yet.</p></Empty>
        : (
          <>
            <ul class="groups">
              {groups.map((group) => <Group key={`${group.answer} ${group.status} ${group.errnr}`} task={task} group={group} ask={ask} />)}
            </ul>
            {more.groups > 0 && <p class="dim">{count(more.endpoints)} endpoints gave {count(more.groups)} other answers, in smaller groups.</p>}
            {asking && <RerunGroup task={task} group={asking} close={() => ask(undefined)} />}
          </>
        )}
    </Show>
  );
}

function Group({ task, group, ask }: { task: Task; group: AnswerGroup; ask: (group: AnswerGroup) => void }): JSX.Element {
  const look = responseLook({ status: group.status, errnr: group.errnr, vanished: false });
  const { exemplar, difference } = group;
  return (
    <li>
      <p class="line">
        <b>{count(group.count)}</b>
        <State look={look} />
        {group.errnr !== null && group.errnr !== 0 && <span>code {group.errnr}</span>}
        {group.answer && <a href={withQuery({ answer: group.answer, tab: undefined, state: undefined, from: undefined, cursor: undefined })}>Endpoints</a>}
        {group.answer && <Action needs="submit" title="Once more, for the endpoints that gave this answer" run={() => ask(group)}>Rerun these …</Action>}
      </p>
      <Bar whole={task.expected} parts={[{ number: group.count, tone: look.tone === "wait" || look.tone === "warn" ? "off" : look.tone, word: look.word }]} />
      {difference && difference.changes.length > 0 && (
        <table class="changes">
          <thead>
            <tr><th scope="col">Differs at</th><th scope="col">Largest group</th><th scope="col">Here</th></tr>
          </thead>
          <tbody>
            {difference.changes.map((one) => (
              <tr key={one.at}><td><code>{one.at}</code></td><td><pre>{one.largest ?? ""}</pre></td><td><pre>{one.here ?? ""}</pre></td></tr>
            ))}
          </tbody>
        </table>
      )}
      {difference && difference.more > 0 && <p class="dim">and {count(difference.more)} more places</p>}
      {exemplar && (
        <details open={difference === null}>
          <summary>As {exemplar.endpoint} gave it</summary>
          {exemplar.errmsg && <Text>{exemplar.errmsg}</Text>}
          <p><a href={withQuery({ endpoint: exemplar.endpoint, tab: undefined })}>All of its response</a></p>
          {exemplar.payload_omitted ? <p class="dim">It is long: the endpoint's own page has it.</p> : exemplar.payload !== null && <Json value={exemplar.payload} />}
        </details>
      )}
    </li>
  );
}

function RerunGroup({ task, group, close }: { task: Task; group: AnswerGroup; close: () => void }): JSX.Element {
  const run = async (): Promise<void> => {
    const stamp = new Date(ledgerTime()).toISOString().slice(0, 19).replaceAll(":", "").replace("T", "-");
    const made = await change<Task>("POST", path`/${task.type}/${task.id}/rerun`, { identifier: `${task.identifier.slice(0, 170)}-again-${stamp}`, answer: group.answer });
    go(to(["tasks", made.type, made.identifier]));
  };
  return (
    <Confirm title={`Rerun ${task.identifier}`} act={`Rerun for ${count(group.count)}`} number={group.count} run={run} close={close}>
      <p>A new task with the same payload, for the {count(group.count)} endpoints that gave this answer.</p>
    </Confirm>
  );
}
