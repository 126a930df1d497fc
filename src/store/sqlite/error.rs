//! What SQLite's errors mean for the caller.

use event_sourcing_actors::ports::StoreError;
use sqlx::Error;

use super::super::{OpenError, words};

// Primary result codes, <https://www.sqlite.org/rescode.html>.
const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const NOMEM: i32 = 7;
const READONLY: i32 = 8;
const INTERRUPT: i32 = 9;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const PROTOCOL: i32 = 15;
const SCHEMA: i32 = 17;
const AUTH: i32 = 23;
const NOTADB: i32 = 26;

// Extended codes of IOERR: a flush of a file or of its folder failed.
const IOERR_FSYNC: i32 = 1_034;
const IOERR_DIR_FSYNC: i32 = 1_290;

/// Whether a flush failed: the pages may be in the file and will never be flushed, whatever a repetition says.
fn is_flush(error: &Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse().ok());
    matches!(code, Some(IOERR_FSYNC | IOERR_DIR_FSYNC))
}

/// The primary result code: the low byte of the extended one.
fn result_code(error: &Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// Whether another connection was writing.
pub(super) fn is_busy(error: &Error) -> bool {
    matches!(result_code(error), Some(BUSY | LOCKED))
}

/// An error of a statement.
pub(super) fn store_error(error: Error) -> StoreError {
    let reason = error.to_string();
    if is_flush(&error) {
        return StoreError::DurabilityLost { reason };
    }
    match (&error, result_code(&error)) {
        (
            _,
            Some(
                PERM | BUSY | LOCKED | NOMEM | READONLY | INTERRUPT | IOERR | FULL | CANTOPEN | PROTOCOL | SCHEMA
                | AUTH,
            ),
        ) => StoreError::Unavailable { reason },
        (_, Some(CORRUPT | NOTADB)) => StoreError::Corrupt { reason },
        (Error::Database(_) | Error::Encode(_) | Error::InvalidArgument(_), _) => StoreError::Refused { reason },
        (Error::ColumnDecode { .. } | Error::Decode(_) | Error::ColumnNotFound(_) | Error::RowNotFound, _) => {
            StoreError::Corrupt { reason }
        }
        _ => StoreError::Unavailable { reason },
    }
}

/// An error of opening.
pub(super) fn open_error(what: &str, error: &Error) -> OpenError {
    let (what, reason) = (what.to_owned(), words(error));
    let advice = match (error, result_code(error)) {
        (_, Some(BUSY | LOCKED | NOMEM | INTERRUPT | IOERR | FULL | PROTOCOL | SCHEMA)) => {
            return OpenError::Unavailable { what, reason };
        }
        (_, Some(CANTOPEN | PERM | READONLY | AUTH)) => "name a file in a folder that this program may write to",
        (_, Some(CORRUPT | NOTADB)) => "it is not a database, or a damaged one: name another, or restore a backup",
        (Error::RowNotFound, _) => "the row of log_head is missing: restore a backup",
        (Error::Io(_) | Error::WorkerCrashed | Error::PoolTimedOut, _) => {
            return OpenError::Unavailable { what, reason };
        }
        _ => "it refused a statement that this program needs; is it another program's?",
    };
    OpenError::Configuration { what, reason, advice }
}
