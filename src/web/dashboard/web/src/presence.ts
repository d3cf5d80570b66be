/** Whether an endpoint is there. */
import type { Look } from "./state";
import type { Endpoint } from "./types";

export const isThere = (endpoint: Endpoint): boolean => endpoint.types.some((one) => one.subscribed || one.trouble !== null);

export const isTroubled = (endpoint: Endpoint): boolean => endpoint.types.some((one) => one.trouble !== null);

export function presence(endpoint: Endpoint): Look {
  if (isTroubled(endpoint)) return { word: "trouble", glyph: "△", tone: "warn" };
  if (isThere(endpoint)) return { word: "there", glyph: "●", tone: "ok" };
  return { word: "away", glyph: "▽", tone: "off" };
}
