/** JSON as a tree: its parts fold, and all of it can be copied. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { Copy, PIECE, Text, count } from "./parts";

/** Members of one list or object that are shown at once. */
const SHOWN = 100;

/** Down to this depth everything is unfolded, unless it is long. */
const OPEN = 2;

/** Members that are unfolded by themselves below the first level. */
const SHORT = 20;

/** What has no members with members, and is no longer than this, stands in one line. */
const LINE = 60;

type Raw = { isRawJSON?: (value: unknown) => boolean };

/** Whether a value has members. A number that is kept as it was written is an object only to the language. */
export const hasMembers = (value: unknown): value is object =>
  typeof value === "object" && value !== null && !(JSON as Raw).isRawJSON?.(value);

export function Json({ value }: { value: unknown }): JSX.Element {
  if (typeof value === "string") return <Text>{value}</Text>;
  const text = (): string => JSON.stringify(value, null, 2) ?? "";
  if (!hasMembers(value)) return <Text>{text()}</Text>;
  return (
    <div class="json">
      <Copy text={text} />
      <Node value={value} depth={0} />
    </div>
  );
}

function Node({ name, value, depth }: { name?: string; value: unknown; depth: number }): JSX.Element {
  const key = name !== undefined && <><span class="key">{name}</span>: </>;
  if (!hasMembers(value)) {
    if (typeof value === "string" && value.length > PIECE) return <div class="leaf">{key}<Text>{value}</Text></div>;
    const tone = typeof value === "string" ? "text" : value === null ? "nothing" : "plain";
    return <div class={`leaf ${tone}`}>{key}{JSON.stringify(value)}</div>;
  }
  const [begin, end] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  const line = inLine(value);
  if (line !== undefined) return <div class="leaf">{key}{line}</div>;
  const number = Object.keys(value).length;
  return <Branch key={name} head={<>{key}{begin}</>} end={end} value={value} depth={depth} number={number} />;
}

/** A short list or object as its text. */
export function inLine(value: object): string | undefined {
  const members = Object.values(value);
  const isLong = (member: unknown): boolean => hasMembers(member) || typeof member === "string" && member.length > LINE;
  if (members.length > LINE / 4 || members.some(isLong)) return undefined;
  const text = JSON.stringify(value);
  return text.length <= LINE ? text : undefined;
}

/** Members are made only where they are seen: a payload may have a hundred thousand of them. */
function Branch({ head, end, value, depth, number }: { head: JSX.Element; end: string; value: object; depth: number; number: number }): JSX.Element {
  const [open, setOpen] = useState(depth === 0 || depth < OPEN && number <= SHORT);
  const [shown, show] = useState(SHOWN);
  const isList = Array.isArray(value);
  return (
    <details open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{head}{!open && <span class="dim"> {count(number)} {isList ? "elements" : "members"} {end}</span>}</summary>
      {open && (
        <>
          <div class="members">
            {Object.entries(value).slice(0, shown).map(([name, member]) => (
              <Node key={name} name={isList ? undefined : JSON.stringify(name)} value={member} depth={depth + 1} />
            ))}
            {number > shown && <button type="button" class="quiet" onClick={() => show(shown + 10 * SHOWN)}>Show more ({count(number - shown)} are left)</button>}
          </div>
          {end}
        </>
      )}
    </details>
  );
}
