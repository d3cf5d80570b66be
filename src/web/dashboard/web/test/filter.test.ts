import { beforeAll, describe, expect, test } from "vitest";
import type { Filter } from "../src/filter";
import { pretendBrowser } from "./page";

beforeAll(() => void pretendBrowser("/dashboard"));

const NONE: Filter = { type: "", status: [], identifier: "" };

describe("acting on all tasks of a filter", () => {
  test("a filter is told as the interface takes it", async () => {
    const { toCancel, toRequeue } = await import("../src/filter");
    expect(toCancel({ ...NONE, type: "worker", identifier: "nightly-" })).toEqual({ type: ["worker"], identifier: "nightly-" });
    expect(toCancel({ ...NONE, since: "2026-11-29T00:00:00Z" })).toEqual({ since: "2026-11-29T00:00:00Z" });
    expect(toRequeue({ ...NONE, type: "builds", status: ["SENT"], identifier: "image-" }, ["failed"])).toEqual({ only: ["failed"], identifier: "image-" });
  });

  test("only what is open is canceled", async () => {
    const { toCancel } = await import("../src/filter");
    expect(toCancel({ ...NONE, status: ["CREATED", "DONE"] })).toEqual({ status: ["CREATED"] });
    expect(toCancel({ ...NONE, status: ["DONE", "EXPIRED"] })).toBeUndefined();
    expect(toCancel({ ...NONE, status: ["SENT"], failed: true })).toBeUndefined();
  });

  test("what the list shows is offered to be queued again", async () => {
    const { waysOf } = await import("../src/filter");
    expect(waysOf(NONE)).toEqual(["failed"]);
    expect(waysOf({ ...NONE, status: ["SENT"] })).toEqual(["failed"]);
    expect(waysOf({ ...NONE, status: ["CANCELED", "EXPIRED", "DONE"] })).toEqual(["failed", "expired", "canceled"]);
    expect(waysOf({ ...NONE, status: ["CANCELED", "DONE"], failed: true })).toEqual(["failed"]);
  });

  test("it is said in words", async () => {
    const { filterWords } = await import("../src/filter");
    expect(filterWords({ type: "worker", status: ["CREATED", "SENT"], identifier: "a", since: "x", sinceWord: "last hour" })).toBe(
      "of type worker, that are waiting or running, whose identifier begins with “a”, submitted in the last hour",
    );
    expect(filterWords({ ...NONE, type: "worker", failed: true })).toBe("of type worker, that failed for an endpoint");
  });

  test("chips tell how many tasks are open, as far as that is known", async () => {
    const { openOf } = await import("../src/filter");
    const counts = { open: [{ type: "a", status: "SENT" as const, count: 2, oldest: "x" }, { type: "b", status: "SENT" as const, count: 3, oldest: "x" }] };
    expect(openOf(counts, NONE, "SENT")).toBe(5);
    expect(openOf(counts, { ...NONE, type: "a" }, "SENT")).toBe(2);
    expect(openOf(counts, NONE, "CREATED")).toBe(0);
    expect(openOf(counts, NONE, "DONE")).toBeUndefined();
    expect(openOf(counts, { ...NONE, identifier: "x" }, "SENT")).toBeUndefined();
    expect(openOf(undefined, NONE, "SENT")).toBeUndefined();
  });
});
