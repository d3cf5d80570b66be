/** How the states of endpoints look in a grid: hues after Okabe and Ito, and a glyph each where there is room for one. */

export interface Code {
  word: string;
  glyph: string;
  light: string;
  dark: string;
}

/** Of a task's endpoints. */
export const PART: Code[] = [
  { word: "not part", glyph: " ", light: "#eceff3", dark: "#1a2029" },
  { word: "waiting", glyph: "·", light: "#c4ccd6", dark: "#3a4553" },
  { word: "sent", glyph: "○", light: "#9aa6b5", dark: "#56657a" },
  { word: "received", glyph: "◔", light: "#6ba3d0", dark: "#3d6f99" },
  { word: "running", glyph: "◐", light: "#0072b2", dark: "#3d9bdc" },
  { word: "retry", glyph: "↻", light: "#7b5ea7", dark: "#a98bd6" },
  { word: "ok", glyph: "✓", light: "#009e73", dark: "#1f9d78" },
  { word: "failed", glyph: "✕", light: "#c8460f", dark: "#f0773c" },
  { word: "lost", glyph: "?", light: "#7f1d1d", dark: "#ff5d5d" },
  { word: "time limit", glyph: "⧗", light: "#a3581a", dark: "#d99a55" },
  { word: "vanished", glyph: "▽", light: "#b88700", dark: "#e6b43c" },
  { word: "canceled", glyph: "–", light: "#6f7580", dark: "#7b8494" },
  { word: "expired", glyph: "◌", light: "#97385f", dark: "#d97fa6" },
  { word: "held", glyph: "‖", light: "#b7c4d8", dark: "#41506a" },
  { word: "skipped", glyph: "»", light: "#d9d3c5", dark: "#4a463c" },
];

/** Of the fleet. */
export const FLEET: Code[] = [
  { word: "idle", glyph: "·", light: "#c4ccd6", dark: "#3a4553" },
  { word: "there", glyph: "●", light: "#009e73", dark: "#1f9d78" },
  { word: "trouble", glyph: "△", light: "#b88700", dark: "#e6b43c" },
  { word: "gone", glyph: "▽", light: "#c8460f", dark: "#f0773c" },
  { word: "stopped", glyph: "–", light: "#6f7580", dark: "#7b8494" },
];
