import type { JSX } from "preact";
import { query } from "../api";
import { Clear, Command, Empty, Page, Search, Show, Table, When } from "../parts";
import { search, setQuery, to, withQuery } from "../place";
import { useResource } from "../resource";
import { ACTIONS, type AuditPage as Log } from "../types";

export function AuditPage(): JSX.Element {
  const [actor, action, before] = ["actor", "action", "before"].map((name) => search.value.get(name) ?? "");
  const page = useResource<Log>("/audit" + query({ actor, action, before, limit: 50 }), { every: 10_000 });
  return (
    <Page title="Audit">
      <div class="filters" role="search">
        <Search value={actor} set={(next) => setQuery({ actor: next, before: undefined })} label="Token" />
        <div class="chips" role="group" aria-label="Action">
          {ACTIONS.map((word) => (
            <a
              key={word}
              class="chip"
              href={withQuery({ action: action === `${word}.` ? undefined : `${word}.`, before: undefined })}
              aria-current={action === `${word}.` ? "true" : undefined}
            >
              {word}
            </a>
          ))}
        </div>
        <Clear off={!(actor || action)} href={to(["audit"])} />
      </div>
      <Show of={page} lines={12}>
        {({ entries, more, head }) => (
          <>
            {entries.length === 0
              ? <Empty><p>No entry fits these filters.</p><p><a href={to(["audit"])}>Show all entries</a></p></Empty>
              : (
                <Table label="Audit log">
                  <thead>
                    <tr>
                      <th scope="col" class="num roomy">Entry</th>
                      <th scope="col">At</th>
                      <th scope="col">Token</th>
                      <th scope="col">Action</th>
                      <th scope="col">Subject</th>
                      <th scope="col">From</th>
                      <th scope="col">Detail</th>
                    </tr>
                  </thead>
                  <tbody>
                    {entries.map((entry) => (
                      <tr key={entry.seq}>
                        <td class="num roomy" title={entry.hash}>{entry.seq}</td>
                        <td><When at={entry.at} /></td>
                        <td>{entry.actor}</td>
                        <td>{entry.action}</td>
                        <td class="cut">{entry.subject}</td>
                        <td>{entry.source}</td>
                        <td class="cut">{entry.detail == null ? "" : JSON.stringify(entry.detail)}</td>
                      </tr>
                    ))}
                  </tbody>
                </Table>
              )}
            <nav class="pages" aria-label="Pages of the log">
              {before && <a href={withQuery({ before: undefined })}>Newest</a>}
              {more && entries.length > 0 && <a href={withQuery({ before: String(entries[entries.length - 1].seq) })}>Older</a>}
            </nav>
            <p class="dim">{head.seq} entries, each with the hash of the one before it. This page does not check them:</p>
            <Command>tasker audit verify --anchor FILE</Command>
          </>
        )}
      </Show>
    </Page>
  );
}
