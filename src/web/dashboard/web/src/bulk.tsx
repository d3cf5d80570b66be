/** What is done to all tasks that a filter means: first their number is told, then those are acted upon, and none that came later. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Problem, change, isAbort, problemOf } from "./api";
import { Confirm, State, Trouble, Waiting, count, say } from "./parts";
import { statusLook } from "./state";
import type { Matched } from "./types";

interface BulkProps {
  title: string;
  /** Where it is asked for, and with which filter. */
  at: string;
  filter: Record<string, unknown>;
  /** The words of the button, before the number. */
  act: string;
  /** What has happened to the tasks then. */
  done: string;
  danger?: boolean;
  close: () => void;
  again: () => void;
  /** Says what is meant and what becomes of it. */
  children: ComponentChildren;
}

export function Bulk({ title, at, filter, act, done, danger, close, again, children }: BulkProps): JSX.Element {
  const [found, setFound] = useState<Matched | undefined>();
  const [problem, setProblem] = useState<Problem | undefined>();
  const [made, setMade] = useState(0);
  const [looked, look] = useState(0);
  const stopped = useRef(false);
  const body = JSON.stringify(filter);

  useEffect(() => () => void (stopped.current = true), []);
  useEffect(() => {
    const asked = new AbortController();
    setFound(undefined);
    setProblem(undefined);
    change<Matched>("POST", at, { filter, dry_run: true }, asked.signal).then(setFound).catch((error) => {
      if (!isAbort(error)) setProblem(problemOf(error));
    });
    return () => asked.abort();
  }, [at, body, looked]);

  const number = found?.matched ?? 0;
  const run = async (): Promise<void> => {
    let [sum, refused, expect] = [0, 0, number];
    const as_of = found?.as_of;
    try {
      while (expect > 0 && !stopped.current) {
        const told = await change<Matched>("POST", at, { filter, expect, as_of });
        sum += told.done;
        refused += told.refused;
        setMade(sum);
        // What stays although it was asked for is refused each time.
        expect = told.done === 0 ? 0 : told.left;
      }
    } catch (error) {
      const why = problemOf(error);
      again();
      look((times) => times + 1);
      throw sum === 0 ? why : new Problem(why.status, why.code, `${count(sum)} ${sum === 1 ? "task is" : "tasks are"} ${done}; then: ${why.message}`, why.errors);
    }
    say(`${count(sum)} ${sum === 1 ? "task is" : "tasks are"} ${done}${refused > 0 ? `; ${count(refused)} could not be` : ""}.`, refused > 0);
    again();
  };
  return (
    <Confirm
      title={title}
      act={number > 0 ? `${act} ${count(number)} ${number === 1 ? "task" : "tasks"}` : act}
      number={number}
      always
      danger={danger}
      disabled={number === 0 || found?.more}
      run={run}
      close={close}
    >
      {children}
      {problem && <Trouble problem={problem} again={() => look((times) => times + 1)} />}
      {!found && !problem && <Waiting lines={3} />}
      {found && <Meant found={found} />}
      {made > 0 && <p role="status">{count(made)} so far …</p>}
    </Confirm>
  );
}

function Meant({ found }: { found: Matched }): JSX.Element {
  const { matched, more, examples } = found;
  if (matched === 0) return <p class="warn">△ No task is meant now.</p>;
  if (more) return <p class="warn">△ More than {count(matched)} tasks are meant: narrow the filter.</p>;
  return (
    <>
      <p><b>{count(matched)}</b> {matched === 1 ? "task is" : "tasks are"} meant now{matched > examples.length && ", the oldest of them"}:</p>
      <ul class="examples">
        {examples.map((task) => (
          <li key={task.id}>
            <State look={statusLook(task.status)} /> <span class="names">{task.type} / {task.identifier}</span>
          </li>
        ))}
      </ul>
    </>
  );
}
