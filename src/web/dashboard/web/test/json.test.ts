import { beforeAll, expect, test } from "vitest";
import { pretendBrowser } from "./page";

beforeAll(() => void pretendBrowser("/dashboard"));

test("what is short stands in one line", async () => {
  const { inLine } = await import("../src/json");
  expect([{}, [], { a: 1, b: "x" }, [1, 2]].map(inLine)).toEqual(["{}", "[]", '{"a":1,"b":"x"}', "[1,2]"]);
  expect([{ a: {} }, [[]], { a: "x".repeat(60) }, Array.from({ length: 16 }, () => 1)].map(inLine)).toEqual([undefined, undefined, undefined, undefined]);
});

test("a number that is kept as it was written has no members", async () => {
  const { hasMembers } = await import("../src/json");
  const { parseExactly } = await import("../src/api");
  expect([{}, [], [1]].map(hasMembers)).toEqual([true, true, true]);
  expect([null, 1, "{}", true, undefined].map(hasMembers)).toEqual([false, false, false, false, false]);
  expect(hasMembers(parseExactly("12345678901234567890"))).toBe(false);
});

test("numbers stay as they were written, whatever stands beside them", async () => {
  const { parseExactly } = await import("../src/api");
  // Without `rawJSON` a number is what a script makes of it.
  const kept = "rawJSON" in JSON;
  for (const text of ["12345678901234567890", "1.50", "1e3", "-0", "[1,2.0]", '{"a": 1.0}', '{"time":"18:02:52.497280Z","a":1E5}']) {
    expect(JSON.stringify(parseExactly(text)), text).toBe(kept ? text.replaceAll(" ", "") : JSON.stringify(JSON.parse(text)));
  }
  for (const text of ["1", "[1,2]", '{"time":"18:02:52.497280Z"}', "null", '"1.50"']) expect(JSON.stringify(parseExactly(text))).toBe(text);
});
