/** The JSON of the interface, as far as the page reads it. `/openapi.json` describes all of it. */

export type TaskStatus = "CREATED" | "SENT" | "INCOMPLETE" | "DONE" | "CANCELED" | "EXPIRED";
export const TASK_STATUSES: TaskStatus[] = ["CREATED", "SENT", "INCOMPLETE", "DONE", "CANCELED", "EXPIRED"];

export interface Target {
  match?: string[];
  groups?: string[];
  exclude?: string[];
  percent?: number;
  limit?: number;
  seed?: string;
  expect?: "subscribed" | "known";
}

export interface Queued {
  priority: number;
  run_at: string | null;
  attempts: Attempt[];
  parent: string | null;
  replaced_by: string | null;
  successor_error: string | null;
}

export interface Task {
  id: string;
  identifier: string;
  type: string;
  status: TaskStatus;
  start_time: string;
  endpoints: string[];
  target?: Target;
  rerun_of?: string;
  payload: unknown;
  expected: number;
  received: number;
  finished: number;
  failed: number;
  canceled: number;
  expired: number;
  published_at: string | null;
  finished_at: string | null;
  receive_by: string;
  expires_at: string;
  queue?: Queued;
  missing?: string[];
  warnings?: string[];
}

export interface TaskWithResponses {
  task: Task;
  taskResponseList: TaskResponse[];
}

export interface TaskPage {
  tasks: Task[];
  next_cursor: string | null;
}

/** What a filter means, and what was done about it. */
export interface Matched {
  matched: number;
  more: boolean;
  /** What came later is not meant. */
  as_of: string;
  done: number;
  refused: number;
  left: number;
  examples: { id: string; type: string; identifier: string; status: TaskStatus; start_time: string }[];
}

export interface Attempt {
  attempt: number;
  errnr: number;
  errmsg: string;
}

export type ResponseStatus = "EXPECTED" | "CREATED" | "FINISHED" | "CANCELED" | "EXPIRED";

export interface TaskResponse {
  id: string;
  task_id: string;
  endpoint: string;
  status: ResponseStatus;
  errnr: number | null;
  errmsg: string;
  payload: unknown;
  attempt: number;
  attempts: Attempt[];
  progress: number | null;
  log: string | null;
  start_time: string | null;
  last_modified_time: string;
  vanished: boolean;
  late: { contradicts: boolean; errnr: number; errmsg: string; time: string } | null;
}

export interface Log {
  endpoint: string;
  /** Bytes before the text that are not kept. */
  begin: number;
  text: string;
  time: string;
}

export interface LogPage {
  logs: Log[];
  next: string;
  ended: boolean;
}

export interface ResponsePage {
  responses: TaskResponse[];
  next_cursor: string | null;
}

export interface Subscription {
  type: string;
  subscribed: boolean;
  trouble: string | null;
  slots: number | null;
  standby: { instance: string; since: string; seen_until: string } | null;
}

export interface Endpoint {
  name: string;
  last_seen: string;
  version: string;
  clock_offset_ms: number | null;
  labels?: Record<string, string>;
  types: Subscription[];
}

export interface EndpointPage {
  endpoints: Endpoint[];
  next_cursor: string | null;
}

export interface Group {
  name: string;
  match: string;
  changed_by: string | null;
  changed_at: string;
}

export interface GroupList {
  groups: Group[];
}

export interface QueueList {
  queues: Queue[];
}

export interface Queue {
  type: string;
  paused_at: string | null;
  waiting: number;
  held: number;
  delayed: number;
  running: number;
  oldest: string | null;
}

/** What actions of the audit log begin with. */
export const ACTIONS = ["token", "session", "task", "queue", "schedule", "rollout", "request", "group", "endpoint"] as const;

export interface AuditPage {
  entries: AuditEntry[];
  more: boolean;
  head: { seq: number; hash: string };
}

export interface AuditEntry {
  seq: number;
  at: string;
  actor: string;
  action: string;
  subject: string;
  detail?: unknown;
  source: string;
  request_id?: string | null;
  hash: string;
}

export interface ScheduleList {
  schedules: Schedule[];
}

export interface Schedule {
  name: string;
  type: string;
  cron: string;
  time_zone: string;
  missed: string;
  endpoints: string[];
  done_until: string | null;
  next: string | null;
  next_local: string | null;
  paused_at: string | null;
  last_error: string | null;
  last_error_at: string | null;
}

export type RequestStatus = "Queuing" | "Inprogress" | "Completed" | "Failed" | "Canceled";
export const REQUEST_STATUSES: RequestStatus[] = ["Queuing", "Inprogress", "Completed", "Failed", "Canceled"];

export interface Job {
  id: number;
  name: string;
  step: number;
  try: number;
  status: "new" | "inprogress" | "completed" | "failed" | "retry" | "canceled";
  error: string | null;
  created: string;
  due_at: string | null;
  completed: string | null;
  task_id: string | null;
}

export interface Request {
  token: string;
  request_token: string | null;
  action: string;
  status: RequestStatus;
  error: string | null;
  step: number;
  steps: { name: string; jobs: string[]; when?: string }[];
  params: unknown;
  extras: Record<string, string>;
  created: string;
  completed: string | null;
  expires_at: string | null;
  jobs?: Job[];
}

export interface RequestPage {
  requests: Request[];
  next_cursor: string | null;
}

export interface Session {
  name: string | null;
  session: boolean;
  scopes: string[];
  task_types: string[];
  expires_at: string | null;
  now: string;
  version: string;
}

export interface TypeInfo {
  type: string;
  delivery: "fanout" | "queue";
  body: "envelope" | "payload";
  schema: unknown;
  example: unknown;
}

export interface TypeList {
  types: TypeInfo[];
  confirm_above: number;
}

export interface TaskCounts {
  open: { type: string; status: TaskStatus; count: number; oldest: string }[];
}

export interface StatisticsSpan {
  time: string;
  accepted: number;
  done: number;
  failed: number;
  canceled: number;
  expired: number;
  answers: number;
  errors: number;
}

export interface Statistics {
  step: "minute" | "hour";
  since: string;
  until: string;
  spans: StatisticsSpan[];
}

export interface Preview {
  type: string;
  endpoints: string[];
  left_out: { name: string; reason: string }[];
  unmatched: number;
  confirm_above: number;
  warnings: string[];
}

export interface Readiness {
  ready: boolean;
  database: string;
  broker: string;
}

export interface OwedTask {
  id: string;
  type: string;
  identifier: string;
  received: boolean;
  start_time: string;
  expires_at: string;
}

export interface OwedPage {
  tasks: OwedTask[];
  more: boolean;
}

export interface Reason {
  code: string;
  text: string;
  since?: string;
  next?: { at?: string; what: string };
}

export interface Explanation {
  reasons: Reason[];
  endpoints?: { code: string; count: number; endpoints: string[]; example: Reason }[];
  uncounted?: number;
}

export interface AnswerGroup {
  answer: string | null;
  status: ResponseStatus;
  errnr: number | null;
  count: number;
  exemplar: { endpoint: string; errmsg: string; payload: unknown; payload_omitted: boolean } | null;
  difference: { changes: { at: string; largest: string | null; here: string | null }[]; more: number } | null;
}

export interface Answers {
  groups: AnswerGroup[];
  more: { groups: number; endpoints: number };
}

export const ROLLOUT_STATUSES = ["CREATED", "RUNNING", "SETTLING", "PAUSED", "HALTED", "ABORTING", "DONE", "PARTIAL", "ABORTED", "ROLLING_BACK", "ROLLED_BACK", "ROLLBACK_FAILED"] as const;
export type RolloutStatus = (typeof ROLLOUT_STATUSES)[number];

export interface RolloutCounts {
  pending: number;
  sent: number;
  verifying: number;
  ok: number;
  failed: number;
  unreachable: number;
  absent: number;
  skipped: number;
  superseded: number;
}

export interface RolloutWave {
  wave: number;
  name: string | null;
  phase: "WAITING" | "ADMITTING" | "SOAKING" | "PROBING" | "PASSED";
  since: string | null;
  size: number;
  /** Endpoints in flight at the same time. */
  window: number;
  allowed_failed: number | null;
  allowed_unreachable: number | null;
  gates: string[];
  approvals: string[];
  counts: RolloutCounts;
}

export interface Rollout {
  id: string;
  identifier: string;
  type: string;
  status: RolloutStatus;
  reason: string | null;
  revision: number;
  created_by: string | null;
  /** The id of the rollout that it repeats or undoes. */
  parent: string | null;
  created: string;
  start_at: string | null;
  started_at: string | null;
  ended_at: string | null;
  expires_at: string;
  wave: number | null;
  size: number;
  allowed_failed: number | null;
  allowed_unreachable: number | null;
  counts: RolloutCounts;
  waves: RolloutWave[];
  rollback: { type: string; on: "changed" | "failed"; rollout: string | null } | null;
  warnings?: string[];
  document?: { windows?: unknown[]; in_flight?: "finish" | "stop" };
}

export interface RolloutTarget {
  endpoint: string;
  wave: number;
  state: string;
  since: string;
  task_id: string | null;
  errnr: number | null;
  note: string | null;
  round: number;
  /** Its failure domain, such as a rack; an API of before does not tell it. */
  domain?: string | null;
}

export interface RolloutPage {
  rollouts: Rollout[];
  next_cursor: string | null;
}

export interface RolloutTargetPage {
  targets: RolloutTarget[];
  next_cursor: string | null;
}

export interface RolloutEvents {
  events: { seq: number; time: string; kind: string; actor: string | null; wave: number | null; endpoint: string | null; text: string | null }[];
}

export type FarmStatus = "queued" | "claimed-by-manager" | "soft-failed" | "active" | "cancel-requested" | "completed" | "failed" | "canceled" | "paused" | "under-construction";

export interface FarmJob {
  id: string;
  job_type: string;
  priority: number;
  created_at: string;
  total: number;
  tasks: Partial<Record<FarmStatus, number>>;
}

export interface FarmJobPage {
  jobs: FarmJob[];
  next_cursor: string | null;
}

export interface FarmTask {
  id: string;
  name: string;
  status: FarmStatus;
  job: string | null;
  job_type: string;
  job_priority: number;
  priority: number;
  task_type: string;
  worker: string;
  worker_id: string | null;
  activity: string;
  failed_by: string[];
  last_worker_ping: string | null;
  last_updated: string | null;
}

export interface FarmTaskPage {
  tasks: FarmTask[];
  next_cursor: string | null;
}

export interface FarmTaskDetail extends FarmTask {
  parents: string[];
  commands: { name: string; settings: Record<string, unknown> }[];
  timing: Record<string, number> | null;
  log_tail: string | null;
}

export interface FarmWorker {
  id: string;
  nickname: string;
  platform: string;
  address: string;
  software: string;
  status: string;
  status_requested: string | null;
  lazy: boolean;
  task_types: string[];
  current_task: string | null;
  current_job: string | null;
  current_task_status: string;
  last_activity: string | null;
}

export interface FarmWorkerList {
  workers: FarmWorker[];
}
