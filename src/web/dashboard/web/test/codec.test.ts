import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { bytesOf, changed, unpack } from "../src/codec";
import { PART } from "../src/codes";

interface Examples {
  part_states: string[];
  vectors: { codes: number[]; bytes: string }[];
  changes: { before: number[]; after: number[]; bytes: string }[];
  refused: { bytes: string; count: number; why: string }[];
}

// The same examples as the other end has.
const examples: Examples = JSON.parse(readFileSync(new URL("../../../../../tests/fixtures/states.json", import.meta.url), "utf8"));

describe("states of thousands of endpoints", () => {
  test("vectors are unpacked", () => {
    expect(examples.vectors.length).toBeGreaterThan(3);
    for (const { codes, bytes } of examples.vectors) expect([...unpack(bytesOf(bytes), codes.length)]).toEqual(codes);
    expect(() => unpack(new Uint8Array(3), 4)).toThrow("4 states are 2 bytes, not 3");
  });

  test("changes are applied, and what was there is left alone", () => {
    expect(examples.changes.length).toBeGreaterThan(3);
    for (const { before, after, bytes } of examples.changes) {
      const given = Uint8Array.from(before);
      expect([...changed(given, bytesOf(bytes))]).toEqual(after);
      expect([...given]).toEqual(before);
    }
  });

  test("what is broken is refused", () => {
    for (const { bytes, count, why } of examples.refused) {
      expect(() => changed(new Uint8Array(count), bytesOf(bytes)), why).toThrow();
    }
  });

  test("every code has a look of its own", () => {
    expect(PART.length).toBe(examples.part_states.length);
    expect(new Set(PART.map((look) => look.word)).size).toBe(PART.length);
    expect(new Set(PART.map((look) => look.glyph)).size).toBe(PART.length);
  });
});
