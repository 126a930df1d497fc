//! SQLite only.
