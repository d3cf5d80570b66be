import type { JSX } from "preact";
import { change, path } from "../api";
import { Action, Ago, Empty, Page, Show, State, Table, count, say } from "../parts";
import { to } from "../place";
import { useResource } from "../resource";
import type { Queue, QueueList } from "../types";

export function QueuesPage(): JSX.Element {
  const list = useResource<QueueList>("/queues", { every: 3000, watch: "queues" });
  const set = async (queue: Queue): Promise<void> => {
    const pausing = queue.paused_at === null;
    await change("POST", path`/queues/${queue.type}/${pausing ? "pause" : "resume"}`);
    say(pausing ? `${queue.type} is paused: running tasks go on, new ones wait.` : `${queue.type} is resumed.`);
    list.again();
  };
  return (
    <Page title="Queues">
      <Show of={list}>
        {({ queues }) => queues.length === 0
          ? (
            <Empty>
              <p>No task type has a work queue.</p>
              <p>A type with <code>delivery: queue</code> in the configuration has one: each of its tasks is performed once, by one worker with room.</p>
            </Empty>
          )
          : (
            <Table label="Queues">
              <thead>
                <tr>
                  <th scope="col">Queue</th>
                  <th scope="col" class="num">Waiting</th>
                  <th scope="col" class="num roomy">Held by a key</th>
                  <th scope="col" class="num roomy">Not yet due</th>
                  <th scope="col" class="num">Running</th>
                  <th scope="col" class="num">Oldest waits</th>
                  <th scope="col">State</th>
                  <th scope="col"><span class="hidden">Actions</span></th>
                </tr>
              </thead>
              <tbody>
                {queues.map((queue) => (
                  <tr key={queue.type}>
                    <td class="name"><a class="row" href={to(["tasks"], { type: queue.type, status: "CREATED,SENT" })}>{queue.type}</a></td>
                    <td class="num">{count(queue.waiting)}</td>
                    <td class="num roomy">{count(queue.held)}</td>
                    <td class="num roomy">{count(queue.delayed)}</td>
                    <td class="num">{count(queue.running)}</td>
                    <td class="num"><Ago at={queue.oldest} /></td>
                    <td>
                      {queue.paused_at
                        ? <><State look={{ word: "paused", glyph: "‖", tone: "warn" }} /> <span class="dim"><Ago at={queue.paused_at} /></span></>
                        : <State look={{ word: "open", glyph: "●", tone: "ok" }} />}
                    </td>
                    <td class="acts"><Action needs="admin" run={() => set(queue)}>{queue.paused_at ? "Resume" : "Pause"}</Action></td>
                  </tr>
                ))}
              </tbody>
            </Table>
          )}
      </Show>
    </Page>
  );
}
