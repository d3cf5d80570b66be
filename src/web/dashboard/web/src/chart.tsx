/** The last 24 hours in bars: how many tasks ended in each quarter of an hour, and how. */
import type { JSX } from "preact";
import { Empty, Section, count } from "./parts";
import { BARS, QUARTER, type Quarter, quarters } from "./quarters";
import { useResource } from "./resource";
import { inZone, now } from "./time";
import type { Statistics } from "./types";

/** Of the drawing, in its own units: a bar is 10 wide. */
const WIDE = BARS * 10;
const HIGH = 100;

const KINDS = [
  ["failed", "failed", "bad"],
  ["other", "canceled or expired", "off"],
  ["done", "done", "ok"],
] as const;

export function Day(): JSX.Element {
  const read = useResource<Statistics>("/stats", { every: 60_000 });
  // The end of the last quarter, so that it is drawn anew when the next begins.
  const bars = read.data && quarters(read.data, Math.floor(now.value / QUARTER) * QUARTER);
  const sum = (of: "accepted" | "done" | "failed" | "other"): number => bars?.reduce((total, bar) => total + bar[of], 0) ?? 0;
  const most = Math.max(1, ...(bars ?? []).map((bar) => bar.done + bar.failed + bar.other));
  const words = `${count(sum("accepted"))} tasks accepted; ${count(sum("done"))} done, ${count(sum("failed"))} failed, ${count(sum("other"))} canceled or expired`;
  return (
    <Section title="Last 24 hours" aside={bars && <span class="dim">{words}</span>}>
      <div class="day">
        {bars && (
          <svg viewBox={`0 0 ${WIDE} ${HIGH}`} preserveAspectRatio="none" role="img" aria-label={`The last 24 hours: ${words}`}>
            {bars.map((bar, at) => <Stack key={bar.at} bar={bar} x={at * 10} most={most} />)}
          </svg>
        )}
        {bars && sum("done") + sum("failed") + sum("other") === 0 && <Empty>No task has ended in the last 24 hours.</Empty>}
      </div>
      <p class="day-legend dim">
        <span>{bars ? inZone(bars[0].at).slice(11, 16) : " "}</span>
        <span class="kinds">
          {KINDS.map(([kind, word, tone]) => <span key={kind}><i class={`swatch ${tone}`} aria-hidden="true" />{word}</span>)}
          <span>at most {count(most)} in a quarter of an hour</span>
        </span>
        <span>now</span>
      </p>
    </Section>
  );
}

function Stack({ bar, x, most }: { bar: Quarter; x: number; most: number }): JSX.Element | null {
  if (bar.done + bar.failed + bar.other === 0) return null;
  let top = HIGH;
  const title = `${inZone(bar.at).slice(0, 16)}: ${count(bar.done)} done, ${count(bar.failed)} failed, ${count(bar.other)} canceled or expired`;
  return (
    <g>
      <title>{title}</title>
      <rect x={x} y={0} width={10} height={HIGH} class="nothing" />
      {KINDS.map(([kind, , tone]) => {
        // What is there is seen, however little.
        const height = bar[kind] === 0 ? 0 : Math.max(2, (bar[kind] / most) * HIGH);
        top -= height;
        return height > 0 && <rect key={kind} x={x + 1} y={Math.max(0, top)} width={8} height={height} class={tone} />;
      })}
    </g>
  );
}
