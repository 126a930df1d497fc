//! What PostgreSQL's errors mean for the caller.

use event_sourcing_actors::ports::StoreError;
use sqlx::Error;

use super::super::{OpenError, words};

/// SQLSTATE of a database error.
fn sqlstate(error: &Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(std::borrow::Cow::into_owned)
}

/// Whether the server could not do now what it may do later: connection, resources, shutdown, timeout, a standby, or a
/// fault of its own. (SQLSTATE classes of the manual's appendix A.)
fn is_passing(sqlstate: &str) -> bool {
    ["08", "40", "53", "57", "58", "F0", "XX"].iter().any(|class| sqlstate.starts_with(class))
        || ["25006", "55P03", "25P03"].contains(&sqlstate)
}

/// An error of a statement.
pub(super) fn store_error(error: Error) -> StoreError {
    let reason = error.to_string();
    match error {
        Error::Database(_) if !sqlstate(&error).is_some_and(|code| is_passing(&code)) => StoreError::Refused { reason },
        Error::Encode(_) | Error::InvalidArgument(_) => StoreError::Refused { reason },
        Error::ColumnDecode { .. } | Error::Decode(_) | Error::ColumnNotFound(_) | Error::RowNotFound => {
            StoreError::Corrupt { reason }
        }
        _ => StoreError::Unavailable { reason },
    }
}

/// An error of opening.
pub(super) fn open_error(what: &str, error: &Error) -> OpenError {
    let (what, reason) = (what.to_owned(), words(error));
    let advice = match (error, sqlstate(error).as_deref()) {
        (_, Some(code)) if code.starts_with("28") => "check user and password in the URL, and pg_hba.conf",
        (_, Some("3D000")) => "create the database, or name another in the URL",
        (_, Some("42501")) => "grant the user CREATE on the schema, or migrate with a user who has it",
        (_, Some(code)) if !is_passing(code) => "the server refused a statement that this program needs",
        (Error::Configuration(_) | Error::InvalidArgument(_), _) => "correct the URL",
        (Error::Tls(_), _) => "check sslmode and the certificates in the URL",
        (Error::RowNotFound, _) => "the row of log_head is missing: restore the database from a backup",
        _ => return OpenError::Unavailable { what, reason },
    };
    OpenError::Configuration { what, reason, advice }
}
