import type { JSX } from "preact";
import { useEffect, useId, useState } from "preact/hooks";
import { Problem, changeWithText, get, path, problemOf } from "../api";
import { CONFIRM_ABOVE, Empty, Page, Section, Show, Trouble, count } from "../parts";
import { go, search, setQuery, to } from "../place";
import { useResource } from "../resource";
import { Choose } from "../choose";
import { may } from "../session";
import { ALL, type Target, lack, members as targetMembers, targetOf } from "../target";
import { ledgerTime } from "../time";
import type { Preview, Task, TaskWithResponses, TypeInfo, TypeList } from "../types";

export function SubmitPage(): JSX.Element {
  const types = useResource<TypeList>("/types", { every: 60_000 });
  return (
    <Page title="New task">
      <Show of={types} lines={8}>
        {({ types, confirm_above }) => types.length === 0
          ? <Empty><p>No task type is configured that this token is good for.</p></Empty>
          : <Form types={types} confirmAbove={confirm_above} />}
      </Show>
    </Page>
  );
}

/** Whom the address means. */
function targetIn(query: URLSearchParams): Target {
  const [names, groups, match] = ["endpoints", "groups", "match"].map((name) => query.get(name) ?? "");
  if (names !== "") return { ...ALL, whom: "names", names };
  return groups === "" && match === "" ? ALL : { ...ALL, whom: "match", match, groups: groups.split(",").filter(Boolean) };
}

function Form({ types, confirmAbove }: { types: TypeInfo[]; confirmAbove: number }): JSX.Element {
  const query = search.value;
  const from = query.get("from");
  const info = types.find((info) => info.type === query.get("type")) ?? types[0];
  const [identifier, setIdentifier] = useState(fresh);
  const [payload, setPayload] = useState(() => text(info.example));
  const [touched, touch] = useState(false);
  const [target, setTarget] = useState(() => targetIn(query));
  const [preview, setPreview] = useState<Preview | undefined>();
  const [typed, setTyped] = useState("");
  const [problem, setProblem] = useState<Problem | undefined>();
  const [busy, setBusy] = useState(false);
  const ids = { identifier: useId(), type: useId(), payload: useId(), whom: useId() };

  useEffect(() => {
    if (!from) return;
    const asked = new AbortController();
    const [type, id] = [from.slice(0, from.indexOf("/")), from.slice(from.indexOf("/") + 1)];
    get<TaskWithResponses>(path`/${type}/${id}?responses=none`, asked.signal, true).then(({ task }) => {
      setQuery({ type: task.type });
      touch(true);
      setPayload(text(task.payload));
      setIdentifier(`${task.identifier.slice(0, 150)}-copy-${stamp()}`);
      setTarget(targetOf(task));
    }).catch((error) => error instanceof Problem && setProblem(error));
    return () => asked.abort();
  }, [from]);
  useEffect(() => {
    if (!touched) setPayload(text(info.example));
  }, [info.type]);
  // What was previewed is another task from here on.
  useEffect(() => setPreview(undefined), [info.type, payload, target, identifier]);

  const fault = faultOf(payload);
  const body = (): string => {
    const members = [`"identifier": ${JSON.stringify(identifier)}`];
    if (payload.trim() !== "") members.push(`"payload": ${payload.trim()}`);
    const chosen = info.delivery === "fanout" ? targetMembers(target) : {};
    members.push(...Object.entries(chosen).map(([name, value]) => `"${name}": ${JSON.stringify(value)}`));
    return `{${members.join(", ")}}`;
  };
  const send = async <T,>(dryRun: boolean): Promise<T> =>
    changeWithText<T>(path`/${info.type}` + (dryRun ? "?dry_run=true" : ""), body(), { "Tasker-Body": "envelope" });
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setProblem(undefined);
    try {
      if (info.delivery === "fanout" && !preview) setPreview(await send<Preview>(true));
      else {
        const task = await send<Task>(false);
        go(to(["tasks", task.type, task.identifier]));
      }
    } catch (error) {
      setProblem(problemOf(error));
    }
    setBusy(false);
  };
  const number = preview?.endpoints.length ?? 0;
  const many = preview !== undefined && number > Math.min(confirmAbove, CONFIRM_ABOVE);
  const lacking = info.delivery === "fanout" ? lack(target) : undefined;
  const held = busy || lacking !== undefined || fault !== undefined || !may("submit") || many && typed.trim() !== String(number) || preview !== undefined && number === 0;

  return (
    <form class="form" onSubmit={(event) => void submit(event)}>
      <label for={ids.type}>Task type</label>
      <select id={ids.type} value={info.type} onChange={(event) => setQuery({ type: event.currentTarget.value })}>
        {types.map((info) => <option key={info.type} value={info.type}>{info.type}{info.delivery === "queue" ? " (work queue)" : ""}</option>)}
      </select>

      <label for={ids.identifier}>Identifier</label>
      <input id={ids.identifier} value={identifier} maxLength={191} spellcheck={false} onInput={(event) => setIdentifier(event.currentTarget.value)} />

      <label for={ids.payload}>Payload</label>
      <div>
        <textarea
          id={ids.payload}
          class="code"
          rows={Math.min(20, Math.max(4, payload.split("\n").length + 1))}
          value={payload}
          spellcheck={false}
          aria-invalid={fault !== undefined}
          onInput={(event) => {
            touch(true);
            setPayload(event.currentTarget.value);
          }}
        />
        <p class={fault ? "bad" : "dim"} role={fault ? "alert" : undefined}>{fault ?? "JSON, handed to the handler byte for byte."}</p>
        {info.schema !== null && info.schema !== undefined && (
          <details>
            <summary>What it must satisfy</summary>
            <pre tabIndex={0}>{JSON.stringify(info.schema, null, 2)}</pre>
          </details>
        )}
      </div>

      {info.delivery === "fanout" && (
        <>
          <span class="label" id={ids.whom}>For</span>
          <Choose target={target} set={(change) => setTarget({ ...target, ...change })} labelledby={ids.whom} />
        </>
      )}

      <span />
      <div>
        {lacking && <p class="warn">△ {lacking}</p>}
        {preview && <Whose preview={preview} />}
        {many && (
          <p>
            <label>Type the number {number} to submit it <input value={typed} inputMode="numeric" autocomplete="off" onInput={(event) => setTyped(event.currentTarget.value)} /></label>
          </p>
        )}
        {problem && <Trouble problem={problem} />}
        <button type="submit" class="primary" disabled={held} title={may("submit") ? undefined : "This needs a token with the scope `submit`"}>
          {info.delivery === "queue" ? "Submit" : preview ? `Submit to ${count(number)} ${number === 1 ? "endpoint" : "endpoints"}` : "Preview"}
        </button>
      </div>
    </form>
  );
}

/** Whom it would be for, before it is. */
function Whose({ preview }: { preview: Preview }): JSX.Element {
  const { endpoints, left_out, unmatched, warnings } = preview;
  return (
    <Section title={endpoints.length === 1 ? "1 endpoint would perform it" : `${count(endpoints.length)} endpoints would perform it`}>
      {endpoints.length > 0 && <p class="names">{endpoints.slice(0, 30).join(", ")}{endpoints.length > 30 && ` and ${count(endpoints.length - 30)} more`}</p>}
      {endpoints.length === 0 && <p class="warn">△ Nobody would: no endpoint that fits is subscribed to the type now.</p>}
      {left_out.length > 0 && (
        <ul class="notes">
          {left_out.slice(0, 10).map((one) => <li key={one.name}>△ {one.name} would not: {one.reason.replaceAll("_", " ")}</li>)}
          {left_out.length > 10 && <li>and {count(left_out.length - 10)} more</li>}
        </ul>
      )}
      {unmatched > 0 && <p class="dim">{count(unmatched)} of the type {unmatched === 1 ? "is" : "are"} not meant.</p>}
      {warnings.map((warning) => <p key={warning} class="warn">△ {warning}</p>)}
    </Section>
  );
}

const stamp = (): string => new Date(ledgerTime()).toISOString().slice(0, 19).replaceAll(":", "").replace("T", "-");

const fresh = (): string => `task-${stamp()}`;

const text = (value: unknown): string => (value === undefined || value === null ? "{}" : JSON.stringify(value, null, 2));

function faultOf(payload: string): string | undefined {
  if (payload.trim() === "") return undefined;
  try {
    JSON.parse(payload);
    return undefined;
  } catch (error) {
    return `This is not JSON: ${error instanceof Error ? error.message : String(error)}`;
  }
}
