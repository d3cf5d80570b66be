import type { JSX } from "preact";
import { useEffect, useId, useState } from "preact/hooks";
import { type Problem, change, get, isAbort, path, problemOf, query } from "../api";
import { Action, Ago, Clear, Command, Confirm, Empty, Page, Search, Show, Table, count, say } from "../parts";
import { search, setQuery, to, withQuery } from "../place";
import { useResource } from "../resource";
import type { EndpointPage, Group, GroupList } from "../types";

/** Groups on a page. */
const LIMIT = 50;

/** Endpoints that are counted of a group. */
const COUNTED = 1000;

/** What is asked about a group, or about a new one. */
type Asking = { what: "write" | "delete"; group?: Group };

export function GroupsPage(): JSX.Element {
  const list = useResource<GroupList>("/groups", { every: 10_000 });
  const [asking, ask] = useState<Asking | undefined>();
  const q = search.value.get("q") ?? "";
  const groups = (list.data?.groups ?? []).filter(({ name, match }) => `${name} ${match}`.toLowerCase().includes(q.toLowerCase()));
  const begin = Math.min(Math.max(0, Number(search.value.get("begin") ?? 0) || 0), Math.max(0, groups.length - 1));
  const shown = groups.slice(begin, begin + LIMIT);
  const sizes = useSizes(shown.map((group) => group.match));
  const close = (): void => ask(undefined);
  return (
    <Page title="Groups" actions={<Action needs="admin" kind="primary" run={() => ask({ what: "write" })}>New group …</Action>}>
      {(list.data?.groups.length ?? 0) > 0 && (
        <div class="filters" role="search">
          <Search value={q} set={(next) => setQuery({ q: next, begin: undefined })} label="Name or selector" />
          <Clear off={q === ""} href={to(["groups"])} />
        </div>
      )}
      <Show of={list} lines={8}>
        {(told) => told.groups.length === 0
          ? (
            <Empty>
              <p>There is no group yet. A group gives a selector a name, so that everybody who writes the name means the same endpoints:</p>
              <Command>tasker group set web 'role=web and not site=lab'</Command>
            </Empty>
          )
          : groups.length === 0
          ? <Empty><p>No group fits.</p><p><a href={to(["groups"])}>Show all groups</a></p></Empty>
          : (
            <>
              <Table label="Groups">
                <thead>
                  <tr>
                    <th scope="col">Group</th>
                    <th scope="col">Selector</th>
                    <th scope="col" class="num">Endpoints now</th>
                    <th scope="col" class="num roomy">Changed</th>
                    <th scope="col" class="roomy">By</th>
                    <th scope="col"><span class="hidden">Actions</span></th>
                  </tr>
                </thead>
                <tbody>
                  {shown.map((group) => (
                    <tr key={group.name}>
                      <td class="cut"><a class="row" href={to(["endpoints"], { match: `@${group.name}` })}>{group.name}</a></td>
                      <td class="wrap"><code>{group.match}</code></td>
                      <td class="num"><Size of={sizes[group.match]} /></td>
                      <td class="num roomy"><Ago at={group.changed_at} /></td>
                      <td class="cut dim roomy">{group.changed_by ?? "–"}</td>
                      <td class="acts">
                        <a class="button" href={to(["submit"], { groups: group.name })}>New task</a>
                        <Action needs="admin" run={() => ask({ what: "write", group })}>Change …</Action>
                        <Action needs="admin" kind="danger" run={() => ask({ what: "delete", group })}>Delete …</Action>
                      </td>
                    </tr>
                  ))}
                </tbody>
              </Table>
              <nav class="pages" aria-label="Pages of the list">
                {begin > 0 && <a href={withQuery({ begin: begin > LIMIT ? String(begin - LIMIT) : undefined })}>Previous {LIMIT}</a>}
                {begin + LIMIT < groups.length && <a href={withQuery({ begin: String(begin + LIMIT) })}>Next {LIMIT}</a>}
              </nav>
            </>
          )}
      </Show>
      {asking?.what === "write" && <Write group={asking.group} taken={list.data?.groups.map((group) => group.name) ?? []} again={list.again} close={close} />}
      {asking?.what === "delete" && asking.group && <Delete group={asking.group} again={list.again} close={close} />}
    </Page>
  );
}

/** A number of endpoints, the largest that is told, or why there is none. */
type Sized = { number: number; more: boolean } | Problem;

async function size(match: string, signal: AbortSignal): Promise<Sized> {
  try {
    const { endpoints, next_cursor } = await get<EndpointPage>("/endpoints" + query({ match, limit: COUNTED }), signal);
    return { number: endpoints.length, more: next_cursor !== null };
  } catch (error) {
    if (isAbort(error)) throw error;
    return problemOf(error);
  }
}

/** How many endpoints fit each selector, one asked after the other: each question reads the fleet. */
function useSizes(matches: string[]): Record<string, Sized | undefined> {
  const [sizes, setSizes] = useState<Record<string, Sized | undefined>>({});
  const all = matches.join("\n");
  useEffect(() => {
    const asked = new AbortController();
    void (async () => {
      for (const match of matches) {
        const told = await size(match, asked.signal);
        setSizes((before) => ({ ...before, [match]: told }));
      }
    })().catch(() => {});
    return () => asked.abort();
  }, [all]);
  return sizes;
}

function Size({ of }: { of: Sized | undefined }): JSX.Element {
  if (!of) return <span class="dim">…</span>;
  if (of instanceof Error) return <span class="warn" title={of.message}>△</span>;
  return <>{count(of.number)}{of.more && "+"}</>;
}

interface Dialog {
  again: () => void;
  close: () => void;
}

function Write({ group, taken, again, close }: Dialog & { group?: Group; taken: string[] }): JSX.Element {
  const [name, setName] = useState(group?.name ?? "");
  const [match, setMatch] = useState(group?.match ?? "");
  const [found, setFound] = useState<Sized | undefined>();
  const ids = { name: useId(), match: useId() };
  useEffect(() => {
    setFound(undefined);
    if (match.trim() === "") return;
    const asked = new AbortController();
    const timer = setTimeout(() => size(match.trim(), asked.signal).then(setFound, () => {}), 300);
    return () => {
      clearTimeout(timer);
      asked.abort();
    };
  }, [match]);
  const there = !group && taken.includes(name.trim());
  const run = async (): Promise<void> => {
    await change("PUT", path`/groups/${name.trim()}`, { match: match.trim() });
    say(group ? `${name} is changed.` : `${name.trim()} is stored.`);
    again();
  };
  return (
    <Confirm
      title={group ? `Change ${group.name}` : "New group"}
      act={group ? "Change the group" : "Store the group"}
      disabled={name.trim() === "" || match.trim() === "" || there || found instanceof Error}
      run={run}
      close={close}
    >
      {!group && (
        <div class="field">
          <label for={ids.name}>Name</label>
          <input id={ids.name} value={name} maxLength={64} spellcheck={false} autocomplete="off" placeholder="web" onInput={(event) => setName(event.currentTarget.value)} />
          {there && <span class="bad" role="alert">There is a group of this name: change that one.</span>}
        </div>
      )}
      <div class="field">
        <label for={ids.match}>Selector</label>
        <textarea id={ids.match} class="code" rows={3} value={match} spellcheck={false} placeholder="role=web and not site=lab" onInput={(event) => setMatch(event.currentTarget.value)} />
        <span class={found instanceof Error ? "bad" : "dim"} role="status">{meant(match, found)}</span>
      </div>
      {group && <p class="dim">Tasks that are submitted from then on mean the new endpoints. Tasks that were submitted before keep theirs.</p>}
    </Confirm>
  );
}

function meant(match: string, found: Sized | undefined): string {
  if (match.trim() === "") return "Over the labels of endpoints, and over name, version, os and arch.";
  if (!found) return "…";
  if (found instanceof Error) return "errors" in found && found.errors[0] ? found.errors[0].message : found.message;
  return `${count(found.number)}${found.more ? " or more" : ""} ${found.number === 1 ? "endpoint fits" : "endpoints fit"} now.`;
}

function Delete({ group, again, close }: Dialog & { group: Group }): JSX.Element {
  const run = async (): Promise<void> => {
    await change("DELETE", path`/groups/${group.name}`);
    say(`${group.name} is deleted.`);
    again();
  };
  return (
    <Confirm title={`Delete ${group.name}?`} act="Delete the group" danger run={run} close={close}>
      <p>Tasks and rollouts that name it are refused from then on. Those that were submitted before keep their endpoints.</p>
      <p class="dim">Its selector: <code>{group.match}</code></p>
    </Confirm>
  );
}
