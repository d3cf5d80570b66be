import { describe, expect, test } from "vitest";
import { ALL, lack, members, targetOf } from "../src/target";

describe("whom a task is for", () => {
  test("is told as the interface takes it", () => {
    expect(members(ALL)).toEqual({});
    expect(members({ ...ALL, exclude: "role=db", part: "percent", size: "10", known: true })).toEqual({ exclude: "role=db", percent: 10, expect: "known" });
    expect(members({ ...ALL, whom: "match", match: "web", groups: ["lab"], part: "limit", size: "5" })).toEqual({ match: "name=*web*", groups: ["lab"], limit: 5 });
    expect(members({ ...ALL, whom: "match", groups: ["lab", "web"] })).toEqual({ groups: ["lab", "web"] });
    expect(members({ ...ALL, whom: "names", names: "a, b\na", match: "x", exclude: "y", part: "limit", size: "1" })).toEqual({ endpoints: ["a", "b"] });
  });

  test("is never all endpoints by an oversight", () => {
    expect(lack(ALL)).toBeUndefined();
    expect(lack({ ...ALL, whom: "names", names: " \n" })).toContain("for all");
    expect(lack({ ...ALL, whom: "match", match: " " })).toContain("for all");
    expect(lack({ ...ALL, whom: "match", groups: ["web"] })).toBeUndefined();
    expect(lack({ ...ALL, part: "percent", size: "101" })).toContain("1 to 100");
    expect(lack({ ...ALL, part: "limit", size: "" })).toContain("from 1 on");
    expect(lack({ ...ALL, part: "limit", size: "5000" })).toBeUndefined();
  });

  test("comes back from a task as it was", () => {
    expect(targetOf({ endpoints: [] })).toEqual(ALL);
    expect(targetOf({ endpoints: ["a", "b"] })).toEqual({ ...ALL, whom: "names", names: "a\nb" });
    const target = { match: ["site=berlin", "role=web or role=db"], groups: ["lab"], exclude: ["name=a", "name=b"], limit: 3, expect: "known" as const };
    const again = targetOf({ endpoints: ["a"], target });
    expect(members(again)).toEqual({ match: "(site=berlin) and (role=web or role=db)", groups: ["lab"], exclude: "(name=a) or (name=b)", limit: 3, expect: "known" });
    expect(targetOf({ endpoints: ["a"], target: { exclude: ["name=b"] } }).whom).toBe("all");
  });
});
