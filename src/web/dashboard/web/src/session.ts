/** Who one is, and what for. */
import { computed, signal } from "@preact/signals";
import { Problem, change, get, onUnknown } from "./api";
import { setServerTime } from "./time";
import type { Session } from "./types";

/** Undefined until asked, null where a token is needed. */
export const session = signal<Session | null | undefined>(undefined);

/** Why the session could not be read, while that is so. */
export const sessionProblem = signal<string | undefined>(undefined);

onUnknown(() => {
  session.value = null;
});

function take(told: Session): void {
  setServerTime(told.now);
  session.value = told;
  sessionProblem.value = undefined;
}

/** Asks who one is, again and again until the interface answers. */
export async function look(): Promise<void> {
  try {
    const asked = Date.now();
    const told = await get<Session>("/session");
    setServerTime(told.now, (Date.now() - asked) / 2);
    take(told);
  } catch (error) {
    if (error instanceof Problem && error.status === 401) return;
    if (session.value === undefined) {
      sessionProblem.value = error instanceof Error ? error.message : String(error);
      setTimeout(() => void look(), 2000);
    }
  }
}

export async function logIn(token: string): Promise<void> {
  take(await change<Session>("POST", "/session", { token }));
}

export async function logOut(): Promise<void> {
  await change("DELETE", "/session");
  session.value = null;
}

const scopes = computed(() => new Set(session.value?.scopes ?? []));

/** Whether one may do what needs this scope. The server decides again. */
export const may = (scope: string): boolean => scopes.value.has(scope) || scopes.value.has("admin");

/** Whether one may read what is about all types. */
export const mayAllTypes = (): boolean => (session.value?.task_types.length ?? 0) === 0;
