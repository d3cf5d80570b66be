//! Whose turn it is, and at which worker, worked out from what was read under the lock. No I/O.

use std::collections::HashMap;

use super::records::QueueRule;
use crate::domain::{
    AttemptError, EndpointName, NewTask, PayloadKey, Task, TaskId, TaskType, Timestamp, UniqueKey,
};
use crate::store::batch;

/// Tasks given, or taken back, in one transaction at most.
pub(super) const TURNS: usize = 256;

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// That of tasks which wait.
    Waiting,
    /// That of tasks which are new, if nobody waits.
    AtOnce,
}

/// A waiting task, in the order of turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub id: TaskId,
    pub task_type: TaskType,
    pub priority: i32,
    pub queued_at: Timestamp,
    pub limit_key: Option<PayloadKey>,
    pub expires_at: Timestamp,
}

impl Candidate {
    /// A task with what its queue row says.
    pub fn of(task: &Task, queued_at: Timestamp, limit_key: Option<PayloadKey>) -> Self {
        Self {
            id: task.id,
            task_type: task.task_type.clone(),
            priority: task.queued.as_ref().map_or(0, |queued| queued.priority),
            queued_at,
            limit_key,
            expires_at: task.expires_at,
        }
    }
}

/// Of tasks that are to be recorded, those whose turn it is at once if nobody waits: the ones that nothing
/// may hold back.
pub(super) fn at_once(rules: &[QueueRule], tasks: &[&NewTask]) -> Vec<Candidate> {
    let unlimited = |name: &TaskType| {
        rules
            .iter()
            .any(|rule| rule.task_type == *name && rule.max_running.is_none() && rule.max_per_key.is_none())
    };
    let candidate = |task: &&NewTask| {
        let place = task.place.as_ref()?;
        let free = place.run_at.is_none()
            && place.unique.is_none()
            && place.limit_key.is_none()
            && unlimited(&task.task_type);
        free.then(|| Candidate {
            id: task.id,
            task_type: task.task_type.clone(),
            priority: place.priority,
            queued_at: task.start_time,
            limit_key: None,
            expires_at: task.expires_at,
        })
    };
    tasks.iter().filter_map(candidate).collect()
}

/// A queued task whose worker is gone, or has come back without the memory of it.
pub(super) struct Orphan {
    pub id: TaskId,
    pub task_type: TaskType,
    pub worker: EndpointName,
    /// Whether the worker has reported that it received it.
    pub received: bool,
    /// Whether the worker has said goodbye.
    pub left: bool,
    pub attempts: Vec<AttemptError>,
    pub unique: Option<UniqueKey>,
}

impl Orphan {
    /// Whether the worker may have begun it. The report of a worker that went in silence may have been lost
    /// with the connection. A worker that said goodbye has reported all its tasks before.
    pub const fn may_have_begun(&self) -> bool {
        self.received || !self.left
    }
}

/// A worker that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Worker {
    pub name: EndpointName,
    pub task_types: Vec<TaskType>,
    /// How many tasks it can take now.
    pub room: u32,
}

/// For how many tasks of each type there is room, so many at most; types for which there is none are left
/// out.
pub(super) fn demand<'a>(
    rules: &'a [QueueRule],
    workers: &[Worker],
    most: usize,
) -> Vec<(&'a QueueRule, usize)> {
    let room = |rule: &QueueRule| {
        workers.iter().filter(|worker| worker.task_types.contains(&rule.task_type)).map(|it| it.room).sum()
    };
    rules.iter().map(|rule| (rule, batch::rows(room(rule)).min(most))).filter(|(_, room)| *room > 0).collect()
}

/// How many more tasks of a type may run.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowance {
    /// Of the type; none for no limit.
    pub of_type: Option<u32>,
    /// Of each key; none for no limit.
    pub of_key: Option<u32>,
    /// How many of each key run.
    pub running: HashMap<PayloadKey, u32>,
}

/// What is to be done with the candidates; those that are not named go on waiting as they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub given: Vec<(TaskId, EndpointName)>,
    /// As many of their key run as may.
    pub held: Vec<TaskId>,
    /// Their time was over before their turn came.
    pub expired: Vec<TaskId>,
}

/// Gives each candidate, best first, to the worker with the most room; among those with as much, to each of
/// them as often.
pub(super) fn plan(
    mut candidates: Vec<Candidate>,
    mut workers: Vec<Worker>,
    mut allowances: HashMap<TaskType, Allowance>,
    now: Timestamp,
) -> Plan {
    candidates.sort_by_key(|candidate| (candidate.priority, candidate.queued_at, candidate.id));
    let mut plan = Plan::default();
    for candidate in candidates {
        if candidate.expires_at <= now {
            plan.expired.push(candidate.id);
            continue;
        }
        let allowance = allowances.entry(candidate.task_type.clone()).or_default();
        let running = candidate.limit_key.map(|key| allowance.running.entry(key).or_default());
        if let (Some(most), Some(running)) = (allowance.of_key, &running)
            && **running >= most
        {
            plan.held.push(candidate.id);
            continue;
        }
        if allowance.of_type == Some(0) {
            continue;
        }
        let fits = |worker: &&mut Worker| worker.room > 0 && worker.task_types.contains(&candidate.task_type);
        // The end of an id is random, so the first in line is another one each time.
        let (count, first) = (workers.len().max(1), candidate.id.0.as_u128() as usize);
        let in_line = |at: usize| at.wrapping_add(first) % count;
        let most_room = workers
            .iter_mut()
            .enumerate()
            .filter(|(_, worker)| fits(worker))
            .max_by_key(|(at, worker)| (worker.room, in_line(*at)));
        let Some((_, worker)) = most_room else { continue };
        worker.room -= 1;
        if let Some(running) = running {
            *running += 1;
        }
        allowance.of_type = allowance.of_type.map(|left| left - 1);
        plan.given.push((candidate.id, worker.name.clone()));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000);

    fn task_type(name: &str) -> TaskType {
        name.parse().expect("a type")
    }

    fn candidate(number: u128, name: &str, priority: i32, key: Option<u8>) -> Candidate {
        Candidate {
            id: TaskId(uuid::Uuid::from_u128(number)),
            task_type: task_type(name),
            priority,
            queued_at: Timestamp::from_micros(5),
            limit_key: key.map(|key| [key; 32]),
            expires_at: Timestamp::from_micros(2_000),
        }
    }

    fn worker(name: &str, types: &[&str], room: u32) -> Worker {
        Worker {
            name: name.parse().expect("a name"),
            task_types: types.iter().map(|name| task_type(name)).collect(),
            room,
        }
    }

    fn numbers(ids: &[TaskId]) -> Vec<u128> {
        ids.iter().map(|id| id.0.as_u128()).collect()
    }

    fn given(plan: &Plan) -> Vec<(u128, &str)> {
        plan.given.iter().map(|(id, name)| (id.0.as_u128(), name.as_str())).collect()
    }

    #[test]
    fn the_best_goes_first_whatever_its_type() {
        let waiting = vec![
            candidate(1, "run", 100, None),
            candidate(3, "warmup", 10, None),
            candidate(2, "warmup", 10, None),
        ];
        let plan = plan(waiting, vec![worker("w", &["run", "warmup"], 2)], HashMap::new(), NOW);
        assert_eq!(given(&plan), [(2, "w"), (3, "w")]);
    }

    #[test]
    fn each_goes_to_who_takes_it_and_has_most_room() {
        let waiting = vec![
            candidate(1, "a", 1, None),
            candidate(2, "b", 1, None),
            candidate(3, "a", 1, None),
            candidate(4, "b", 1, None),
        ];
        let plan =
            plan(waiting, vec![worker("x", &["a"], 1), worker("y", &["a", "b"], 2)], HashMap::new(), NOW);
        assert_eq!(given(&plan), [(1, "y"), (2, "y"), (3, "x")], "and nobody has room for the fourth");
    }

    #[test]
    fn workers_with_the_same_room_take_turns() {
        let workers = || vec![worker("x", &["a"], 5), worker("y", &["a"], 5), worker("z", &["a"], 5)];
        let to = |number| {
            plan(vec![candidate(number, "a", 1, None)], workers(), HashMap::new(), NOW).given[0].1.to_string()
        };
        let mut names = [0, 1, 2].map(to);
        names.sort();
        assert_eq!(names, ["x", "y", "z"], "each is alone at one time");
    }

    #[test]
    fn limits_hold_and_what_is_too_late_expires() {
        let mut late = candidate(1, "a", 1, None);
        late.expires_at = NOW;
        let waiting = vec![
            late,
            candidate(2, "a", 1, Some(7)),
            candidate(3, "a", 1, Some(8)),
            candidate(4, "a", 1, Some(8)),
        ];
        let running = HashMap::from([([7; 32], 1)]);
        let limits =
            HashMap::from([(task_type("a"), Allowance { of_type: Some(5), of_key: Some(1), running })]);
        let plan = plan(waiting, vec![worker("w", &["a"], 9)], limits, NOW);
        assert_eq!(
            (given(&plan), numbers(&plan.held), numbers(&plan.expired)),
            (vec![(3, "w")], vec![2, 4], vec![1])
        );
        let limits =
            HashMap::from([(task_type("a"), Allowance { of_type: Some(1), ..Allowance::default() })]);
        let waiting = vec![candidate(1, "a", 1, None), candidate(2, "a", 1, None)];
        assert_eq!(given(&super::plan(waiting, vec![worker("w", &["a"], 9)], limits, NOW)), [(1, "w")]);
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_fits(
            waiting in proptest::collection::vec((0u8..3, -2i32..3, proptest::option::of(0u8..3)), 0..60),
            rooms in proptest::collection::vec((0u32..6, 0u8..7), 0..5),
            of_key in 1u32..3,
            of_type in 0u32..9,
        ) {
            let names = ["a", "b", "c"];
            let waiting: Vec<_> =
                waiting.iter().enumerate().map(|(at, (name, priority, key))| candidate(at as u128, names[usize::from(*name)], *priority, *key)).collect();
            let workers: Vec<_> = rooms.iter().enumerate().map(|(at, (room, types))| {
                let types: Vec<_> = names.iter().enumerate().filter(|(bit, _)| types & (1 << bit) != 0).map(|(_, name)| *name).collect();
                worker(&format!("w{at}"), &types, *room)
            }).collect();
            let limits: HashMap<_, _> = names.iter().map(|name| (task_type(name), Allowance { of_type: Some(of_type), of_key: Some(of_key), running: HashMap::new() })).collect();
            let plan = plan(waiting.clone(), workers.clone(), limits, NOW);
            for worker in &workers {
                let taken: Vec<_> = plan.given.iter().filter(|(_, name)| *name == worker.name).map(|(id, _)| id.0.as_u128() as usize).collect();
                prop_assert!(taken.len() <= worker.room as usize);
                prop_assert!(taken.iter().all(|at| worker.task_types.contains(&waiting[*at].task_type)));
            }
            for name in names {
                let of = |key: Option<u8>| plan.given.iter().filter(|(id, _)| {
                    let it = &waiting[id.0.as_u128() as usize];
                    it.task_type.as_str() == name && key.is_none_or(|key| it.limit_key == Some([key; 32]))
                }).count();
                prop_assert!(of(None) <= of_type as usize);
                prop_assert!((0..3).all(|key| of(Some(key)) <= of_key as usize));
            }
        }
    }
}
