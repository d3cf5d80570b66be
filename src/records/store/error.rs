//! What keeps the store from doing what was asked.

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configured address is none.
    #[error("the address of the database cannot be used: {reason}")]
    Address {
        /// What is wrong with it, without the address.
        reason: String,
    },
    /// The database cannot be reached, or does not do it now: it is full, read-only, short of something.
    /// Trying again later can help.
    #[error("cannot use the database at {safe_url}: {reason}")]
    Unavailable {
        /// The address without password.
        safe_url: String,
        /// What the driver said.
        reason: String,
        /// Which of these it is.
        cause: Refusal,
    },
    /// The server has no database of this name.
    #[error("cannot use the database at {safe_url}: {reason}")]
    NoDatabase {
        /// The address without password.
        safe_url: String,
        /// How it can be made.
        reason: String,
    },
    /// A deadlock or lock time-out that persisted through all retries.
    #[error("the database was too busy: {reason}")]
    Busy {
        /// What the database said.
        reason: String,
    },
    /// The database is there, and nobody has made the tables yet.
    #[error("database {database:?} has no tables yet; run `tasker initialize --database`")]
    NoTables {
        /// Its name, or the file.
        database: String,
    },
    /// Tables or columns of this program are not there, or a migration has not run.
    #[error("the database schema does not fit this program: {reason}; run `tasker initialize --database`")]
    Missing {
        /// What is missing.
        reason: String,
    },
    /// The schema is newer than this program or altered, or a migration was interrupted.
    #[error("the database schema does not fit this program: {reason}")]
    Schema {
        /// What is wrong and which command mends it.
        reason: String,
    },
    /// The database can be written, and does not take these rows, now or later.
    #[error("the database refused these rows: {reason}")]
    Rows {
        /// What the database said.
        reason: String,
    },
    /// The database can be written, and no statement may be as long as one with these rows.
    #[error("{bytes} bytes are more than the database accepts in one statement ({most}, max_allowed_packet)")]
    TooLarge {
        /// About how many they are.
        bytes: usize,
        /// How many it takes.
        most: usize,
    },
    /// A row holds what this program cannot read.
    #[error("a row of the database cannot be read: {reason}")]
    Corrupt {
        /// Table, key and column.
        reason: String,
    },
    /// A statement of ours is wrong for this database: a defect.
    #[error("a statement failed: {reason}")]
    Statement {
        /// What the database said.
        reason: String,
    },
}

impl StoreError {
    /// Whether trying again later, unchanged, can help.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Busy { .. })
    }

    /// Whether the database has to be set up for this program first, so that no wait helps.
    pub const fn needs_setup(&self) -> bool {
        matches!(
            self,
            Self::Schema { .. } | Self::Missing { .. } | Self::NoTables { .. } | Self::NoDatabase { .. }
        )
    }

    /// Whether somebody has to change the configuration or the rights of its user: waiting helps only if that
    /// happens.
    pub const fn is_denied(&self) -> bool {
        matches!(self, Self::Unavailable { cause: Refusal::Denied, .. })
    }

    /// Whether the rows that the operation is about are at fault, so that others can be written and these
    /// never will be. Of many rows in one operation it may be a single one, or their number.
    pub const fn is_row_fault(&self) -> bool {
        matches!(self, Self::Rows { .. } | Self::TooLarge { .. } | Self::Corrupt { .. })
    }

    /// Logs `what` a loop could not do and will try again. Quiet while the database is away, which health and
    /// metrics tell; an error otherwise, since the same will fail again until somebody mends it.
    pub fn log(&self, what: &str) {
        match self.is_transient() {
            true => tracing::debug!(error = %self, "{what}"),
            false => tracing::error!(error = %self, "{what}"),
        }
    }
}

/// Shorthand of this module.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why a database does not do now what it will do at another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot be reached.
    Unreachable,
    /// Nothing may be written.
    ReadOnly,
    /// There is no room, on the disk or in the table.
    Full,
    /// One of its limits is reached: connections, statements, memory.
    Limit,
    /// This user may not, or not yet.
    Denied,
    /// It ended the operation.
    Interrupted,
    /// Its files cannot be read or written.
    Storage,
    /// Anything else.
    Other,
}

impl Refusal {
    /// All of them.
    pub(super) const ALL: [Self; 8] = [
        Self::Unreachable,
        Self::ReadOnly,
        Self::Full,
        Self::Limit,
        Self::Denied,
        Self::Interrupted,
        Self::Storage,
        Self::Other,
    ];

    /// In metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::ReadOnly => "read_only",
            Self::Full => "full",
            Self::Limit => "limit",
            Self::Denied => "denied",
            Self::Interrupted => "interrupted",
            Self::Storage => "storage",
            Self::Other => "other",
        }
    }
}
