/** The parts that pages are made of. */
import { type ComponentChildren, type JSX, type RefObject } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Problem, problemOf } from "./api";
import type { Resource } from "./resource";
import { may } from "./session";
import type { Look } from "./state";
import { inBoth, inZone, ledgerTime, now, relative, span } from "./time";

export const count = (number: number): string => number.toLocaleString("en-US");

export function State({ look, title }: { look: Look; title?: string }): JSX.Element {
  return (
    <span class={`state ${look.tone}`} title={title}>
      <span class="glyph" aria-hidden="true">{look.glyph}</span>
      {look.word}
    </span>
  );
}

/** How long ago, or until when; both zones where one points. */
export function Ago({ at }: { at: string | null | undefined }): JSX.Element {
  const ms = at ? Date.parse(at) : Number.NaN;
  if (Number.isNaN(ms)) return <span class="dim">–</span>;
  return <time dateTime={at ?? ""} title={inBoth(ms)}>{relative(ms, now.value)}</time>;
}

export function When({ at }: { at: string | null | undefined }): JSX.Element {
  const ms = at ? Date.parse(at) : Number.NaN;
  if (Number.isNaN(ms)) return <span class="dim">–</span>;
  return <time dateTime={at ?? ""} title={inBoth(ms)}>{inZone(ms)}</time>;
}

/** How long something took, or takes so far. */
export function Took({ from, until }: { from: string | null; until: string | null }): JSX.Element {
  if (!from) return <span class="dim">–</span>;
  return <span>{span((until ? Date.parse(until) : now.value) - Date.parse(from))}</span>;
}

export function Page({ title, actions, children, wide }: { title: ComponentChildren; actions?: ComponentChildren; children: ComponentChildren; wide?: boolean }): JSX.Element {
  return (
    <>
      <header class="page">
        <h1>{title}</h1>
        {actions && <div class="actions">{actions}</div>}
      </header>
      <div class={wide ? "wide" : undefined}>{children}</div>
    </>
  );
}

export function Section({ title, children, aside }: { title: string; children: ComponentChildren; aside?: ComponentChildren }): JSX.Element {
  const id = useId();
  return (
    <section aria-labelledby={id}>
      <div class="head">
        <h2 id={id}>{title}</h2>
        {aside}
      </div>
      {children}
    </section>
  );
}

export function Empty({ children }: { children: ComponentChildren }): JSX.Element {
  return <div class="empty">{children}</div>;
}

export function Copy({ text }: { text: () => string }): JSX.Element {
  const [copied, setCopied] = useState(false);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text());
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    } catch {
      // Where a page may not copy, one marks the text oneself.
    }
  };
  return <button type="button" class="quiet copy" onClick={() => void copy()}>{copied ? "Copied" : "Copy"}</button>;
}

export function Command({ children }: { children: string }): JSX.Element {
  return (
    <div class="command">
      <code tabIndex={0}>{children}</code>
      <Copy text={() => children} />
    </div>
  );
}

export function Trouble({ problem, again }: { problem: Problem; again?: () => void }): JSX.Element {
  return (
    <div class="trouble" role="alert">
      <p>
        <span class="glyph" aria-hidden="true">✕</span> {problem.message}
      </p>
      {problem.errors.length > 0 && (
        <ul>
          {problem.errors.slice(0, 20).map((error) => (
            <li key={error.pointer + error.message}>
              {error.pointer && <code>{error.pointer}</code>} {error.message}
            </li>
          ))}
        </ul>
      )}
      {again && <button type="button" onClick={again}>Try again</button>}
    </div>
  );
}

/** What is shown of a resource: the data if there is any, with the word that it is old where reading it fails. */
export function Show<T>({ of, children, lines = 6 }: { of: Resource<T>; children: (data: T) => ComponentChildren; lines?: number }): JSX.Element {
  if (of.data === undefined) return of.problem ? <Trouble problem={of.problem} again={of.again} /> : <Waiting lines={lines} />;
  return (
    <>
      {of.problem && of.at !== undefined && (
        <p class="stale" role="status">
          △ As of {inZone(of.at)}: {of.problem.message}
        </p>
      )}
      {children(of.data)}
    </>
  );
}

/** Holds the place of what comes, and shows itself only where that takes a while. */
export function Waiting({ lines }: { lines: number }): JSX.Element {
  return (
    <div class="waiting" aria-busy="true" aria-label="Loading">
      {Array.from({ length: lines }, (_, line) => <div key={line} class="line" />)}
    </div>
  );
}

interface ActionProps {
  children: ComponentChildren;
  /** The scope that it needs. */
  needs: string;
  run: () => Promise<unknown> | void;
  kind?: "primary" | "danger";
  disabled?: boolean;
  title?: string;
}

/** A button that changes something. Where one may not, it says what one needs. */
export function Action({ children, needs, run, kind, disabled, title }: ActionProps): JSX.Element {
  const [busy, setBusy] = useState(false);
  const allowed = may(needs);
  const click = async (): Promise<void> => {
    if (busy) return;
    setBusy(true);
    try {
      await run();
    } catch (error) {
      say(error instanceof Error ? error.message : String(error), true);
    } finally {
      setBusy(false);
    }
  };
  return (
    <button
      type="button"
      class={kind}
      disabled={!allowed || disabled}
      aria-busy={busy}
      title={allowed ? title : `This needs a token with the scope \`${needs}\``}
      onClick={() => void click()}
    >
      {children}
    </button>
  );
}

/** Words that go by themselves: what became of an action. */
const said: { set?: (words: { text: string; bad: boolean } | undefined) => void } = {};

export function say(text: string, bad = false): void {
  said.set?.({ text, bad });
}

export function Words(): JSX.Element {
  const [words, setWords] = useState<{ text: string; bad: boolean } | undefined>();
  useEffect(() => {
    said.set = setWords;
  }, []);
  useEffect(() => {
    if (!words || words.bad) return;
    const timer = setTimeout(() => setWords(undefined), 5000);
    return () => clearTimeout(timer);
  }, [words]);
  return (
    <div class="words" role="status" aria-live="polite">
      {words && (
        <div class={words.bad ? "bad" : undefined}>
          <span>{words.text}</span>
          <button type="button" class="quiet" onClick={() => setWords(undefined)} aria-label="Dismiss">✕</button>
        </div>
      )}
    </div>
  );
}

interface DialogProps {
  title: string;
  close: () => void;
  children: ComponentChildren;
}

export function Dialog({ title, close, children }: DialogProps): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const element = dialog.current;
    const before = document.activeElement;
    element?.showModal();
    return () => {
      element?.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby={id} onClose={close} onClick={(event) => event.target === dialog.current && close()}>
      <div class="dialog">
        <h2 id={id}>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

/** How many endpoints may be acted upon without typing their number. */
export const CONFIRM_ABOVE = 100;

interface ConfirmProps {
  title: string;
  children: ComponentChildren;
  act: string;
  /** How many are affected: above a hundred one types the number. */
  number?: number;
  /** One types it however small it is. */
  always?: boolean;
  danger?: boolean;
  disabled?: boolean;
  run: () => Promise<unknown>;
  close: () => void;
}

export function Confirm({ title, children, act, number = 0, always = false, danger, disabled = false, run, close }: ConfirmProps): JSX.Element {
  const [typed, setTyped] = useState("");
  const [problem, setProblem] = useState<Problem | undefined>();
  const [busy, setBusy] = useState(false);
  const many = number > (always ? 1 : CONFIRM_ABOVE);
  const held = disabled || busy || many && typed.trim() !== String(number);
  const id = useId();
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    if (held) return;
    setBusy(true);
    setProblem(undefined);
    try {
      await run();
      close();
    } catch (error) {
      setProblem(problemOf(error));
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} close={close}>
      <form onSubmit={(event) => void submit(event)}>
        {children}
        {many && (
          <p>
            <label for={id}>Type the number {number} to go on</label>
            <input id={id} value={typed} onInput={(event) => setTyped(event.currentTarget.value)} autocomplete="off" inputMode="numeric" />
          </p>
        )}
        {problem && <Trouble problem={problem} />}
        <div class="actions end">
          <button type="button" onClick={close}>Back</button>
          <button type="submit" class={danger ? "danger" : "primary"} disabled={held}>{act}</button>
        </div>
      </form>
    </Dialog>
  );
}

/** The parts of a whole, as a bar with its numbers in words. */
export function Bar({ parts, whole }: { parts: { number: number; tone: string; word: string }[]; whole: number }): JSX.Element {
  const words = parts.filter((part) => part.number > 0).map((part) => `${count(part.number)} ${part.word}`).join(", ");
  return (
    <svg class="bar" role="img" aria-label={words || "nothing yet"} viewBox="0 0 1000 8" preserveAspectRatio="none">
      <title>{words || "nothing yet"}</title>
      <rect class="rest" width="1000" height="8" />
      {spread(parts, whole).map((part) => <rect key={part.tone} class={part.tone} x={part.x} width={part.width} height="8" />)}
    </svg>
  );
}

/** One in fifty thousand is seen too: each part that is there has a width that one sees. */
function spread(parts: { number: number; tone: string }[], whole: number): { tone: string; x: number; width: number }[] {
  let x = 0;
  return parts.filter((part) => part.number > 0 && whole > 0).map((part) => {
    const width = Math.min(Math.max(6, (part.number / whole) * 1000), 1000 - x);
    const placed = { tone: part.tone, x, width };
    x += width;
    return placed;
  });
}

/** Characters that are shown at once: no page waits for a text of megabytes. */
export const PIECE = 40_000;

/** A long text, its end first where that is what one looks for. */
export function Text({ children, tail }: { children: string; tail?: boolean }): JSX.Element {
  const [shown, setShown] = useState(PIECE);
  const cut = children.length > shown;
  const text = !cut ? children : tail ? children.slice(-shown) : children.slice(0, shown);
  const more = (
    <button type="button" class="quiet" onClick={() => setShown(shown * 4)}>
      Show more ({count(children.length - shown)} characters are left)
    </button>
  );
  return (
    <div class="text">
      {cut && tail && more}
      <pre tabIndex={0}>{text}</pre>
      {cut && !tail && more}
    </div>
  );
}

/** A field that is taken over when one stops typing, and at once with Enter. */
export function Search({ value, set, label, placeholder }: { value: string; set: (value: string) => void; label: string; placeholder?: string }): JSX.Element {
  const [typed, setTyped] = useState(value);
  const sent = useRef(value);
  useEffect(() => {
    if (value !== sent.current) setTyped(value);
    sent.current = value;
  }, [value]);
  useEffect(() => {
    if (typed === sent.current) return;
    const timer = setTimeout(() => {
      sent.current = typed;
      set(typed);
    }, 300);
    return () => clearTimeout(timer);
  }, [typed]);
  return (
    <input
      type="search"
      class="search"
      value={typed}
      aria-label={label}
      placeholder={placeholder ?? label}
      spellcheck={false}
      onInput={(event) => setTyped(event.currentTarget.value)}
      onKeyDown={(event) => {
        if (event.key !== "Enter") return;
        sent.current = typed;
        set(typed);
      }}
    />
  );
}

/** The way back to a list without filters. It keeps its place where there are none, so that nothing moves. */
export function Clear({ off, href }: { off: boolean; href: string }): JSX.Element {
  return <a class={off ? "clear off" : "clear"} href={href}>Clear</a>;
}

/** A bar of links that may be wider than a narrow screen: the one that holds is in sight. */
export function useInSight(chosen: string | undefined): RefObject<HTMLElement | null> {
  const bar = useRef<HTMLElement>(null);
  useEffect(() => {
    const link = bar.current?.querySelector<HTMLElement>("[aria-current]");
    if (bar.current && link) bar.current.scrollLeft = link.offsetLeft - bar.current.offsetLeft - (bar.current.clientWidth - link.offsetWidth) / 2;
  }, [chosen]);
  return bar;
}

/** Choices of which one holds, as links: each has an address. */
export function Tabs({ of, label }: { of: { name: string; href: string; chosen: boolean; aside?: string }[]; label: string }): JSX.Element {
  const bar = useInSight(of.find((tab) => tab.chosen)?.name);
  return (
    <nav class="tabs" aria-label={label} ref={bar}>
      {of.map((tab) => (
        <a key={tab.name} href={tab.href} aria-current={tab.chosen ? "page" : undefined}>
          {tab.name}
          {tab.aside !== undefined && <span class="dim"> {tab.aside}</span>}
        </a>
      ))}
    </nav>
  );
}

/** Time that is left of a span, as words. */
export const left = (until: string): string => span(Date.parse(until) - ledgerTime());

/** A table in a box of its own: on a narrow screen the box is scrolled and not the page. */
export function Table({ children, label }: { children: ComponentChildren; label: string }): JSX.Element {
  return (
    <div class="table" role="region" aria-label={label} tabIndex={0}>
      <table>{children}</table>
    </div>
  );
}
