//! Branches, keys, the audit, an erasure, and the console.

use serde_json::json;

use super::Walk;
#[cfg(feature = "console")]
use crate::support::http::Reply;

pub(super) async fn branches(walk: &mut Walk) {
    let path = "/api/v1/branches";
    let fork = json!({ "name": "what if", "aggregate_id": "acc-123", "from_sequence": 1 }).to_string();
    let made = walk.send("POST", path, path, &[("idempotency-key", "b-1")], &fork).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["branch_id"].as_str().unwrap().to_owned();
    let one = format!("{path}/{id}");
    walk.get(path, "/api/v1/branches?limit=1").await;
    walk.get("/api/v1/branches/{branch_id}", &one).await;
    let deposit = json!({ "command_type": "DepositMoney", "aggregate_id": "acc-123", "data": { "amount": 1 } });
    let at = format!("/api/v1/commands?branch={id}");
    let sent = walk.send("POST", "/api/v1/commands", &at, &[], &deposit.to_string()).await;
    assert_eq!(sent.status, 200, "{}", sent.text());
    let person = json!({ "email": "b@example.org", "name": "B" });
    let personal = json!({ "command_type": "RegisterUser", "aggregate_id": "u-b", "data": person });
    let refused = walk.send("POST", "/api/v1/commands", &at, &[], &personal.to_string()).await;
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("personal-data-on-branch")));
    walk.get("/api/v1/aggregates/{aggregate_id}", &format!("/api/v1/aggregates/acc-123?branch={id}")).await;
    walk.get("/api/v1/branches/{branch_id}/diff", &format!("{one}/diff")).await;
    let merge = "/api/v1/branches/{branch_id}/merge";
    for body in [r#"{"dry_run":true}"#, "{}", "{}"] {
        let merged = walk.send("POST", merge, &format!("{one}/merge"), &[], body).await;
        assert_eq!(merged.status, 200, "{}", merged.text());
    }
    let closed = walk.send("POST", "/api/v1/commands", &at, &[], &deposit.to_string()).await;
    assert_eq!((closed.status, &closed.json()["code"]), (409, &json!("branch-closed")));
    for status in [204, 404] {
        assert_eq!(walk.send("DELETE", "/api/v1/branches/{branch_id}", &one, &[], "").await.status, status);
    }
    let ways = json!({ "name": "two ways", "at_position": 1, "at_time": "2024-01-01T00:00:00Z" }).to_string();
    assert_eq!(walk.send("POST", path, path, &[], &ways).await.status, 400);
}

pub(super) async fn access(walk: &mut Walk) {
    let path = "/api/v1/tokens";
    let new = json!({ "name": "reporting", "roles": ["reader"], "expires_at": "2124-01-01T00:00:00Z" }).to_string();
    let made = walk.send("POST", path, path, &[], &new).await;
    assert_eq!(made.status, 201, "{}", made.text());
    walk.get(path, path).await;
    let one = format!("{path}/{}", made.json()["token_id"].as_str().unwrap());
    for _ in 0..2 {
        assert_eq!(walk.send("DELETE", "/api/v1/tokens/{token_id}", &one, &[], "").await.status, 200);
    }
    assert_eq!(walk.send("POST", path, path, &[], r#"{"roles":["king"]}"#).await.status, 422);
    walk.get("/api/v1/audit", "/api/v1/audit?limit=1").await;
    let erase = "/api/v1/subjects/{subject_id}/erase";
    let begun = walk.send("POST", erase, "/api/v1/subjects/u-1/erase", &[], "").await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    let unknown = walk.send("POST", erase, "/api/v1/subjects/nobody/erase", &[], "").await;
    assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!("unknown-subject")));
}

/// Its page names the files of its release.
#[cfg(feature = "console")]
pub(super) async fn console(walk: &mut Walk) {
    let page: Reply = walk.get("/console", "/console").await;
    assert_eq!(walk.send("GET", "/console/", "/console/", &[], "").await.status, 308);
    let path = "/console/assets/{release}/{folder}/{name}";
    let text = page.text();
    let named = text.split('"').filter(|part| part.contains("console/assets/")).map(|part| {
        let start = part.find("console/assets/").unwrap_or_default();
        format!("/{}", &part[start..])
    });
    let files: Vec<String> = named.collect();
    assert!(files.iter().any(|file| file.ends_with(".js")) && files.iter().any(|file| file.ends_with(".css")));
    for file in files {
        walk.get(path, &file).await;
    }
    assert_eq!(walk.send("GET", path, "/console/assets/1/base/api.js", &[], "").await.status, 404);
}
