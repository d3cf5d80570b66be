//! A list of tasks made from one source, to be customised and then launched as a whole.

use std::ops::{Index, IndexMut};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;

use super::TlsMode;
use super::task::{InvalidTask, Priority, Task, TaskId};

/// Tasks in their order. `T` is what the caller wants to find again at a completion: a host name, a row id.
#[derive(Debug, Clone)]
pub struct TaskList<T = ()> {
    entries: Vec<Entry<T>>,
}

/// A task of a list with its tag.
#[derive(Debug, Clone)]
pub struct Entry<T> {
    pub(super) task: Task,
    pub(super) tag: T,
}

impl<T: Default> TaskList<T> {
    /// `count` tasks of the source's content, each with its own name.
    pub fn of(source: &Task, count: usize) -> Self {
        Self { entries: (0..count).map(|_| Entry { task: source.sibling(), tag: T::default() }).collect() }
    }
}

impl<T> TaskList<T> {
    /// One without tasks.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds a task with its tag.
    pub fn push(&mut self, task: Task, tag: T) {
        self.entries.push(Entry { task, tag });
    }

    /// How many are not left out.
    pub(super) fn launchable(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.task.skip).count()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry<T>> {
        self.entries.iter()
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Entry<T>> {
        self.entries.iter_mut()
    }

    pub(super) fn into_entries(self) -> Vec<Entry<T>> {
        self.entries
    }
}

impl<T> Default for TaskList<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Index<usize> for TaskList<T> {
    type Output = Entry<T>;
    fn index(&self, index: usize) -> &Entry<T> {
        &self.entries[index]
    }
}

impl<T> IndexMut<usize> for TaskList<T> {
    fn index_mut(&mut self, index: usize) -> &mut Entry<T> {
        &mut self.entries[index]
    }
}

impl<'a, T> IntoIterator for &'a mut TaskList<T> {
    type Item = &'a mut Entry<T>;
    type IntoIter = std::slice::IterMut<'a, Entry<T>>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<T> Entry<T> {
    /// The task's name.
    pub const fn id(&self) -> TaskId {
        self.task.id
    }

    /// The task as it stands.
    pub const fn task(&self) -> &Task {
        &self.task
    }

    /// What the caller wants to find again.
    pub const fn tag(&self) -> &T {
        &self.tag
    }

    /// Sets what the caller wants to find again.
    pub fn set_tag(&mut self, tag: T) -> &mut Self {
        self.tag = tag;
        self
    }

    /// Sends it elsewhere.
    ///
    /// # Errors
    /// As [`Task::set_url`].
    pub fn set_url(&mut self, url: &str) -> Result<&mut Self, InvalidTask> {
        self.task.set_url(url)?;
        Ok(self)
    }

    /// Sets the method.
    pub fn set_method(&mut self, method: Method) -> &mut Self {
        self.task.method = method;
        self
    }

    /// Adds a header.
    ///
    /// # Errors
    /// As [`Task::header`].
    pub fn header(
        &mut self,
        name: impl AsRef<str>,
        value: impl AsRef<[u8]>,
    ) -> Result<&mut Self, InvalidTask> {
        self.task.add_header(name.as_ref(), value.as_ref())?;
        Ok(self)
    }

    /// Sets what it sends.
    pub fn body(&mut self, body: impl Into<Bytes>) -> &mut Self {
        self.task.body = body.into();
        self
    }

    /// See [`Task::timeout`].
    pub fn timeout(&mut self, timeout: Duration) -> &mut Self {
        self.change(|task| task.timeout(timeout))
    }

    /// See [`Task::attempt_timeout`].
    pub fn attempt_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.change(|task| task.attempt_timeout(timeout))
    }

    /// See [`Task::retries`].
    pub fn retries(&mut self, retries: u32) -> &mut Self {
        self.change(|task| task.retries(retries))
    }

    /// See [`Task::backoff_max`].
    pub fn backoff_max(&mut self, longest: Duration) -> &mut Self {
        self.change(|task| task.backoff_max(longest))
    }

    /// See [`Task::tls_mode`].
    pub fn tls_mode(&mut self, mode: TlsMode) -> &mut Self {
        self.change(|task| task.tls_mode(mode))
    }

    /// See [`Task::body_limit`].
    pub fn body_limit(&mut self, bytes: usize) -> &mut Self {
        self.change(|task| task.body_limit(bytes))
    }

    /// See [`Task::priority`].
    pub fn priority(&mut self, priority: Priority) -> &mut Self {
        self.change(|task| task.priority(priority))
    }

    /// Whether it is left out: it is not sent and does not complete.
    pub fn skip(&mut self, skip: bool) -> &mut Self {
        self.change(|task| task.skip(skip))
    }

    /// Anything else that a task can be told, see [`Task`].
    pub fn change(&mut self, how: impl FnOnce(Task) -> Task) -> &mut Self {
        self.task = how(self.task.clone());
        self
    }
}
