import type { JSX } from "preact";
import { PREFIX } from "../base";
import { Page, Section, When } from "../parts";
import { ROOT } from "../place";
import { session } from "../session";
import { THEMES, shortcuts, theme, zone } from "../settings";
import type { Signal } from "@preact/signals";

export function SettingsPage(): JSX.Element {
  const who = session.value;
  return (
    <Page title="Settings">
      <Choice title="Theme" of={theme} choices={THEMES.map((name) => [name, name === "system" ? "as the system" : name])} />
      <Choice title="Times" of={zone} choices={[["local", "this machine's zone"], ["utc", "UTC"]]} />
      <Choice title="Keyboard shortcuts" of={shortcuts} choices={[["on", "on (? lists them)"], ["off", "off"]]} />
      <Section title="Session">
        {who && (
          <dl class="facts">
            <dt>Token</dt>
            <dd>{who.name ?? "none is needed here"}</dd>
            <dt>Scopes</dt>
            <dd>{who.scopes.join(", ")}</dd>
            <dt>Task types</dt>
            <dd>{who.task_types.length > 0 ? who.task_types.join(", ") : "all"}</dd>
            <dt>Ends</dt>
            <dd><When at={who.expires_at} /></dd>
            <dt>tasker</dt>
            <dd>{who.version} · <a href={`${PREFIX}/openapi.json`} target="_blank" rel="noreferrer">OpenAPI</a> · <a href={`${ROOT}/assets/licenses.txt`} target="_blank" rel="noreferrer">Licences</a></dd>
          </dl>
        )}
      </Section>
    </Page>
  );
}

function Choice<T extends string>({ title, of, choices }: { title: string; of: Signal<T>; choices: (readonly [T, string])[] }): JSX.Element {
  return (
    <fieldset class="choice">
      <legend>{title}</legend>
      {choices.map(([value, word]) => (
        <label key={value} class="check">
          <input type="radio" name={title} checked={of.value === value} onChange={() => (of.value = value)} /> {word}
        </label>
      ))}
    </fieldset>
  );
}
