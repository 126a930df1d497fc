//! `GET /api/v1/config` and `PUT /api/v1/log-level`: what this server was told, and how much it says.

use super::{
    body::Envelope,
    error::{self, Answer, Problem},
    negotiate::{Media, negotiate},
    reply,
    request::Call,
};
use crate::{
    telemetry::LevelError,
    wire::{LogLevelChanged, Page},
};

/// Every effective setting with its source, as the word `config show` prints them.
pub(super) async fn show(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let Some(settings) = &call.server.context.settings else {
        return Err(Problem::new(error::NOT_FOUND, "the program that embeds this server shows no settings"));
    };
    call.query().finish()?;
    Ok(reply::json(&Page::<_, String>::whole(settings.iter().collect())))
}

/// Changes the level of the log, and tells the one before.
pub(super) async fn set_log_level(mut call: Call) -> Answer {
    let body = call.read_body(call.server.options.body_bytes_max).await?;
    let mut envelope = Envelope::parse(&body, call.server.options.json_depth_max)?;
    let level: String = envelope.required("level", "a text");
    envelope.finish()?;
    let Some(log) = &call.server.context.log else {
        return Err(Problem::new(error::NOT_FOUND, "the log is kept by the program that embeds this server"));
    };
    call.query().finish()?;
    match log.change(&level) {
        Ok((before, now)) => {
            // At a level that is told unless nothing is: whoever reads the log sees why it begins or ceases to say more.
            tracing::warn!(before, now, "the log level was changed");
            Ok(reply::json(&LogLevelChanged { level: now.to_owned(), previous_level: before.to_owned() }))
        }
        Err(LevelError::Unknown(unknown)) => Err(Problem::at(error::VALIDATION_FAILED, "/level", unknown.to_string())),
        Err(LevelError::Log(fault)) => {
            tracing::error!(%fault, "the log level cannot be changed");
            Err(Problem::internal())
        }
    }
}
