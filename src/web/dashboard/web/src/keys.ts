/** The keyboard: `g` and a letter goes somewhere, the others act on what is shown. Can be switched off in the settings. */
import { signal } from "@preact/signals";
import { go, to } from "./place";
import { nextTheme, paused, shortcuts } from "./settings";

export const help = signal(false);

export const GO: Record<string, [string, string[]]> = {
  o: ["Overview", []],
  t: ["Tasks", ["tasks"]],
  e: ["Endpoints", ["endpoints"]],
  g: ["Groups", ["groups"]],
  q: ["Queues", ["queues"]],
  s: ["Schedules", ["schedules"]],
  w: ["Rollouts", ["rollouts"]],
  r: ["Requests", ["requests"]],
  f: ["Render farm", ["render"]],
  n: ["New task", ["submit"]],
  a: ["Audit", ["audit"]],
  ",": ["Settings", ["settings"]],
};

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName));

/** Links of the rows of the list that is shown. */
const rows = (): HTMLElement[] => [...document.querySelectorAll<HTMLElement>("main tbody a.row")];

function step(by: number): void {
  const all = rows();
  if (all.length === 0) return;
  const at = all.indexOf(document.activeElement as HTMLElement);
  const next = at === -1 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1);
  all[next].focus();
  all[next].scrollIntoView({ block: "nearest" });
}

export function listen(): void {
  let going = 0;
  document.addEventListener("keydown", (event) => {
    if (shortcuts.value === "off" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && isTyping(event.target) && !document.querySelector("dialog[open]")) {
      (event.target as HTMLElement).blur();
      return;
    }
    if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const wasGoing = Date.now() - going < 1500;
    going = 0;
    if (wasGoing && GO[event.key]) {
      event.preventDefault();
      go(to(GO[event.key][1]));
      return;
    }
    switch (event.key) {
      case "g":
        going = Date.now();
        return;
      case "/": {
        const search = document.querySelector<HTMLInputElement>("main input[type=search]");
        if (!search) return;
        event.preventDefault();
        search.focus();
        search.select();
        return;
      }
      case "j":
        return step(1);
      case "k":
        return step(-1);
      case "p":
        paused.value = !paused.value;
        return;
      case "t":
        return nextTheme();
      case "?":
        help.value = true;
        return;
    }
  });
}
