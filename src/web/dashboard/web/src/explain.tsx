/** Why a task does not run, in the words of the interface. */
import type { JSX } from "preact";
import { path, query } from "./api";
import { Ago, Section, Show, When, count } from "./parts";
import { withQuery } from "./place";
import { useResource } from "./resource";
import type { Explanation, Reason, Task } from "./types";

/** Why a task does not run, or not at one endpoint. */
export function Explain({ task, endpoint }: { task: Task; endpoint?: string }): JSX.Element {
  const told = useResource<Explanation>(path`/${task.type}/${task.id}/explain` + query({ endpoint }), { every: 5000 });
  return (
    <Show of={told} lines={3}>
      {({ reasons, endpoints = [], uncounted = 0 }) => (
        <>
          {reasons.length === 0 && endpoints.length === 0 && <p class="dim">There is nothing in its way.</p>}
          <ul class="reasons">{reasons.map((reason, at) => <OneReason key={reason.code + at} reason={reason} />)}</ul>
          {endpoints.length > 0 && (
            <Section title="Endpoints by reason">
              <ul class="reasons">
                {endpoints.map((group) => (
                  <li key={group.code}>
                    <p><b>{count(group.count)}</b> <code>{group.code}</code></p>
                    <p>{group.example.text}</p>
                    <p class="dim names">
                      {group.endpoints.map((name, at) => [at > 0 && ", ", <a key={name} href={withQuery({ endpoint: name, tab: undefined })}>{name}</a>])}
                      {group.count > group.endpoints.length && ` and ${count(group.count - group.endpoints.length)} more`}
                    </p>
                  </li>
                ))}
              </ul>
              {uncounted > 0 && <p class="dim">{count(uncounted)} more were not looked at.</p>}
            </Section>
          )}
        </>
      )}
    </Show>
  );
}

function OneReason({ reason }: { reason: Reason }): JSX.Element {
  return (
    <li>
      <p>{reason.text}</p>
      <p class="dim">
        <code>{reason.code}</code>
        {reason.since && <> since <When at={reason.since} /></>}
        {reason.next && <> · next: {reason.next.what} {reason.next.at && <><Ago at={reason.next.at} /> (<When at={reason.next.at} />)</>}</>}
      </p>
    </li>
  );
}
