// What the tests of a file play on: a platform with a bit of everything, and a browser.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { Browser, Platform, furnish } from "./platform.mjs";

/** Starts them before the tests of this file, and ends them afterwards. */
export function stage() {
  const on = {
    /** A page at a place, closed afterwards, which must not have done anything wrong. */
    async at(path, see, options = {}) {
      const platform = options.platform ?? on.platform;
      const page = await on.browser.open(platform, options);
      try {
        await page.goto(platform.url + path);
        await see(page);
        assert.deepEqual(page.wrongs, []);
      } finally {
        await page.context().close();
      }
    },
  };
  before(async () => {
    on.browser = await Browser.start();
    on.platform = await Platform.start();
    on.farm = await furnish(on.platform);
  });
  after(async () => {
    await on.farm?.stop();
    await on.browser?.stop();
    await on.platform?.stop();
  });
  return on;
}

export const idle = (page) => page.waitForFunction(() => !document.querySelector("[aria-busy=true]") && document.querySelector("main h1, main .empty"));
