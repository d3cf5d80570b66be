import { beforeEach, describe, expect, test, vi } from "vitest";
import { pretendBrowser } from "./page";

let browser: { address: () => string };

async function at(address: string) {
  vi.resetModules();
  browser = pretendBrowser(address);
  return import("../src/place");
}

beforeEach(() => vi.unstubAllGlobals());

describe("the address", () => {
  test("names with any character are one part each, there and back", async () => {
    const { to, partsOf } = await at("/dashboard");
    for (const name of ["a/b", "ü&?#", "..", "%2F", "<script>", " "]) {
      const link = to(["tasks", "worker", name]);
      const path = new URL(link, "http://localhost").pathname;
      // A browser takes `..` out of a path, whatever it is escaped as.
      if (name !== "..") expect(partsOf(path)).toEqual(["tasks", "worker", name]);
      expect(link.startsWith("/dashboard/tasks/worker/")).toBe(true);
    }
    expect(partsOf("/dashboard/tasks/worker/%E0%A4%A")).toEqual(["tasks", "worker", "%E0%A4%A"]);
  });

  test("a filter changes the query and nothing else", async () => {
    const { setQuery, search, parts } = await at("/dashboard/tasks?type=worker&cursor=t1");
    setQuery({ status: "SENT,DONE", cursor: undefined });
    expect(browser.address()).toBe("/dashboard/tasks?type=worker&status=SENT%2CDONE");
    expect(search.value.get("status")).toBe("SENT,DONE");
    expect(parts.value).toEqual(["tasks"]);
    setQuery({ type: "", status: "" });
    expect(browser.address()).toBe("/dashboard/tasks");
  });

  test("a link leaves out what is not set", async () => {
    const { to } = await at("/dashboard");
    expect(to([])).toBe("/dashboard");
    expect(to(["submit"], { type: "", from: undefined })).toBe("/dashboard/submit");
    expect(to(["tasks"], { q: "a b&c" })).toBe("/dashboard/tasks?q=a+b%26c");
  });

  test("all of it may be below a path of a proxy", async () => {
    const { prefixOf } = await import("../src/base");
    expect(prefixOf("https://ops.example/dashboard/assets/app.js?v=1")).toBe("");
    expect(prefixOf("https://ops.example/tools/tasker/dashboard/assets/app.js")).toBe("/tools/tasker");
    expect(prefixOf("https://ops.example/dashboard/dashboard/assets/app.js")).toBe("/dashboard");
    expect(prefixOf("file:///src/base.ts")).toBe("");
  });
});
