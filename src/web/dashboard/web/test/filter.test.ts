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
  });

  test("what the list shows is offered to be queued again", async () => {
    const { waysOf } = await import("../src/filter");
    expect(waysOf([])).toEqual(["failed"]);
    expect(waysOf(["SENT"])).toEqual(["failed"]);
    expect(waysOf(["CANCELED", "EXPIRED", "DONE"])).toEqual(["failed", "expired", "canceled"]);
  });

  test("it is said in words", async () => {
    const { filterWords } = await import("../src/filter");
    expect(filterWords({ type: "worker", status: ["CREATED", "SENT"], identifier: "a", since: "x", sinceWord: "last hour" })).toBe(
      "of type worker, that are waiting or running, whose identifier begins with “a”, submitted in the last hour",
    );
  });
});
