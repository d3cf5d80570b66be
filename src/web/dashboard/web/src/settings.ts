/** What one has chosen, kept in this browser. */
import { effect, signal, type Signal } from "@preact/signals";

function kept<T extends string>(name: string, values: readonly T[]): Signal<T> {
  const key = `tasker.${name}`;
  let before: string | null = null;
  try {
    before = localStorage.getItem(key);
  } catch {
    // A browser may keep nothing.
  }
  const chosen = signal<T>(values.find((value) => value === before) ?? values[0]);
  effect(() => {
    try {
      localStorage.setItem(key, chosen.value);
    } catch {
      // As above.
    }
  });
  return chosen;
}

export const THEMES = ["system", "light", "dark"] as const;
export const theme = kept("theme", THEMES);
export const zone = kept("zone", ["local", "utc"] as const);
export const shortcuts = kept("shortcuts", ["on", "off"] as const);

/** Whether updates are held back. Not kept: a page that was left paused says nothing that is true. */
export const paused = signal(false);

effect(() => {
  const root = document.documentElement;
  if (theme.value === "system") root.removeAttribute("data-theme");
  else root.setAttribute("data-theme", theme.value);
});

export function nextTheme(): void {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length];
}
