//! What can be wrong with the settings.

use std::path::PathBuf;

/// Why the settings cannot be used. Values that may be secret are never part of it.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A folder was named, but it is not there.
    #[error("the configuration folder {} does not exist ({origin})", path.display())]
    NoFolder {
        /// As named.
        path: PathBuf,
        /// By which flag or variable.
        origin: String,
    },
    /// The system refuses to read a file that is there.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file has a name that looks right but is not read.
    #[error("{} is not read: rename it to {expected}", path.display())]
    FileName {
        /// The file found.
        path: PathBuf,
        /// Its right name.
        expected: String,
    },
    /// The file is no YAML, or its top is no mapping.
    #[error("{} is not valid: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What and where, as the parser says it.
        problem: String,
    },
    /// The section is known, but stands in another file.
    #[error("section {section:?} does not belong in {}: move it to {right}", path.display())]
    Misplaced {
        /// The section.
        section: String,
        /// Where it was found.
        path: PathBuf,
        /// The name of its own file.
        right: &'static str,
    },
    /// Nobody knows this key.
    #[error("unknown setting {key:?} ({origin}); {hint}")]
    Unknown {
        /// Dotted name.
        key: String,
        /// File or variable.
        origin: String,
        /// The nearest known name, or all that are known at that place.
        hint: String,
    },
    /// The value has the wrong type, or lies outside its range.
    #[error("setting {key:?} ({origin}): {problem}")]
    Invalid {
        /// Dotted name.
        key: String,
        /// File, variable or flag.
        origin: String,
        /// What is expected instead.
        problem: String,
    },
    /// Two variables set one key to different values.
    #[error("setting {key:?} is set differently by {first} and {second}; keep one of them")]
    Contradiction {
        /// Dotted name.
        key: String,
        /// One variable.
        first: String,
        /// The other.
        second: String,
    },
    /// A variable that is a setting does not hold text.
    #[error("the environment variable {variable} is not valid UTF-8")]
    NotText {
        /// Its name.
        variable: String,
    },
}
