//! A task for a worker in test mode: it renders a frame, so that somebody sees whether the worker can.

use serde_json::{Map, Value};

use crate::domain::Timestamp;
use crate::farm::{Command, MANAGER_LOCAL, ObjectId, Task};

/// What workers in test mode perform.
const TYPE: &str = "test-blender-render";
/// Blender brings a scene, and writes the frame where it writes by default.
const RENDER: &str = "{blender} --background --factory-startup --python-exit-code 1 --render-frame 1";

/// A new test task. The Server never hears of it.
pub(super) fn task(now: Timestamp) -> Task {
    let command = |name: &str, setting: &str, value: &str| {
        let settings = Map::from_iter([(setting.to_owned(), Value::from(value))]);
        Command { name: name.to_owned(), settings }
    };
    Task {
        job: Some(ObjectId::new(now)),
        name: "Test of a worker".to_owned(),
        commands: vec![
            command("echo", "message", "This worker is to render a frame with {blender}"),
            command("exec", "cmd", RENDER),
        ],
        last_updated: Some(now),
        ..Task::new(ObjectId::new(now), MANAGER_LOCAL, TYPE)
    }
}
