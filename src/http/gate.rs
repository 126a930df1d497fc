//! The gate: who asks, whether they may, and whether not too often. It stands before a request's body is read.

use std::{net::IpAddr, sync::Arc};

use event_sourcing_actors::command_bus::Principal;
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{
    context::Server,
    cors,
    error::{self, Problem},
    request::Ids,
    routes::{Demand, Entry},
};
use crate::auth::{
    Access, Denied,
    audit::{Act, Begun},
    port::Outcome,
    rate::{Caller, Standing},
    role::may,
};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What the gate found out about a request.
#[derive(Debug)]
pub(super) struct Passage {
    /// Who was let in; or why not.
    pub outcome: Result<Access, Box<Problem>>,
    /// Who it was, as far as that is known.
    principal: Option<Arc<str>>,
    standing: Option<Standing>,
}

impl Passage {
    /// Nothing was asked: the request meets no handler.
    pub fn none() -> Self {
        Self { outcome: Ok(Access::unguarded()), principal: None, standing: None }
    }

    /// Adds what the caller is told about its quota.
    pub fn write(&self, headers: &mut HeaderMap) {
        let Some(standing) = &self.standing else { return };
        let (requests, window) = (standing.quota.requests, standing.quota.window.as_secs());
        let policy = HeaderValue::from_str(&format!("\"default\";q={requests};w={window}"));
        let (remaining, reset) = (standing.remaining, whole_seconds(standing));
        let state = HeaderValue::from_str(&format!("\"default\";r={remaining};t={reset}"));
        for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
            if let Ok(value) = value {
                headers.insert(name, value);
            }
        }
    }
}

/// Rounded up, so that whoever waits so long does not come too early.
fn whole_seconds(standing: &Standing) -> u64 {
    standing.reset.as_secs() + u64::from(standing.reset.subsec_nanos() > 0)
}

/// Looks at a request that has a handler.
pub(super) async fn pass(
    server: &Server,
    entry: &Entry,
    peer: IpAddr,
    method: &Method,
    headers: &HeaderMap,
) -> Passage {
    let Some(auth) = server.context.auth.as_ref().filter(|auth| auth.is_guarded()) else {
        let standing = counted(server, entry, || Caller::at(peer));
        let refused = limited(standing.as_ref()).or_else(|| foreign(server, method, headers));
        let outcome = refused.map_or_else(|| Ok(Access::unguarded()), Err);
        return Passage { outcome, principal: None, standing };
    };
    if entry.demand == Demand::Open {
        let standing = counted(server, entry, || Caller::at(peer));
        let outcome = limited(standing.as_ref()).map_or_else(|| Ok(Access::anonymous()), Err);
        return Passage { outcome, principal: None, standing };
    }
    let bearer = bearer(headers);
    let authenticated = match bearer {
        Ok(bearer) => auth.authenticate(bearer).await,
        Err(denied) => Err(denied),
    };
    let principal = authenticated.as_ref().ok().map(|access| access.principal.name.clone());
    let caller = || principal.clone().map_or_else(|| Caller::at(peer), Caller::Principal);
    let standing = counted(server, entry, caller);
    let outcome = match (limited(standing.as_ref()), authenticated) {
        (Some(problem), _) => Err(problem),
        (None, Err(denied)) => Err(unauthenticated(&denied)),
        (None, Ok(access)) => allowed(access, entry.demand),
    };
    Passage { outcome, principal, standing }
}

/// A page of another origin sends what only its own may, and no key that it would have had to know.
fn foreign(server: &Server, method: &Method, headers: &HeaderMap) -> Option<Box<Problem>> {
    let has_key = matches!(bearer(headers), Ok(Some(_)));
    let is_foreign = !has_key && cors::is_foreign(&server.options.cors_origins, method, headers);
    let detail = "a browser sent this for a page of another origin, which is not in http.cors.allowed_origins";
    is_foreign.then(|| Problem::new(error::CROSS_ORIGIN, detail))
}

/// The token of a request, if it sends one; it must send one only.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let text = text.ok_or(Denied::Invalid("send one header Authorization, of visible ASCII characters"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim_matches(' '))),
        _ => Err(Denied::Invalid("send Authorization: Bearer and the key or token")),
    }
}

fn allowed(access: Access, demand: Demand) -> Result<Access, Box<Problem>> {
    let Demand::Role(role) = demand else { return Ok(access) };
    if may(&access.principal.roles, role) {
        return Ok(access);
    }
    let detail = format!("this needs the role {role}, which {:?} does not have", access.principal.name);
    Err(Problem::new(error::FORBIDDEN, detail).with("role", role.as_str()))
}

fn unauthenticated(denied: &Denied) -> Box<Problem> {
    let (detail, challenge) = match denied {
        Denied::Unavailable => {
            let detail =
                "who you are cannot be told at the moment: what keys and tokens are checked by does not answer";
            return Problem::new(error::AUTHENTICATION_UNAVAILABLE, detail);
        }
        Denied::Missing => ("send Authorization: Bearer with an API key or a token", "Bearer"),
        Denied::Invalid(reason) => (*reason, "Bearer error=\"invalid_token\""),
    };
    Problem::new(error::UNAUTHENTICATED, detail).header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

fn counted(server: &Server, entry: &Entry, caller: impl FnOnce() -> Caller) -> Option<Standing> {
    let limiter = server.limiter.as_ref().filter(|_| !entry.is_exempt)?;
    Some(limiter.take(caller()))
}

fn limited(standing: Option<&Standing>) -> Option<Box<Problem>> {
    let standing = standing.filter(|standing| !standing.is_allowed)?;
    let (requests, window) = (standing.quota.requests, standing.quota.window.as_secs());
    let detail = format!("a caller has {requests} requests in {window} s; wait as long as Retry-After says");
    let wait = HeaderValue::from(whole_seconds(standing).max(1));
    Some(Problem::new(error::RATE_LIMITED, detail).header(header::RETRY_AFTER, wait))
}

/// Who asks for what, for the audit.
pub(super) struct Asking<'a> {
    pub server: &'a Server,
    pub peer: IpAddr,
    pub ids: &'a Ids,
    /// Method and route.
    pub act: String,
    pub path: &'a str,
}

impl Asking<'_> {
    fn act(&self, principal: Option<&str>) -> Act {
        Act {
            principal: principal.map(str::to_owned),
            peer: Some(self.peer.to_canonical().to_string()),
            act: self.act.clone(),
            target: self.path.to_owned(),
            request_id: Some(self.ids.request_id().to_owned()),
        }
    }

    /// Records that an administrative act begins.
    pub async fn begin(&self, principal: &Principal) -> Result<Option<Begun>, Box<Problem>> {
        let Some(auth) = &self.server.context.auth else { return Ok(None) };
        Ok(Some(auth.audit().begin(self.act(Some(&principal.name))).await?))
    }

    /// Counts a request that was refused.
    pub fn refused(&self, passage: &Passage, status: StatusCode) {
        if let Some(auth) = &self.server.context.auth {
            auth.audit().refused(self.act(passage.principal.as_deref()), status.as_u16());
        }
    }
}

/// What the status of an answer says about an administrative act.
pub(super) fn outcome(status: StatusCode) -> Outcome {
    match status.as_u16() {
        ..400 => Outcome::Succeeded,
        400..500 => Outcome::Refused,
        _ => Outcome::Failed,
    }
}
