// How pages look, as small pictures that are kept in `e2e/looks`. At an eighth of its size a picture shows where things are, how large and in which
// colours, and no letters: fonts of other machines, times and numbers change little of it, but a column that has moved or a theme without its colours much.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const KEPT = fileURLToPath(new URL("./looks/", import.meta.url));
const SMALLER = 8;
/** By so much of 255 a dot may differ before it counts. */
const DOT = 40;
/** So much of a picture may differ by more than that. */
const PART = 0.02;

/** Compares what a page shows with the picture of this name; makes it where there is none, or with `LOOKS=keep`. Answers what is wrong. */
export async function compare(page, blank, name) {
  const shown = (await page.screenshot({ animations: "disabled", caret: "hide" })).toString("base64");
  const file = `${KEPT}${name}.png`;
  const keep = !existsSync(file) || process.env.LOOKS === "keep";
  const { picture, differs } = await blank.evaluate(look, [shown, keep ? "" : readFileSync(file).toString("base64"), SMALLER, DOT]);
  if (keep) {
    mkdirSync(KEPT, { recursive: true });
    writeFileSync(file, Buffer.from(picture, "base64"));
    return process.env.LOOKS === "keep" ? [] : [`${name}: there was no picture; one is in e2e/looks now`];
  }
  if (differs <= PART) return [];
  const now = `/tmp/${name}-now.png`;
  writeFileSync(now, Buffer.from(picture, "base64"));
  return [`${name}: ${(differs * 100).toFixed(1)} % of it look different (${now}; if that is right, run with LOOKS=keep)`];
}

/** In a page: makes a picture smaller, and says how much of it differs from another one. */
async function look([shown, kept, smaller, dot]) {
  const open = async (text) => createImageBitmap(await (await fetch(`data:image/png;base64,${text}`)).blob());
  const dots = (image, width, height) => {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const brush = canvas.getContext("2d");
    brush.imageSmoothingQuality = "high";
    brush.drawImage(image, 0, 0, width, height);
    return [canvas, brush.getImageData(0, 0, width, height).data];
  };
  const now = await open(shown);
  const [width, height] = [Math.round(now.width / smaller), Math.round(now.height / smaller)];
  const [canvas, data] = dots(now, width, height);
  const picture = canvas.toDataURL("image/png").split(",")[1];
  if (kept === "") return { picture, differs: 0 };
  const before = await open(kept);
  if (before.width !== width || before.height !== height) return { picture, differs: 1 };
  const [, old] = dots(before, width, height);
  let differing = 0;
  for (let at = 0; at < data.length; at += 4) if (Math.max(...[0, 1, 2].map((part) => Math.abs(data[at + part] - old[at + part]))) > dot) differing++;
  return { picture, differs: differing / (width * height) };
}
