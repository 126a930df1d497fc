//! User: a registered person, the sessions that are open, and a record of what was done. Deactivation is final.

mod command;
mod event;
mod rejection;
mod state;

pub use command::{DeactivateUser, LogInUser, LogOutUser, RecordUserAction, RegisterUser, UserCommand};
pub use event::{UserActionRecorded, UserDeactivated, UserEvent, UserLoggedIn, UserLoggedOut, UserRegistered};
pub use rejection::UserRejection;
pub use state::{User, UserState, UserStatus};

use event_sourcing_actors::FieldError;

/// Longest e-mail address, in bytes (RFC 5321, erratum 1690).
pub const EMAIL_BYTES_MAX: usize = 254;

/// An address has one `@` with something on both sides and no white space; whether mail arrives only mail can tell.
fn email(pointer: &str, address: &str) -> Result<(), FieldError> {
    FieldError::text(pointer, address, EMAIL_BYTES_MAX)?;
    let halves = address.split_once('@');
    let sound = halves.is_some_and(|(local, host)| !local.is_empty() && !host.is_empty() && !host.contains('@'));
    if sound && !address.contains(char::is_whitespace) {
        return Ok(());
    }
    let detail = "must be an e-mail address: one @, something on both sides, no spaces".to_owned();
    Err(FieldError { pointer: pointer.to_owned(), detail })
}

#[cfg(test)]
mod tests;
