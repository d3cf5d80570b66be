/** Chooses whom a task is for. */
import type { JSX } from "preact";
import { useId } from "preact/hooks";
import { to } from "./place";
import { useResource } from "./resource";
import { mayAllTypes } from "./session";
import type { Target } from "./target";
import type { GroupList } from "./types";

const WHOM: [Target["whom"], string][] = [
  ["all", "all endpoints of the type"],
  ["match", "those that fit a selector or are in a group"],
  ["names", "these endpoints"],
];

export function Choose({ target, set, labelledby }: { target: Target; set: (change: Partial<Target>) => void; labelledby: string }): JSX.Element {
  const { whom, names, match, exclude, part, size, known } = target;
  const ids = { match: useId(), exclude: useId(), part: useId() };
  return (
    <div class="choose">
      <div role="radiogroup" aria-labelledby={labelledby}>
        {WHOM.map(([value, word]) => (
          <label key={value} class="check"><input type="radio" name="whom" checked={whom === value} onChange={() => set({ whom: value })} /> {word}</label>
        ))}
      </div>
      {whom === "names" && (
        <textarea aria-label="Names of endpoints" rows={4} value={names} placeholder="One a line, or with spaces between them" spellcheck={false} onInput={(event) => set({ names: event.currentTarget.value })} />
      )}
      {whom === "match" && (
        <>
          <label for={ids.match}>Selector</label>
          <input id={ids.match} value={match} placeholder="site=berlin and not role=db" spellcheck={false} onInput={(event) => set({ match: event.currentTarget.value })} />
          <Groups chosen={target.groups} choose={(groups) => set({ groups })} />
        </>
      )}
      {whom !== "names" && (
        <>
          <label for={ids.exclude}>Except</label>
          <input id={ids.exclude} value={exclude} placeholder="Nobody; or a selector such as role=db" spellcheck={false} onInput={(event) => set({ exclude: event.currentTarget.value })} />
          <label for={ids.part}>How many</label>
          <div class="filters">
            <select id={ids.part} value={part} onChange={(event) => set({ part: event.currentTarget.value as Target["part"] })}>
              <option value="">all of them</option>
              <option value="percent">a percentage</option>
              <option value="limit">at most</option>
            </select>
            {part !== "" && (
              <>
                <input type="number" aria-label={part === "percent" ? "Percent of them" : "So many at most"} min={1} max={part === "percent" ? 100 : undefined} value={size} onInput={(event) => set({ size: event.currentTarget.value })} />
                {part === "percent" ? "% of them" : "of them"}
              </>
            )}
          </div>
          <label class="check"><input type="checkbox" checked={known} onChange={(event) => set({ known: event.currentTarget.checked })} /> also those that are stopped: they get it when they are back in time</label>
        </>
      )}
    </div>
  );
}

/** Stored groups: its endpoints are meant beside those of the selector. */
function Groups({ chosen, choose }: { chosen: string[]; choose: (groups: string[]) => void }): JSX.Element | null {
  const id = useId();
  // Groups are about all types, so a token that is limited to some cannot read them.
  const list = useResource<GroupList>(mayAllTypes() ? "/groups" : null, { every: 60_000 });
  const groups = list.data?.groups.map((group) => group.name) ?? [];
  if (groups.length === 0 && chosen.length === 0) return <p class="dim">No group is stored. <a href={to(["groups"])}>Groups</a> give selectors a name.</p>;
  return (
    <>
      <label for={id}>Groups</label>
      <div class="filters">
        {chosen.map((name) => (
          <button key={name} type="button" class="chip" title={groups.includes(name) ? undefined : "No such group is stored"} aria-label={`Without the group ${name}`} onClick={() => choose(chosen.filter((one) => one !== name))}>
            @{name} <span aria-hidden="true">✕</span>
          </button>
        ))}
        <select id={id} value="" onChange={(event) => event.currentTarget.value && choose([...chosen, event.currentTarget.value])}>
          <option value="">Add a group</option>
          {groups.filter((name) => !chosen.includes(name)).map((name) => <option key={name} value={name}>{name}</option>)}
        </select>
      </div>
    </>
  );
}
