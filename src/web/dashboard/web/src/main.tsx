import { render, type JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Problem, contact, problemOf } from "./api";
import { GO, help, listen } from "./keys";
import { Dialog, Empty, Page, Trouble, Waiting, Words, useInSight } from "./parts";
import { listenToEvents, streaming } from "./live";
import { followLinks, parts, to } from "./place";
import { logIn, logOut, look, session, sessionProblem } from "./session";
import { paused } from "./settings";
import { clock, clockIsOff, now, span } from "./time";
import { AuditPage } from "./pages/audit";
import { EndpointPage } from "./pages/endpoint";
import { EndpointsPage } from "./pages/endpoints";
import { GroupsPage } from "./pages/groups";
import { Overview } from "./pages/overview";
import { QueuesPage } from "./pages/queues";
import { RenderPage } from "./pages/render";
import { RequestPage } from "./pages/request";
import { RequestsPage } from "./pages/requests";
import { RolloutPage } from "./pages/rollout";
import { RolloutsPage } from "./pages/rollouts";
import { SchedulesPage } from "./pages/schedules";
import { SettingsPage } from "./pages/settings";
import { SubmitPage } from "./pages/submit";
import { TaskPage } from "./pages/task";
import { TasksPage } from "./pages/tasks";
import "./styles.css";

/** Since when the interface does not answer, after which a page says so. */
const QUIET = 3000;

function Shown(): JSX.Element {
  const [first, second, third, ...rest] = parts.value;
  if (rest.length === 0) {
    if (first === undefined) return <Overview />;
    if (first === "tasks" && third !== undefined) return <TaskPage key={`${second}/${third}`} type={second} id={third} />;
    if (first === "tasks" && second === undefined) return <TasksPage />;
    if (first === "endpoints" && second === undefined) return <EndpointsPage />;
    if (first === "endpoints" && third === undefined) return <EndpointPage key={second} name={second} />;
    if (first === "rollouts" && second === undefined) return <RolloutsPage />;
    if (first === "rollouts" && third === undefined) return <RolloutPage key={second} id={second} />;
    if (first === "requests" && second === undefined) return <RequestsPage />;
    if (first === "requests" && third === undefined) return <RequestPage key={second} token={second} />;
    if (second === undefined) {
      if (first === "groups") return <GroupsPage />;
      if (first === "queues") return <QueuesPage />;
      if (first === "schedules") return <SchedulesPage />;
      if (first === "render") return <RenderPage />;
      if (first === "submit") return <SubmitPage />;
      if (first === "audit") return <AuditPage />;
      if (first === "settings") return <SettingsPage />;
    }
  }
  return (
    <Page title="Page not found">
      <Empty>
        <p><a href={to([])}>Overview</a></p>
      </Empty>
    </Page>
  );
}

const LINKS: [string, string, string][] = [
  ["", "Overview", "o"],
  ["tasks", "Tasks", "t"],
  ["endpoints", "Endpoints", "e"],
  ["groups", "Groups", "g"],
  ["queues", "Queues", "q"],
  ["schedules", "Schedules", "s"],
  ["rollouts", "Rollouts", "w"],
  ["requests", "Requests", "r"],
  ["render", "Render farm", "f"],
  ["submit", "New task", "n"],
];

function Navigation(): JSX.Element {
  const first = parts.value[0] ?? "";
  const bar = useInSight(first);
  return (
    <nav class="main" aria-label="Pages" ref={bar}>
      <a class="brand" href={to([])} aria-hidden="true" tabIndex={-1}>
        <span class="mark" />tasker
      </a>
      <ul>
        {LINKS.map(([name, word, key]) => (
          <li key={name}>
            <a href={to(name ? [name] : [])} aria-current={first === name ? "page" : undefined} title={`g ${key}`}>{word}</a>
          </li>
        ))}
      </ul>
      <Contact />
      <ul class="foot">
        {session.value?.scopes.includes("admin") && (
          <li><a href={to(["audit"])} aria-current={first === "audit" ? "page" : undefined} title="g a">Audit</a></li>
        )}
        <li><a href={to(["settings"])} aria-current={first === "settings" ? "page" : undefined} title="g ,">Settings</a></li>
        {session.value?.session && (
          <li><button type="button" class="link" onClick={() => void logOut()} title={`Logged in with the token ${session.value.name}`}>Log out</button></li>
        )}
      </ul>
    </nav>
  );
}

/** Whether what is shown is true, and since when not. */
function Contact(): JSX.Element {
  const { failingSince, why } = contact.value;
  const quiet = failingSince !== undefined && Date.now() - failingSince > QUIET && now.value > 0;
  if (paused.value) {
    return (
      <p class="contact warn" role="status">
        <span class="glyph" aria-hidden="true">‖</span> paused <button type="button" class="link" onClick={() => (paused.value = false)}>go on</button>
      </p>
    );
  }
  if (quiet) {
    return (
      <p class="contact bad" role="status" title={why}>
        <span class="glyph" aria-hidden="true">✕</span> as of {clock(contact.value.at, false).slice(11)}: {why}
      </p>
    );
  }
  return (
    <p class="contact ok" role="status">
      <span class="glyph" aria-hidden="true">●</span> {streaming.value ? "live" : "up to date"}
    </p>
  );
}

function ClockNote(): JSX.Element | null {
  const off = clockIsOff();
  if (now.value === 0 || off === 0) return null;
  return <p class="note warn" role="status">△ This machine's clock is {span(Math.abs(off))} {off > 0 ? "ahead" : "behind"}; times are shown by the ledger's.</p>;
}

function Login(): JSX.Element {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState<Problem | undefined>();
  const [busy, setBusy] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setProblem(undefined);
    try {
      await logIn(token.trim());
    } catch (error) {
      setProblem(problemOf(error));
    }
    setBusy(false);
  };
  return (
    <main class="login">
      <h1><span class="mark" />tasker</h1>
      <form onSubmit={(event) => void submit(event)}>
        <label for="token">Token</label>
        <input
          id="token"
          ref={field}
          type="password"
          value={token}
          autocomplete="current-password"
          spellcheck={false}
          onInput={(event) => setToken(event.currentTarget.value)}
        />
        <button type="submit" class="primary" disabled={busy || token.trim() === ""}>Log in</button>
      </form>
      {problem && <Trouble problem={problem} />}
      <p class="dim">
        The secret that <code>tasker token create</code> showed. This browser keeps a session of 12 hours that no script can read, and not the token.
      </p>
    </main>
  );
}

function Help(): JSX.Element {
  const acts: [string, string][] = [
    ["/", "search"],
    ["j k", "next and previous row"],
    ["Enter", "open the row"],
    ["arrows", "move in the grid"],
    ["Esc", "leave a field, close"],
    ["p", "hold updates back, go on"],
    ["t", "theme"],
    ["?", "this list"],
  ];
  return (
    <Dialog title="Keyboard" close={() => (help.value = false)}>
      <dl class="keys">
        {Object.entries(GO).map(([key, [word]]) => [<dt key={key}><kbd>g</kbd> <kbd>{key}</kbd></dt>, <dd key={`${key} word`}>{word}</dd>])}
        {acts.map(([key, word]) => [<dt key={key}><kbd>{key}</kbd></dt>, <dd key={`${key} word`}>{word}</dd>])}
      </dl>
      <form method="dialog" class="actions end"><button type="submit">Close</button></form>
    </Dialog>
  );
}

const TITLE = document.title;

function App(): JSX.Element {
  const place = parts.value;
  useEffect(() => {
    document.title = place.length === 0 ? TITLE : `${place.slice(1).reverse().join(" · ") || place[0]} – ${TITLE}`;
  }, [place]);
  if (session.value === undefined) {
    return (
      <main class="login">
        {sessionProblem.value ? <p class="stale" role="status">△ {sessionProblem.value}; asking again</p> : <Waiting lines={3} />}
      </main>
    );
  }
  if (session.value === null) return <Login />;
  return (
    <>
      <a class="skip" href="#content">Skip to the content</a>
      <Navigation />
      <main id="content" tabIndex={-1}>
        <ClockNote />
        <Shown />
      </main>
      <Words />
      {help.value && <Help />}
    </>
  );
}

// It is written relative to the address that was loaded, which is another one once a link has been followed.
const icon = document.querySelector<HTMLLinkElement>("link[rel=icon]");
if (icon) icon.href = icon.href;

followLinks();
listen();
listenToEvents();
void look();
render(<App />, document.body);
