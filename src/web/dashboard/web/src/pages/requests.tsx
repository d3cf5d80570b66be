import type { JSX } from "preact";
import { query } from "../api";
import { Ago, Clear, Command, Empty, Page, Search, Show, State, Table, Took } from "../parts";
import { search, setQuery, to, withQuery } from "../place";
import { useResource } from "../resource";
import { requestLook } from "../state";
import { REQUEST_STATUSES, type RequestPage } from "../types";

export function RequestsPage(): JSX.Element {
  const [action, status, cursor] = ["action", "status", "cursor"].map((name) => search.value.get(name) ?? "");
  const page = useResource<RequestPage>("/requests" + query({ action, status, cursor, limit: 50 }), { every: 5000, watch: "requests" });
  const states = status === "" ? [] : status.split(",");
  const toggle = (word: string): string => {
    const next = states.includes(word) ? states.filter((state) => state !== word) : [...states, word];
    return withQuery({ status: REQUEST_STATUSES.filter((state) => next.includes(state)).join(","), cursor: undefined });
  };
  return (
    <Page title="Requests">
      <div class="filters" role="search">
        <Search value={action} set={(next) => setQuery({ action: next, cursor: undefined })} label="Action" />
        <div class="chips" role="group" aria-label="Status">
          {REQUEST_STATUSES.map((word) => (
            <a key={word} class={`chip ${requestLook(word).tone}`} href={toggle(word)} aria-current={states.includes(word) ? "true" : undefined}>
              <span class="glyph" aria-hidden="true">{requestLook(word).glyph}</span>
              {requestLook(word).word}
            </a>
          ))}
        </div>
        <Clear off={!(action || status)} href={to(["requests"])} />
      </div>
      <Show of={page} lines={12}>
        {({ requests, next_cursor }) => requests.length === 0
          ? action || status || cursor
            ? <Empty><p>No request fits these filters.</p><p><a href={to(["requests"])}>Show all requests</a></p></Empty>
            : (
              <Empty>
                <p>There is no request yet. A request has steps, one after the other, each of jobs that run at the same time:</p>
                <Command>{"tasker request ACTION --params '{}'"}</Command>
              </Empty>
            )
          : (
            <>
              <Table label="Requests">
                <thead>
                  <tr>
                    <th scope="col" class="w-state">Status</th>
                    <th scope="col">Request</th>
                    <th scope="col">Action</th>
                    <th scope="col" class="num">Step</th>
                    <th scope="col">Error</th>
                    <th scope="col" class="num roomy">Took</th>
                    <th scope="col" class="num">Submitted</th>
                  </tr>
                </thead>
                <tbody>
                  {requests.map((request) => (
                    <tr key={request.token}>
                      <td><State look={requestLook(request.status)} title={request.status} /></td>
                      <td class="name"><a class="row" href={to(["requests", request.token])}>{request.request_token ?? request.token}</a></td>
                      <td>{request.action}</td>
                      <td class="num">{Math.min(request.step + 1, request.steps.length)}/{request.steps.length}</td>
                      <td class="cut bad">{request.error}</td>
                      <td class="num roomy"><Took from={request.created} until={request.completed} /></td>
                      <td class="num"><Ago at={request.created} /></td>
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
