import type { JSX } from "preact";
import { query } from "../api";
import { Ago, Clear, Command, Empty, Page, Search, Show, State, Table, count } from "../parts";
import { FLEET } from "../codes";
import { Grid } from "../grid";
import { go, search, setQuery, to, withQuery } from "../place";
import { isThere, isTroubled, presence } from "../presence";
import { useResource } from "../resource";
import { selector } from "../selector";
import type { Endpoint, EndpointPage } from "../types";

const LIMIT = 100;

/** Endpoints from which on a grid says more than the table. */
const SHOWN_AS_GRID = 10;

const SHOWN = [["", "all"], ["away", "away"], ["trouble", "in trouble"]] as const;

export function EndpointsPage(): JSX.Element {
  const [match, show, cursor] = ["match", "show", "cursor"].map((name) => search.value.get(name) ?? "");
  const page = useResource<EndpointPage>("/endpoints" + query({ match: selector(match), cursor, limit: show === "" ? LIMIT : 1000 }), { every: 5000, watch: "endpoints" });
  return (
    <Page title="Endpoints">
      <div class="filters" role="search">
        <Search value={match} set={(next) => setQuery({ match: next, cursor: undefined })} label="Name or selector" placeholder="web* or site=berlin and not role=db" />
        <div class="chips" role="group" aria-label="Which endpoints">
          {SHOWN.map(([name, word]) => (
            <a key={name} class="chip" href={withQuery({ show: name, cursor: undefined })} aria-current={show === name ? "true" : undefined}>{word}</a>
          ))}
        </div>
        <Clear off={!(match || show)} href={to(["endpoints"])} />
      </div>
      {(page.data?.next_cursor != null || (page.data?.endpoints.length ?? 0) >= SHOWN_AS_GRID) && (
        <Grid base="/endpoints" topic="endpoints" codes={FLEET} label="The fleet" choose={(name) => go(to(["endpoints", name]))} />
      )}
      <Show of={page} lines={12}>
        {({ endpoints, next_cursor }) => {
          const shown = endpoints.filter((endpoint) => show === "" || (show === "away" ? !isThere(endpoint) : isTroubled(endpoint)));
          return (
            <>
              {shown.length === 0 ? <NoEndpoints filtered={match !== "" || show !== "" || cursor !== ""} more={next_cursor !== null} /> : <Rows endpoints={shown} />}
              <nav class="pages" aria-label="Pages of the list">
                {cursor && <a href={withQuery({ cursor: undefined })}>First</a>}
                {next_cursor && <a href={withQuery({ cursor: next_cursor })}>{show === "" ? `Next ${LIMIT}` : `Look through the next ${count(1000)}`}</a>}
              </nav>
            </>
          );
        }}
      </Show>
    </Page>
  );
}

function NoEndpoints({ filtered, more }: { filtered: boolean; more: boolean }): JSX.Element {
  if (filtered) {
    return (
      <Empty>
        <p>No endpoint {more ? "among these " : ""}fits.</p>
        <p><a href={to(["endpoints"])}>Show all endpoints</a></p>
      </Empty>
    );
  }
  return (
    <Empty>
      <p>No endpoint has been heard of yet. On each server, with a configuration that names the broker:</p>
      <Command>tasker listen --name web1</Command>
    </Empty>
  );
}

function Rows({ endpoints }: { endpoints: Endpoint[] }): JSX.Element {
  return (
    <Table label="Endpoints">
      <thead>
        <tr>
          <th scope="col" class="w-state">State</th>
          <th scope="col">Name</th>
          <th scope="col">Types</th>
          <th scope="col">Labels</th>
          <th scope="col">Version</th>
          <th scope="col" class="num">Heard of</th>
        </tr>
      </thead>
      <tbody>
        {endpoints.map((endpoint) => (
          <tr key={endpoint.name}>
            <td><State look={presence(endpoint)} title={endpoint.types.map((one) => one.trouble).filter(Boolean).join("\n") || undefined} /></td>
            <td class="name"><a class="row" href={to(["endpoints", endpoint.name])}>{endpoint.name}</a></td>
            <td class="cut">{endpoint.types.map((one) => one.type).join(", ")}</td>
            <td class="cut dim">{Object.entries(endpoint.labels ?? {}).map(([name, value]) => `${name}=${value}`).join("  ")}</td>
            <td class="dim">{endpoint.version}</td>
            <td class="num"><Ago at={endpoint.last_seen} /></td>
          </tr>
        ))}
      </tbody>
    </Table>
  );
}
