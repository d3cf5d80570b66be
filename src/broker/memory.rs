//! The broker inside this process.
