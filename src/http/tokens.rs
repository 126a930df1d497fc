//! `/api/v1/tokens`: keys, for admins.

use warp::http::StatusCode;

use super::{
    body::Envelope,
    error::{self, Answer, Problem},
    negotiate::{Media, negotiate},
    reply,
    request::Call,
};
use crate::{
    auth::{Auth, NewToken, TokenError, role::UnknownRole},
    wire::{CreatedToken, Page, Token},
};

/// Keys, newest first; of each everything but the key.
pub(super) async fn list(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let auth = auth(&call)?;
    let mut query = call.query();
    let before = query.parsed("cursor", "a token id");
    let limit = query.limit();
    query.finish()?;
    let tokens = auth.tokens(before, limit).await?;
    let items = tokens.into_iter().map(Token::from).collect();
    Ok(reply::json(&Page::new(items, limit.get(), |last: &Token| last.token_id)))
}

/// Makes a key: the only answer it is ever in.
pub(super) async fn create(mut call: Call) -> Answer {
    let body = call.read_body(call.server.options.body_bytes_max).await?;
    let mut envelope = Envelope::parse(&body, call.server.options.json_depth_max)?;
    let name: Option<Option<String>> = envelope.optional("name", "text");
    let names: Vec<String> = envelope.required("roles", "a list of roles");
    let expires_at: Option<Option<String>> = envelope.optional("expires_at", "an instant such as 2030-01-01T00:00:00Z");
    envelope.finish()?;
    let expires_at = expires_at.flatten().map(|text| instant(&text)).transpose()?;
    let auth = auth(&call)?;
    call.query().finish()?;
    let roles = names.iter().enumerate().map(|(index, name)| {
        name.parse().map_err(|error: UnknownRole| {
            Problem::at(error::VALIDATION_FAILED, format!("/roles/{index}"), error.to_string())
        })
    });
    let new = NewToken { name: name.flatten(), roles: roles.collect::<Result<_, _>>()?, expires_at };
    let (key, token) = auth.create_token(new, &call.principal().name).await?;
    let mut response = reply::json(&CreatedToken { key: key.expose().to_owned(), token: token.into() });
    *response.status_mut() = StatusCode::CREATED;
    Ok(reply::unstored(response))
}

/// Revokes a key for ever; one that was revoked already is answered as it is.
pub(super) async fn revoke(call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let text = call.decoded(0)?;
    let id =
        text.parse().map_err(|_| Problem::new(error::INVALID_ID, format!("a token id is a UUID, not {text:?}")))?;
    call.query().finish()?;
    Ok(reply::json(&Token::from(auth(&call)?.revoke_token(id).await?)))
}

fn instant(text: &str) -> Result<chrono::DateTime<chrono::Utc>, Box<Problem>> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    parsed.map_err(|_| Problem::at(error::INVALID_TIME, "/expires_at", "must be RFC 3339 with an offset"))
}

pub(super) fn auth(call: &Call) -> Result<&Auth, Box<Problem>> {
    let detail = "this server keeps no keys and no audit";
    call.server.context.auth.as_deref().ok_or_else(|| Problem::new(error::NOT_FOUND, detail))
}

impl From<TokenError> for Box<Problem> {
    fn from(error: TokenError) -> Self {
        let detail = error.to_string();
        match error {
            TokenError::Invalid { error } => Problem::at(error::VALIDATION_FAILED, error.pointer, error.detail),
            TokenError::TooMany => Problem::new(error::TOO_MANY_TOKENS, detail),
            TokenError::Unknown { .. } => Problem::new(error::UNKNOWN_TOKEN, detail),
            TokenError::Store(error) => Problem::of_store(&error),
        }
    }
}
