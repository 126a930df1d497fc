//! Addresses of other services: parsed as far as a choice depends on them, never shown with their secrets.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize, Serializer};

const MASK: &str = "***";
const FORMS: &str = "sqlite:///absolute/file.db, sqlite://relative/file.db, memory:, postgresql://… or postgres://…";

/// A URL that may hold a password. Only [`expose`](SecretUrl::expose) shows it; `Debug`, `Display` and serialisation
/// mask passwords.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Wraps a URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its secrets, for the client library that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Rather masks too much than too little: a password may hold unescaped `/`, `?`, `#` and `@`.
    fn masked(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return MASK.to_owned() };
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, rest),
        };
        let login = login.map_or(String::new(), |login| match login.split_once(':') {
            Some((user, _)) => format!("{user}:{MASK}@"),
            None => format!("{login}@"),
        });
        format!("{scheme}://{login}{}", masked_parameters(address))
    }
}

fn masked_parameters(address: &str) -> String {
    let Some((path, parameters)) = address.split_once('?') else { return address.to_owned() };
    let parameters: Vec<String> = parameters
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}={MASK}"),
            _ => parameter.to_owned(),
        })
        .collect();
    format!("{path}?{}", parameters.join("&"))
}

/// Percent-encoding in the name would hide it, so an encoded name counts as secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pass", "pwd", "secret", "token", "%"].iter().any(|part| name.contains(part))
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.masked(), f)
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

/// The database that holds the events.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Database {
    /// One file of this machine, made with its folder when it is not there.
    Sqlite {
        /// As written after `sqlite://`, without percent-decoding: relative to the working directory, or absolute.
        path: PathBuf,
    },
    /// The memory of the process: gone with it.
    Memory,
    /// A PostgreSQL that replicas share.
    Postgres {
        /// For the client library.
        url: SecretUrl,
    },
}

impl Default for Database {
    fn default() -> Self {
        Self::Sqlite { path: PathBuf::from("data/eventstore.db") }
    }
}

/// The text names no [`Database`]. It never repeats the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; it takes {FORMS}")]
pub struct DatabaseError {
    problem: String,
}

fn refuse<T>(problem: impl Into<String>) -> Result<T, DatabaseError> {
    Err(DatabaseError { problem: problem.into() })
}

fn sqlite(path: &str) -> Result<Database, DatabaseError> {
    if path.is_empty() || path.ends_with('/') {
        return refuse("sqlite:// must be followed by the path of a file");
    }
    if path.contains(['?', '#']) {
        return refuse("a sqlite:// path takes no parameters");
    }
    if path.contains(":memory:") || path.chars().any(char::is_control) {
        return refuse("sqlite:// must be followed by the path of a file");
    }
    Ok(Database::Sqlite { path: PathBuf::from(path) })
}

impl std::str::FromStr for Database {
    type Err = DatabaseError;

    fn from_str(text: &str) -> Result<Self, DatabaseError> {
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        match text.split_once("://") {
            Some(("sqlite", path)) => sqlite(path),
            Some(("postgresql" | "postgres", "")) => refuse("the host of the database is missing"),
            Some(("postgresql" | "postgres", _)) => Ok(Self::Postgres { url: SecretUrl::new(text) }),
            Some((scheme, _)) if scheme.len() <= 20 && scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
                refuse(format!("there is no store for {scheme}://"))
            }
            _ => refuse("this is no database URL"),
        }
    }
}

impl TryFrom<String> for Database {
    type Error = DatabaseError;

    fn try_from(text: String) -> Result<Self, DatabaseError> {
        text.parse()
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path } => write!(f, "sqlite://{}", path.display()),
            Self::Memory => f.write_str("memory:"),
            Self::Postgres { url } => url.fmt(f),
        }
    }
}

impl Serialize for Database {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_urls_are_understood() {
        let parse = |text: &str| text.parse::<Database>();
        let sqlite = |path: &str| Ok(Database::Sqlite { path: PathBuf::from(path) });
        assert_eq!(parse("sqlite:///abs/file.db"), sqlite("/abs/file.db"));
        assert_eq!(parse("sqlite://relative/file.db"), sqlite("relative/file.db"));
        assert_eq!(parse("memory:"), Ok(Database::Memory));
        for url in ["postgresql://u:p@h/db", "postgres://h:5432/db", "postgresql:///db?host=/run/postgresql"] {
            assert_eq!(parse(url), Ok(Database::Postgres { url: SecretUrl::new(url) }));
        }
        let wrong = [
            "",
            "sqlite://",
            "sqlite::memory:",
            "sqlite://:memory:",
            "sqlite://a.db?mode=ro",
            "sqlite://folder/",
            "sqlite:a.db",
            "mysql://u:hunter2@h/db",
            "postgresql://",
            "postgresql:hunter2",
            "memory",
            "memory://",
            "data.db",
            "://hunter2",
        ];
        for url in wrong {
            let message = parse(url).unwrap_err().to_string();
            assert!(message.contains(FORMS), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
