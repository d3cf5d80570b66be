// How pages look, as small pictures that are kept in `e2e/looks`. At an eighth of its size a picture shows where things are, how large and in which
// colours, and no letters: times and numbers change less than a hundredth of what is drawn, a column that has moved a fifth. Another font changes as much, so the
// browser has only those of `fonts.conf`.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const KEPT = fileURLToPath(new URL("./looks/", import.meta.url));
const SMALLER = 8;
/** So much may differ, of what is not the colour of the page. */
const PART = 0.12;

/** Compares what a page shows with the picture of this name; makes it where there is none, or with `LOOKS=keep`. Answers what is wrong. */
export async function compare(page, blank, name) {
  const shown = (await page.screenshot({ animations: "disabled", caret: "hide" })).toString("base64");
  const file = `${KEPT}${name}.png`;
  const keep = !existsSync(file) || process.env.LOOKS === "keep";
  const { picture, differs } = await blank.evaluate(look, [shown, keep ? "" : readFileSync(file).toString("base64"), SMALLER]);
  if (keep) {
    mkdirSync(KEPT, { recursive: true });
    writeFileSync(file, Buffer.from(picture, "base64"));
    return process.env.LOOKS === "keep" ? [] : [`${name}: there was no picture; one is in e2e/looks now`];
  }
  if (differs <= PART) return [];
  const now = join(tmpdir(), `${name}-now.png`);
  writeFileSync(now, Buffer.from(picture, "base64"));
  return [`${name}: ${(differs * 100).toFixed(1)} % of it look different (${now}; if that is right, run with LOOKS=keep)`];
}

/** In a page: makes a picture smaller, and says how much of it differs from another one. */
async function look([shown, kept, smaller]) {
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
  // What most of it is made of says nothing: a page with little on it would differ little whatever became of that.
  const colours = new Map();
  for (let at = 0; at < old.length; at += 4) {
    const colour = old.slice(at, at + 3).join();
    colours.set(colour, (colours.get(colour) ?? 0) + 1);
  }
  const ground = [...colours].sort((a, b) => b[1] - a[1])[0][0].split(",").map(Number);
  let [differing, drawn] = [0, 0];
  for (let at = 0; at < data.length; at++) {
    if (at % 4 === 3) continue;
    differing += Math.abs(data[at] - old[at]);
    drawn += Math.abs(old[at] - ground[at % 4]);
  }
  return { picture, differs: differing / Math.max(1, drawn) };
}
