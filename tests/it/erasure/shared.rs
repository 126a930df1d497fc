//! Replicas that share nothing but PostgreSQL share its master key, too; a file takes it out of there.

use std::path::Path;

use serde_json::{Value, json};

use super::canaries::people;
use crate::support::{
    postgres,
    server::{Server, word},
};

const FILE: &str = "ES__ERASURE__MASTER_KEY_FILE";

fn register(server: &Server, id: &str, email: &str) {
    let data = json!({ "email": email, "name": "Ann" });
    let body = json!({ "command_type": "RegisterUser", "aggregate_id": id, "data": data });
    assert_eq!(server.request("POST", "/api/v1/commands", &body.to_string()).0, 200);
}

fn email(server: &Server, id: &str) -> Value {
    let (status, body) = server.request("GET", &format!("/api/v1/aggregates/{id}"), "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["state"]["email"].clone()
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder.join("data")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_share_nothing_but_the_database_read_each_others_people() {
    let Some(database) = postgres::database().await else { return };
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let environment = [("DATABASE_URL", database.url.as_str())];
    let everyone = people("p", 3);
    let servers = folders.each_ref().map(|folder| Server::start(folder.path(), &environment));
    for (server, person) in servers.iter().zip(&everyone) {
        register(server, &person.id, &person.email);
    }
    for person in &everyone {
        for server in &servers {
            assert_eq!(email(server, &person.id), json!(person.email));
        }
    }
    assert!(folders.iter().all(|folder| !names(folder.path()).iter().any(|name| name.starts_with("erasure-"))));
    for server in servers {
        assert!(server.terminate().success());
    }
    // A replica whose disk went with it, and a word from elsewhere.
    let elsewhere = tempfile::tempdir().unwrap();
    let ended = word(elsewhere.path(), &environment, &["replay", "p-000", "--format", "json"]);
    assert_eq!((ended.code, &ended.json()["state"]["email"]), (0, &json!(everyone[0].email)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_takes_the_place_of_the_kept_master_key() {
    let Some(database) = postgres::database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let kept = [("DATABASE_URL", database.url.as_str())];
    let file = folder.path().join("secret/master");
    let in_file = [kept[0], (FILE, file.to_str().unwrap())];
    let everyone = people("p", 4);
    let old = Server::start(folder.path(), &kept);
    register(&old, &everyone[0].id, &everyone[0].email);
    // Replicas are restarted one after the other, and all go on with one key meanwhile.
    let new = Server::start(folder.path(), &in_file);
    register(&old, &everyone[1].id, &everyone[1].email);
    register(&new, &everyone[2].id, &everyone[2].email);
    for person in &everyone[..3] {
        assert_eq!([email(&old, &person.id), email(&new, &person.id)], [json!(person.email), json!(person.email)]);
    }
    assert!(old.terminate().success());
    let removal = "UPDATE subject_key_master SET secret = NULL";
    sqlx::query(removal).execute(&mut database.session().await).await.unwrap();
    let last = Server::start(folder.path(), &in_file);
    register(&last, &everyone[3].id, &everyone[3].email);
    for person in &everyone {
        assert_eq!([email(&last, &person.id), email(&new, &person.id)], [json!(person.email), json!(person.email)]);
    }
    assert!(new.terminate().success() && last.terminate().success());
    // Without the file nothing can be read now, and another one is refused before it harms anything.
    let other = folder.path().join("other");
    std::fs::write(&other, "07".repeat(32)).unwrap();
    for environment in [&kept[..], &[kept[0], (FILE, other.to_str().unwrap())]] {
        let ended = word(folder.path(), environment, &["replay", "p-000"]);
        assert_eq!((ended.code, ended.stderr.contains("master key file")), (2, true), "{ended:?}");
    }
}
