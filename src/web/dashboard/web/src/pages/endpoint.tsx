import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { change, path, query } from "../api";
import { Action, Ago, Confirm, Empty, Page, Section, Show, State, Table, When, say } from "../parts";
import { go, to } from "../place";
import { isThere, presence } from "../presence";
import { useResource } from "../resource";
import { quoted } from "../selector";
import { span } from "../time";
import type { Endpoint, EndpointPage as Found, OwedPage } from "../types";

export function EndpointPage({ name }: { name: string }): JSX.Element {
  const found = useResource<Found>("/endpoints" + query({ name }), { every: 5000, watch: "endpoints" });
  const endpoint = found.data?.endpoints[0];
  return (
    <Page title={<><span class="dim">endpoint</span> {name}</>} actions={endpoint && <Acts endpoint={endpoint} />}>
      <Show of={found} lines={10}>
        {() => endpoint
          ? <Body endpoint={endpoint} />
          : <Empty><p>No endpoint of this name is known.</p><p><a href={to(["endpoints"])}>All endpoints</a></p></Empty>}
      </Show>
    </Page>
  );
}

function Acts({ endpoint }: { endpoint: Endpoint }): JSX.Element {
  const [asking, ask] = useState(false);
  const there = isThere(endpoint);
  const forget = async (): Promise<void> => {
    await change("DELETE", path`/endpoints/${endpoint.name}`);
    say(`${endpoint.name} is forgotten.`);
    go(to(["endpoints"]));
  };
  return (
    <>
      <a class="button" href={to(["submit"], { endpoints: endpoint.name })}>New task for it</a>
      <Action needs="admin" kind="danger" disabled={there} title={there ? "It is there" : undefined} run={() => ask(true)}>Forget …</Action>
      {asking && (
        <Confirm title={`Forget ${endpoint.name}?`} act="Forget it" danger run={forget} close={() => ask(false)}>
          <p>Future tasks do not expect it. What it owes stays open until the tasks end. If it comes back, it is known again.</p>
        </Confirm>
      )}
    </>
  );
}

function Body({ endpoint }: { endpoint: Endpoint }): JSX.Element {
  const owed = useResource<OwedPage>(path`/endpoints/${endpoint.name}/tasks`, { every: 5000, watch: "tasks" });
  const offset = endpoint.clock_offset_ms;
  return (
    <>
      <dl class="facts">
        <dt>State</dt>
        <dd><State look={presence(endpoint)} /></dd>
        <dt>Heard of</dt>
        <dd><Ago at={endpoint.last_seen} /> (<When at={endpoint.last_seen} />)</dd>
        <dt>Version</dt>
        <dd>{endpoint.version}</dd>
        <dt>Clock</dt>
        <dd>{offset === null ? "not known" : Math.abs(offset) < 1000 ? "right" : `${span(Math.abs(offset))} ${offset > 0 ? "ahead" : "behind"}`}</dd>
      </dl>
      <Section title="Task types">
        <Table label="Task types">
          <thead>
            <tr>
              <th scope="col">Type</th>
              <th scope="col">Takes tasks</th>
              <th scope="col" class="num">Slots</th>
              <th scope="col">Standby</th>
            </tr>
          </thead>
          <tbody>
            {endpoint.types.map((one) => (
              <tr key={one.type}>
                <td class="name"><a href={to(["tasks"], { type: one.type })}>{one.type}</a></td>
                <td class="wrap">
                  {one.trouble
                    ? <><State look={{ word: "no:", glyph: "△", tone: "warn" }} /> {one.trouble}</>
                    : one.subscribed ? <State look={{ word: "yes", glyph: "●", tone: "ok" }} /> : <State look={{ word: "no", glyph: "▽", tone: "off" }} />}
                </td>
                <td class="num">{one.slots ?? <span class="dim">–</span>}</td>
                <td>{one.standby ? <>since <Ago at={one.standby.since} /></> : <span class="dim">–</span>}</td>
              </tr>
            ))}
          </tbody>
        </Table>
      </Section>
      <Section title="Labels">
        {Object.keys(endpoint.labels ?? {}).length === 0
          ? <p class="dim">It has none. <code>endpoint.labels</code> of its configuration gives it some.</p>
          : (
            <dl class="facts">
              {Object.entries(endpoint.labels ?? {}).map(([name, value]) => [
                <dt key={name}>{name}</dt>,
                <dd key={`${name} value`}><a href={to(["endpoints"], { match: `${name}=${quoted(value)}` })}>{value}</a></dd>,
              ])}
            </dl>
          )}
      </Section>
      <Section title="What it owes">
        <Show of={owed} lines={3}>
          {({ tasks, more }) => tasks.length === 0
            ? <p class="dim">Nothing.</p>
            : (
              <>
                <Table label="Tasks that it has not finished">
                  <thead>
                    <tr>
                      <th scope="col" class="w-state">State</th>
                      <th scope="col">Task</th>
                      <th scope="col">Type</th>
                      <th scope="col" class="num">Submitted</th>
                      <th scope="col" class="num">Given up</th>
                    </tr>
                  </thead>
                  <tbody>
                    {tasks.map((task) => (
                      <tr key={task.id}>
                        <td><State look={task.received ? { word: "has it", glyph: "◐", tone: "run" } : { word: "not received", glyph: "○", tone: "wait" }} /></td>
                        <td class="name"><a class="row" href={to(["tasks", task.type, task.identifier], { endpoint: endpoint.name })}>{task.identifier}</a></td>
                        <td>{task.type}</td>
                        <td class="num"><Ago at={task.start_time} /></td>
                        <td class="num"><Ago at={task.expires_at} /></td>
                      </tr>
                    ))}
                  </tbody>
                </Table>
                {more && <p class="dim">These are the oldest; there are more.</p>}
              </>
            )}
        </Show>
      </Section>
    </>
  );
}
