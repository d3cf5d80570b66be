import { beforeAll, describe, expect, test } from "vitest";
import { pretendBrowser } from "./page";

beforeAll(() => void pretendBrowser("/dashboard"));

describe("spans", () => {
  test.each([
    [0, "0 ms"],
    [340, "340 ms"],
    [1_000, "1 s"],
    [59_400, "59 s"],
    [60_000, "1 m"],
    [200_000, "3 m 20 s"],
    [3_600_000, "1 h"],
    [5_400_000, "1 h 30 m"],
    [172_800_000, "2 d"],
    [-5_000, "0 ms"],
  ])("%i ms are %s", async (ms, words) => {
    const { span } = await import("../src/time");
    expect(span(ms)).toBe(words);
  });

  test("the middle of some", async () => {
    const { median } = await import("../src/time");
    expect([[5], [9, 1, 5], [4, 1, 2, 3]].map(median)).toEqual([5, 5, 2.5]);
  });

  test("a moment is told from now", async () => {
    const { relative } = await import("../src/time");
    expect(relative(1_000, 61_000)).toBe("1 m ago");
    expect(relative(61_000, 1_000)).toBe("in 1 m");
    expect(relative(1_000, 1_900)).toBe("now");
    expect([729, 730, 2424].map((days) => relative(0, days * 86_400_000))).toEqual(["729 d ago", "2 y ago", "6 y ago"]);
  });
});

describe("selectors", () => {
  test.each([
    ["", ""],
    ["web", "name=*web*"],
    ["web*", "name=web*"],
    ["site=berlin", "site=berlin"],
    ["!site", "!site"],
    ["@web", "@web"],
    ["version~\"^1\"", "version~\"^1\""],
    ["site in (a, b)", "site in (a, b)"],
  ])("%s asks for %s", async (typed, asked) => {
    const { selector } = await import("../src/selector");
    expect(selector(typed)).toBe(asked);
  });
});

describe("paths of the interface", () => {
  test("what stands in them is escaped", async () => {
    const { path, query } = await import("../src/api");
    expect(path`/${"worker"}/${"a/b?c"}/responses`).toBe("/worker/a%2Fb%3Fc/responses");
    expect(query({ state: "", limit: 100, q: "a&b", cursor: undefined })).toBe("?limit=100&q=a%26b");
  });
});

describe("the health of the platform", () => {
  test("the worst comes first", async () => {
    const { health } = await import("../src/pages/overview");
    const well = { ready: { ready: true, database: "ok", broker: "ok" }, readyFails: false, paused: 0, incomplete: 0, troubled: 0, ended: 0, failed: 0 };
    expect(health(well)).toEqual({ text: "All is well.", tone: "ok" });
    expect(health({ ...well, ended: 10, failed: 4 }).text).toBe("All is well.");
    expect(health({ ...well, ended: 10, failed: 5 }).text).toBe("The platform works; 5 of the last 10 tasks that ended failed.");
    expect(health({ ...well, troubled: 1, paused: 2 }).text).toBe("The platform works; 1 endpoint is in trouble, 2 queues are paused.");
    expect(health({ ...well, troubled: 1, ready: { ready: false, database: "read-only", broker: "ok" } }).tone).toBe("bad");
    expect(health({ ...well, ready: undefined, readyFails: true }).tone).toBe("bad");
  });
});
