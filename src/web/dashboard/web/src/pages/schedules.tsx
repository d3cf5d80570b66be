import type { JSX } from "preact";
import { change, path } from "../api";
import { cronWords } from "../cron";
import { Action, Ago, Empty, Page, Show, State, Table, When, say } from "../parts";
import { go, to } from "../place";
import { useResource } from "../resource";
import type { Schedule, ScheduleList, Task } from "../types";

export function SchedulesPage(): JSX.Element {
  const list = useResource<ScheduleList>("/schedules", { every: 10_000 });
  const set = async (schedule: Schedule): Promise<void> => {
    const pausing = schedule.paused_at === null;
    await change("POST", path`/schedules/${schedule.name}/${pausing ? "pause" : "resume"}`);
    say(pausing ? `${schedule.name} is paused: its times pass without tasks.` : `${schedule.name} is resumed.`);
    list.again();
  };
  const run = async (schedule: Schedule): Promise<void> => {
    const task = await change<Task>("POST", path`/schedules/${schedule.name}/run`);
    go(to(["tasks", task.type, task.identifier]));
  };
  return (
    <Page title="Schedules">
      <Show of={list}>
        {({ schedules }) => schedules.length === 0
          ? (
            <Empty>
              <p>No schedule is configured.</p>
              <p><code>schedules</code> in the configuration submits tasks at times: a name, a task type and a cron pattern.</p>
            </Empty>
          )
          : (
            <Table label="Schedules">
              <thead>
                <tr>
                  <th scope="col">Name</th>
                  <th scope="col" class="roomy">Type</th>
                  <th scope="col">When</th>
                  <th scope="col" class="roomy">For</th>
                  <th scope="col">Next</th>
                  <th scope="col">State</th>
                  <th scope="col"><span class="hidden">Actions</span></th>
                </tr>
              </thead>
              <tbody>
                {schedules.map((schedule) => (
                  <tr key={schedule.name}>
                    <td class="name"><a class="row" href={to(["tasks"], { type: schedule.type, q: `${schedule.name}-` })}>{schedule.name}</a></td>
                    <td class="roomy">{schedule.type}</td>
                    <td title={`${schedule.cron} (${schedule.time_zone}); missed times: ${schedule.missed}`}>{cronWords(schedule.cron)} <span class="dim roomy">{schedule.time_zone}</span></td>
                    <td class="cut roomy">{schedule.endpoints.length > 0 ? schedule.endpoints.join(", ") : <span class="dim">all</span>}</td>
                    <td>{schedule.next ? <><Ago at={schedule.next} /> <span class="dim roomy"><When at={schedule.next} /></span></> : <span class="dim">never</span>}</td>
                    <td class="wrap">
                      {schedule.paused_at
                        ? <><State look={{ word: "paused", glyph: "‖", tone: "warn" }} /> <span class="dim"><Ago at={schedule.paused_at} /></span></>
                        : <State look={{ word: "on", glyph: "●", tone: "ok" }} />}
                      {schedule.last_error && <div class="warn">△ <Ago at={schedule.last_error_at} />: {schedule.last_error}</div>}
                    </td>
                    <td class="acts">
                      <Action needs="submit" run={() => run(schedule)} title="Submit its task once, now">Run now</Action>
                      <Action needs="admin" run={() => set(schedule)}>{schedule.paused_at ? "Resume" : "Pause"}</Action>
                    </td>
                  </tr>
                ))}
              </tbody>
            </Table>
          )}
      </Show>
    </Page>
  );
}
