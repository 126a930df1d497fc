//! Rows of the four read models, as they are stored, answered and shown as SQL views.
//!
//! A row is plain data: the projections write it, the queries answer it byte for byte, an embedder may read it back.
//! Renaming a member is a new version of its projection, and of the SQL view over it.

pub mod account_balance;
pub mod inventory;
pub mod order_summary;
pub mod user_activity;

/// Instants as everywhere in the API: RFC 3339 in UTC, microseconds, `Z`.
pub(crate) mod instant {
    use chrono::{DateTime, SecondsFormat, Utc};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn text(at: DateTime<Utc>) -> String {
        at.to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    pub(crate) fn serialize<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*at))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        DateTime::deserialize(deserializer)
    }

    /// The same where there may be none.
    pub(crate) mod option {
        use super::{DateTime, Deserialize, Deserializer, Serializer, Utc, text};

        pub(crate) fn serialize<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => serializer.serialize_some(&text(*at)),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<DateTime<Utc>>, D::Error> {
            Option::deserialize(deserializer)
        }
    }
}
