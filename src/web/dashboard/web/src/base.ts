/** Where the interface is. A proxy may have it below a path of its own; the file of this program knows that path, since it is there too. */

/** The path before `/dashboard/assets/app.js`. */
export const prefixOf = (script: string): string => /^(.*)\/dashboard\/assets\/[^/]*$/.exec(new URL(script).pathname)?.[1] ?? "";

export const PREFIX = prefixOf(import.meta.url);
