/**
 * How thousands of endpoints stand, one cell each, drawn on a canvas: one pixel an endpoint, enlarged without smoothing. Names are read
 * after the first picture. The table says the same in words.
 */
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, getBytes, isAbort } from "./api";
import { bytesOf, changed, unpack } from "./codec";
import type { Code } from "./codes";
import { count } from "./parts";
import { theme } from "./settings";
import { type Told, watch } from "./live";

interface Props {
  /** Where the states and the names are read: a path without its last part. */
  base: string;
  /** The topic of the events that tell of changes. */
  topic: string;
  codes: Code[];
  label: string;
  /** Called with the name of a cell that was chosen. */
  choose: (name: string) => void;
}

interface Vector {
  generation: string;
  codes: Uint8Array;
}

interface Vectored extends Told {
  generation: string;
  count: number;
  states?: string;
  changes?: string;
}

/** Cells from this size on have a glyph. */
const GLYPH = 12;
const GAP = 5;
const LARGEST = 22;

/** States that were asked for before anybody could show them. */
const ahead = new Map<string, Promise<Response>>();

/** Asks for the states of a grid that is likely to follow, so that it need not wait for what is read before. */
export function useStatesAhead(base: string): void {
  useEffect(() => {
    const asked = new AbortController();
    const answer = getBytes(`${base}/states`, asked.signal);
    answer.catch(() => ahead.delete(base));
    ahead.set(base, answer);
    return () => {
      asked.abort();
      ahead.delete(base);
    };
  }, [base]);
}

/** The vector of a topic, kept up to date; none until it is read. */
function useVector(base: string, topic: string): Vector | undefined {
  const [vector, setVector] = useState<Vector | undefined>();
  useEffect(() => {
    const asked = new AbortController();
    let told = false;
    const read = async (): Promise<void> => {
      try {
        const answer = await (ahead.get(base) ?? getBytes(`${base}/states`, asked.signal));
        ahead.delete(base);
        const number = Number(answer.headers.get("x-count"));
        const codes = unpack(new Uint8Array(await answer.arrayBuffer()), number);
        // What an event has told meanwhile is newer.
        if (!told) setVector({ generation: answer.headers.get("x-generation") ?? "", codes });
      } catch (error) {
        if (!isAbort(error) && !told) setTimeout(() => !asked.signal.aborted && void read(), 3000);
      }
    };
    void read();
    let now: Vector | undefined;
    let frame = 0;
    const forget = watch(topic, (event) => {
      const { generation, states, changes, count } = (event ?? {}) as Vectored;
      if (states !== undefined) now = { generation, codes: unpack(bytesOf(states), count) };
      else if (changes !== undefined && now && now.generation === generation && now.codes.length === count) now = { generation, codes: changed(now.codes, bytesOf(changes)) };
      else return;
      told = true;
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => setVector(now));
    });
    return () => {
      asked.abort();
      cancelAnimationFrame(frame);
      forget();
    };
  }, [base, topic]);
  return vector;
}

/** The names behind a vector: read once for a generation, after the picture. */
function useNames(base: string, generation: string | undefined): string[] | undefined {
  const [list, setList] = useState<{ generation: string; names: string[] } | undefined>();
  useEffect(() => {
    if (generation === undefined) return;
    const asked = new AbortController();
    const timer = setTimeout(() => {
      get<{ generation: string; names: string[] }>(`${base}/names`, asked.signal).then(setList).catch(() => {});
    }, 100);
    return () => {
      clearTimeout(timer);
      asked.abort();
    };
  }, [base, generation]);
  return list?.generation === generation ? list?.names : undefined;
}

interface Shape {
  columns: number;
  rows: number;
  cell: number;
}

/** Cells as large as fit into a box, so that all are seen at once. */
export function shape(number: number, width: number, height: number): Shape {
  if (number === 0 || width < 1) return { columns: 1, rows: 0, cell: LARGEST };
  for (let cell = LARGEST; cell > 1; cell--) {
    const columns = Math.max(1, Math.floor(width / cell));
    const rows = Math.ceil(number / columns);
    if (rows * cell <= height) return { columns, rows, cell };
  }
  const columns = Math.max(1, Math.floor(width / 2));
  return { columns, rows: Math.ceil(number / columns), cell: 2 };
}

const isDark = (): boolean =>
  theme.value === "dark" || theme.value === "system" && matchMedia("(prefers-color-scheme: dark)").matches;

export function Grid({ base, topic, codes, label, choose }: Props): JSX.Element {
  const vector = useVector(base, topic);
  const names = useNames(base, vector?.generation);
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [cursor, setCursor] = useState<number | undefined>();
  const [dark, setDark] = useState(isDark());
  const [focused, setFocused] = useState(false);
  const number = vector?.codes.length ?? 0;
  const { columns, rows, cell } = useMemo(() => shape(number, width, 420), [number, width]);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const look = (): void => setDark(isDark());
    scheme.addEventListener("change", look);
    const forget = theme.subscribe(look);
    return () => {
      observer.disconnect();
      scheme.removeEventListener("change", look);
      forget();
    };
  }, []);

  useEffect(() => {
    if (canvas.current && vector) draw(canvas.current, vector.codes, { columns, rows, cell }, codes, dark);
  }, [vector, columns, rows, cell, dark, codes]);

  const tally = useMemo(() => {
    const numbers = codes.map(() => 0);
    for (const code of vector?.codes ?? []) if (code < numbers.length) numbers[code]++;
    return numbers;
  }, [vector, codes]);
  const summary = codes.map((code, at) => [code, tally[at]] as const).filter(([, number]) => number > 0);
  const words = (place: number): string => `${names?.[place] ?? `endpoint ${place + 1}`}: ${codes[vector?.codes[place] ?? 0]?.word ?? "?"}`;
  const at = (event: MouseEvent): number | undefined => {
    const [column, row] = [Math.floor(event.offsetX / cell), Math.floor(event.offsetY / cell)];
    const place = row * columns + column;
    return column < columns && place >= 0 && place < number ? place : undefined;
  };
  const take = (place: number | undefined): void => {
    const name = place === undefined ? undefined : names?.[place];
    if (name !== undefined) choose(name);
  };
  const key = (event: KeyboardEvent): void => {
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (event.key === "Enter") take(cursor);
    else if (event.key === "Home") setCursor(0);
    else if (event.key === "End") setCursor(number - 1);
    else if (by !== undefined) setCursor(Math.min(Math.max((cursor ?? -by) + by, 0), number - 1));
    else return;
    event.preventDefault();
  };
  const marked = cursor !== undefined && cursor < number ? cursor : undefined;
  return (
    <div class="grid" ref={box}>
      <div class="canvas">
        <canvas
          ref={canvas}
          tabIndex={0}
          role="application"
          aria-roledescription="grid of endpoints"
          aria-label={`${label}: ${summary.map(([code, number]) => `${count(number)} ${code.word}`).join(", ") || "nothing yet"}. Arrow keys move, Enter opens.`}
          width={1}
          height={1}
          onMouseMove={(event) => setCursor(at(event))}
          onMouseLeave={() => !focused && setCursor(undefined)}
          onClick={(event) => take(at(event))}
          onKeyDown={key}
          onFocus={() => setFocused(true)}
          onBlur={() => setFocused(false)}
        />
        {marked !== undefined && <Marker column={marked % columns} row={Math.floor(marked / columns)} cell={cell} />}
      </div>
      <p class="under" aria-live={focused ? "polite" : "off"}>
        {marked === undefined ? <span class="dim">{number > 0 ? "Point at a cell for its name" : " "}</span> : words(marked)}
      </p>
      <ul class="legend" aria-hidden="true">
        {summary.map(([code, number]) => (
          <li key={code.word}>
            <Swatch colour={dark ? code.dark : code.light} /> {code.glyph.trim()} {code.word} <span class="dim">{count(number)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Swatch({ colour }: { colour: string }): JSX.Element {
  return <svg class="swatch" viewBox="0 0 10 10"><rect width="10" height="10" rx="2" fill={colour} /></svg>;
}

function Marker({ column, row, cell }: { column: number; row: number; cell: number }): JSX.Element {
  const size = Math.max(cell, 6);
  const off = (size - cell) / 2;
  return <div class="marker" style={{ left: `${column * cell - off}px`, top: `${row * cell - off}px`, width: `${size}px`, height: `${size}px` }} />;
}

function draw(canvas: HTMLCanvasElement, states: Uint8Array, { columns, rows, cell }: Shape, codes: Code[], dark: boolean): void {
  const ratio = Math.max(1, Math.round(devicePixelRatio));
  const [width, height] = [columns * cell, rows * cell];
  if (canvas.width !== width * ratio || canvas.height !== height * ratio) {
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  if (rows === 0) return;
  const small = document.createElement("canvas");
  const palette = codes.map((code) => pixel(dark ? code.dark : code.light));
  small.width = columns;
  small.height = rows;
  const pen = small.getContext("2d");
  const brush = canvas.getContext("2d");
  if (!pen || !brush) return;
  const image = pen.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let place = 0; place < states.length; place++) pixels[place] = palette[states[place]] ?? palette[0];
  pen.putImageData(image, 0, 0);
  brush.setTransform(ratio, 0, 0, ratio, 0, 0);
  brush.imageSmoothingEnabled = false;
  brush.clearRect(0, 0, width, height);
  brush.drawImage(small, 0, 0, width, height);
  if (cell >= GAP) {
    for (let column = 0; column < columns; column++) brush.clearRect((column + 1) * cell - 1, 0, 1, height);
    for (let row = 0; row < rows; row++) brush.clearRect(0, (row + 1) * cell - 1, width, 1);
  }
  if (cell < GLYPH) return;
  brush.font = `${Math.floor(cell * 0.62)}px "DejaVu Sans", "Segoe UI Symbol", "Apple Symbols", sans-serif`;
  brush.textAlign = "center";
  brush.textBaseline = "middle";
  brush.fillStyle = dark ? "#0b0f14" : "#ffffff";
  for (let place = 0; place < states.length; place++) {
    const glyph = codes[states[place]]?.glyph;
    if (glyph && glyph !== " ") brush.fillText(glyph, ((place % columns) + 0.5) * cell - 0.5, (Math.floor(place / columns) + 0.5) * cell);
  }
}

/** A colour as a pixel of an image, whose bytes are red, green, blue and opacity. */
function pixel(colour: string): number {
  const number = Number.parseInt(colour.slice(1), 16);
  return (0xff000000 | ((number & 0xff) << 16) | (number & 0xff00) | (number >> 16)) >>> 0;
}
