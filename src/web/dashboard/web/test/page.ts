/** What the modules of the page expect of a browser, as far as tests of them need it. */
import { vi } from "vitest";

export function pretendBrowser(address: string): { address: () => string } {
  let now = new URL(address, "http://localhost");
  const location = { get pathname() { return now.pathname; }, get search() { return now.search; }, get origin() { return now.origin; } };
  const move = (_state: unknown, _title: string, href: string): void => {
    now = new URL(href, now);
  };
  vi.stubGlobal("location", location);
  vi.stubGlobal("history", { pushState: move, replaceState: move });
  vi.stubGlobal("scrollTo", () => {});
  vi.stubGlobal("localStorage", { getItem: () => null, setItem: () => {} });
  vi.stubGlobal("document", { documentElement: { setAttribute: () => {}, removeAttribute: () => {} }, addEventListener: () => {}, hidden: false });
  vi.stubGlobal("addEventListener", () => {});
  return { address: () => now.pathname + now.search };
}
