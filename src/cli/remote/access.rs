//! Keys and audit of a running server.

use std::num::NonZeroU32;

use event_sourcing_cqrs::{auth::NewToken, wire};
use hyper::Method;
use serde_json::json;
use uuid::Uuid;

use super::{Ask, Remote};
use crate::cli::exit::Failure;

impl Remote {
    pub(crate) async fn create_token(&self, new: NewToken) -> Result<wire::CreatedToken, Failure> {
        let expires_at = new.expires_at.map(|at| at.to_rfc3339());
        let body = json!({ "name": new.name, "roles": new.roles, "expires_at": expires_at }).to_string();
        self.answer(Ask { path: "/api/v1/tokens".to_owned(), body: Some(body), ..Ask::default() }).await
    }

    pub(crate) async fn tokens(
        &self,
        before: Option<Uuid>,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::Token, Uuid>, Failure> {
        self.get(page("/api/v1/tokens", before, limit)).await
    }

    pub(crate) async fn revoke_token(&self, id: Uuid) -> Result<wire::Token, Failure> {
        let (path, method) = (format!("/api/v1/tokens/{id}"), Some(Method::DELETE));
        self.answer(Ask { path, method, ..Ask::default() }).await
    }

    pub(crate) async fn audit(
        &self,
        before: Option<Uuid>,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::AuditRecord, Uuid>, Failure> {
        self.get(page("/api/v1/audit", before, limit)).await
    }
}

fn page(path: &str, before: Option<Uuid>, limit: NonZeroU32) -> String {
    let cursor = before.map_or(String::new(), |before| format!("&cursor={before}"));
    format!("{path}?limit={limit}{cursor}")
}
