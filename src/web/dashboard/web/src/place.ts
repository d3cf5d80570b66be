/** Where one is: the path below `/dashboard` and its query. Filters, tabs and selections live there, so that every view has a link. */
import { computed, signal } from "@preact/signals";
import { PREFIX } from "./base";

export const ROOT = `${PREFIX}/dashboard`;

const read = (): string => location.pathname + location.search;

const here = signal(read());

/** Parts of the path, unescaped; none at the overview. */
export const parts = computed<string[]>(() => partsOf(here.value.split("?")[0]));

/** The query. */
export const search = computed(() => new URLSearchParams(here.value.split("?")[1] ?? ""));

export function partsOf(pathname: string): string[] {
  const rest = pathname.startsWith(ROOT) ? pathname.slice(ROOT.length) : pathname;
  return rest.split("/").filter((part) => part !== "").map(unescape);
}

function unescape(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** A link to a place; what stands in the path is escaped. */
export function to(names: string[], values: Record<string, string | undefined> = {}): string {
  const set = Object.entries(values).filter(([, value]) => value !== undefined && value !== "") as [string, string][];
  const text = set.length === 0 ? "" : `?${new URLSearchParams(set)}`;
  return [ROOT, ...names.map(encodeURIComponent)].join("/") + text;
}

export function go(href: string, replace = false): void {
  if (href === read()) return;
  if (replace) history.replaceState(null, "", href);
  else history.pushState(null, "", href);
  const path = here.value.split("?")[0];
  here.value = read();
  // Another page begins at its top; another filter of the same page stays where it is.
  if (!replace && path !== location.pathname) scrollTo(0, 0);
}

/** The same place with another query. What is undefined or empty goes. */
export function withQuery(changes: Record<string, string | undefined>): string {
  const next = new URLSearchParams(search.value);
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined || value === "") next.delete(name);
    else next.set(name, value);
  }
  const text = next.toString();
  return location.pathname + (text === "" ? "" : `?${text}`);
}

export const setQuery = (changes: Record<string, string | undefined>, replace = true): void => go(withQuery(changes), replace);

/** Follows links within the page without loading it again. */
export function followLinks(): void {
  addEventListener("popstate", () => {
    here.value = read();
  });
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest?.("a");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.pathname !== ROOT && !link.pathname.startsWith(`${ROOT}/`) || link.pathname.startsWith(`${ROOT}/assets/`)) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
