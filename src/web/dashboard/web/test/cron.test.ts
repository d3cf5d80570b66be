// @vitest-environment node
import { describe, expect, test } from "vitest";
import { cronWords } from "../src/cron";

describe("cron patterns", () => {
  test.each([
    ["* * * * *", "every minute"],
    ["*/15 * * * *", "every 15 minutes"],
    ["5 * * * *", "every hour at :05"],
    ["30 3 * * *", "every day at 03:30"],
    ["0 */6 * * *", "every 6 hours at :00"],
    ["0 9 * * 1", "every Monday at 09:00"],
    ["0 9 * * 7", "every Sunday at 09:00"],
    ["0 9 * * 1-5", "Monday to Friday at 09:00"],
    ["15 4 1 * *", "on day 1 of every month at 04:15"],
    // What is not plain stays as it is.
    ["0 9 * 1 *", "0 9 * 1 *"],
    ["0 9,17 * * *", "0 9,17 * * *"],
    ["@daily", "@daily"],
    ["0 0 9 * * *", "0 0 9 * * *"],
    ["0 9 L * *", "0 9 L * *"],
  ])("%s is %s", (pattern, words) => {
    expect(cronWords(pattern)).toBe(words);
  });
});
