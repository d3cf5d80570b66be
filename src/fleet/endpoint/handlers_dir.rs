//! The directory of executables: which of its files performs a task type, and why the others perform none.
//!
//! Looks at names, rights and owners, each time anew: a handler can be added, replaced and removed while an
//! endpoint runs. Asks the system about files: nothing here is for an async worker.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::unfit::{Unfit, passes};
use crate::custody;
use crate::domain::TaskType;

/// A directory of executables.
#[derive(Debug, Clone)]
pub struct HandlersDir {
    path: PathBuf,
}

/// What a directory has.
#[derive(Debug, Default)]
pub struct Inventory {
    /// The task types that can be performed, in order.
    pub task_types: Vec<TaskType>,
    /// The names of the files that perform none, each with the reason, in order.
    pub left_out: Vec<(String, String)>,
}

impl HandlersDir {
    /// Need not be there yet.
    pub fn new(path: &Path) -> Self {
        // Handlers run in this directory, where a path relative to ours would lead elsewhere.
        Self { path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why nothing can be found in it whatever the name.
    pub fn trouble(&self) -> Option<String> {
        let path = self.path.display();
        match fs::metadata(&self.path) {
            Ok(meta) if meta.is_dir() => None,
            Ok(_) => Some(format!("{path} is not a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("the directory {path} does not exist"))
            }
            Err(error) => Some(format!("{path} cannot be looked at: {error}")),
        }
    }

    /// Whether an executable of a type is there and may be run.
    pub fn has(&self, task_type: &TaskType) -> bool {
        matches!(self.find(task_type), Ok(Some(_)))
    }

    /// All that it has. Files whose name begins with a dot, and directories, are not meant to be handlers and
    /// are passed over.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn inventory(&self) -> io::Result<Inventory> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // Followed: a link to an executable is one.
            if !name.starts_with('.') && !fs::metadata(self.path.join(&name)).is_ok_and(|meta| meta.is_dir())
            {
                names.insert(name);
            }
        }
        let mut inventory = Inventory::default();
        for name in names {
            match self.task_type_of(&name) {
                Ok(task_type) => inventory.task_types.push(task_type),
                Err(reason) => inventory.left_out.push((name, reason)),
            }
        }
        inventory.task_types.sort_unstable();
        Ok(inventory)
    }

    /// The task type that a file performs, or why it performs none.
    fn task_type_of(&self, name: &str) -> Result<TaskType, String> {
        let stem = match name.rsplit_once('.') {
            Some((stem, extension)) if EXTENSIONS.contains(&extension) => stem,
            Some(_) => return Err(NO_EXTENSION.to_owned()),
            None => name,
        };
        let task_type: TaskType =
            stem.parse().map_err(|invalid: crate::domain::InvalidName| format!("`{stem}`: {invalid}"))?;
        match self.find(&task_type) {
            Ok(Some(found)) if found == self.path.join(name) => Ok(task_type),
            Ok(Some(found)) => Err(format!("{} performs `{task_type}`", found.display())),
            Ok(None) => Err(format!("{NOT_EXECUTABLE}: chmod +x")),
            Err(unfit) => Err(unfit.reason().to_owned()),
        }
    }

    /// The executable of a type: the file `backup`, or else the one that is called `backup.sh` or the like.
    /// Asks the system about files: not for an async worker.
    ///
    /// The names are asked for one by one, since a list of the directory may lack one that is just being
    /// replaced.
    pub(super) fn find(&self, task_type: &TaskType) -> Result<Option<PathBuf>, Unfit> {
        if let Some(path) = self.usable(task_type.as_str().to_owned())? {
            return Ok(Some(path));
        }
        let mut found = Vec::new();
        for extension in EXTENSIONS {
            found.extend(self.usable(format!("{task_type}.{extension}"))?);
        }
        match found.len() {
            0 => Ok(None),
            1 => Ok(found.pop()),
            _ => {
                let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
                let dir = self.path.display();
                Err(Unfit::ForNow(format!(
                    "`{task_type}` may be any of {} in {dir}: leave one of them there",
                    names.join(", ")
                )))
            }
        }
    }

    /// A file of this name, if it may be run.
    fn usable(&self, name: String) -> Result<Option<PathBuf>, Unfit> {
        let path = self.path.join(name);
        let unreadable = |error: io::Error| {
            let reason = format!("{} cannot be looked at: {error}", path.display());
            if passes(&error, true) { Unfit::ForNow(reason) } else { Unfit::UntilMended(reason) }
        };
        // Followed: a link is how a handler is commonly switched to another version. One that leads nowhere
        // is none.
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        }
        match custody::objection(&path) {
            Ok(None) => Ok(Some(path)),
            Ok(Some(objection)) => {
                Err(Unfit::UntilMended(format!("{} is not run: {objection}", path.display())))
            }
            // Removed since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// Why there is nothing to run for a type, with what looks as if it was meant to be.
    pub(super) fn why_none(&self, task_type: &TaskType) -> String {
        let mut near: Vec<_> = fs::read_dir(&self.path)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| {
                name.strip_prefix(task_type.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '~', '-']))
            })
            .map(|name| {
                match name.strip_prefix(task_type.as_str()).map(|rest| rest.trim_start_matches('.')) {
                    Some(rest) if rest.is_empty() || EXTENSIONS.contains(&rest) => {
                        format!("`{name}` {NOT_EXECUTABLE}")
                    }
                    _ => format!("`{name}` {NO_EXTENSION}"),
                }
            })
            .collect();
        near.sort_unstable();
        near.truncate(NEAR);
        let near = if near.is_empty() { String::new() } else { format!(" ({})", near.join(", ")) };
        format!("no executable of this name in {}{near}", self.path.display())
    }
}

/// What a handler's name may end with. Not just anything: tools and people leave copies beside a file
/// (`.bak`, `.new`, `.rpmsave`, `.20261128`), and those must neither run nor stand in the way.
const EXTENSIONS: [&str; 42] = [
    "sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "csh", "tcsh", "nu", "ps1", "py", "py2",
    "py3", "pyz", "pl", "rb", "php", "lua", "tcl", "js", "mjs", "cjs", "ts", "mts", "awk", "sed", "jq", "r",
    "R", "jl", "raku", "groovy", "kts", "exs", "swift", "jar", "exe", "bin", "run", "AppImage",
];

/// Files that are named when there is no handler.
const NEAR: usize = 3;

const NOT_EXECUTABLE: &str = "is not an executable file";
const NO_EXTENSION: &str = "has none of the extensions of handlers";
