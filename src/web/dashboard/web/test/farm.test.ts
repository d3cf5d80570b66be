import { describe, expect, test } from "vitest";
import { farmJobLook, farmProgress, workerLook } from "../src/farm";
import type { FarmJob, FarmTask, FarmWorker } from "../src/types";

const job = (tasks: FarmJob["tasks"]): FarmJob => ({
  id: "5e90c0000000000000000c01",
  job_type: "render",
  priority: 50,
  created_at: "2026-11-28T00:00:00Z",
  total: Object.values(tasks).reduce((sum, number) => sum + number, 0),
  tasks,
});

describe("a job of a farm", () => {
  test.each<[FarmJob["tasks"], string]>([
    [{ completed: 3 }, "completed"],
    [{ completed: 3, active: 1, failed: 2, queued: 9 }, "running"],
    [{ "soft-failed": 1, queued: 9 }, "to be retried"],
    [{ "claimed-by-manager": 1, failed: 1 }, "waiting"],
    [{ completed: 3, failed: 1, canceled: 2 }, "failed"],
    [{ completed: 3, paused: 1 }, "paused"],
    [{ completed: 3, canceled: 1 }, "canceled"],
    [{ "cancel-requested": 1, queued: 1 }, "stopping"],
  ])("%j is %s", (tasks, word) => {
    expect(farmJobLook(job(tasks)).word).toBe(word);
  });

  test("has a bar of what has become of its tasks", () => {
    expect(farmProgress(job({ completed: 3, failed: 1, "soft-failed": 2, active: 4, queued: 5 })).map(({ number }) => number)).toEqual([3, 3, 4, 0]);
  });
});

test("a worker that is awake works if it has a task", () => {
  const worker = (status: string): FarmWorker => ({
    id: "1", nickname: "a", platform: "linux", address: "", software: "", status, status_requested: null, lazy: false, task_types: [],
    current_task: null, current_job: null, current_task_status: "", last_activity: null,
  });
  expect(workerLook(worker("awake"), {} as FarmTask).word).toBe("working");
  expect(["awake", "timeout", "", "odd"].map((status) => workerLook(worker(status), undefined).word)).toEqual(["idle", "silent", "registered", "odd"]);
});
