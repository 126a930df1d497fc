//! What a caller may do: [`Role`].

use std::{fmt, str::FromStr, sync::Arc};

use event_sourcing_actors::catalog::nearest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a caller may do. Every role may read; an admin may do everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Ask queries and read the log.
    Reader,
    /// Send commands, append events, start sagas.
    Writer,
    /// Rebuild, pause, retry and skip.
    Operator,
    /// Verify the evidence and read the audit.
    Auditor,
    /// Everything, keys included.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] = [Self::Reader, Self::Writer, Self::Operator, Self::Auditor, Self::Admin];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }

    /// Whether who has this role may do what demands that one.
    #[must_use]
    pub fn may(self, demanded: Self) -> bool {
        self == demanded || self == Self::Admin || demanded == Self::Reader
    }
}

/// Whether who has these roles may do what demands that one; names that are no roles count for nothing.
#[must_use]
pub fn may(roles: &[Arc<str>], demanded: Role) -> bool {
    roles.iter().any(|name| name.parse().is_ok_and(|role: Role| role.may(demanded)))
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no [`Role`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no role{}; roles are reader, writer, operator, auditor and admin", near(nearest))]
pub struct UnknownRole {
    name: String,
    nearest: Vec<String>,
}

fn near(nearest: &[String]) -> String {
    nearest.first().map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or_else(|| UnknownRole {
            // What stands here may be a secret that was put in the wrong place.
            name: text.chars().take(20).collect(),
            nearest: nearest(text, Self::ALL.iter().map(|role| role.as_str())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_reads_and_only_an_admin_does_everything() {
        for role in Role::ALL {
            assert!(role.may(Role::Reader) && Role::Admin.may(role) && role.may(role));
            assert_eq!(role.as_str().parse(), Ok(role));
            for other in Role::ALL {
                let allowed = role == other || role == Role::Admin || other == Role::Reader;
                assert_eq!(role.may(other), allowed, "{role} does what is {other}'s");
            }
        }
    }

    #[test]
    fn unknown_names_are_no_role_and_hint_at_one() {
        assert!(!may(&[Arc::from("root"), Arc::from("Admin"), Arc::from("")], Role::Reader));
        assert!(may(&[Arc::from("root"), Arc::from("auditor")], Role::Auditor));
        assert!("writr".parse::<Role>().unwrap_err().to_string().contains("did you mean writer?"));
    }
}
