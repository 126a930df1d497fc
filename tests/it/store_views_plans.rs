//! Reads of read models and of the tree go by index, also where the plan was made on an empty database.

use event_sourcing_cqrs::store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, sqlite::SqliteConnectOptions};

use crate::support::postgres;

/// What the adapters send, as far as a plan depends on it, and the index it must use.
const SQLITE: [(&str, &str); 9] = [
    (
        "SELECT p.revision, r.sort, r.data FROM projections p LEFT JOIN view_rows r ON r.partition = 0 \
         AND r.generation = p.generation AND r.collection = ?2 AND r.grp = ?3 AND r.sort >= ?4 AND r.sort < ?6 \
         WHERE p.partition = 0 AND p.name = ?1 ORDER BY r.sort LIMIT ?5",
        "PRIMARY KEY (partition=? AND generation=? AND collection=? AND grp=? AND sort>? AND sort<?)",
    ),
    (
        "SELECT p.revision, r.sort, r.data FROM projections p LEFT JOIN view_rows r ON r.partition = 0 \
         AND r.generation = p.generation AND r.collection = ?2 AND r.grp = ?3 AND r.sort >= ?4 AND r.sort < ?6 \
         WHERE p.partition = 0 AND p.name = ?1 ORDER BY r.sort DESC LIMIT ?5",
        "PRIMARY KEY (partition=? AND generation=? AND collection=? AND grp=? AND sort>? AND sort<?)",
    ),
    (
        "SELECT k.key, r.data FROM json_each(?2) k CROSS JOIN view_rows r ON r.partition = 0 AND r.generation = ?1 \
         AND r.collection = k.value ->> 0 AND r.grp = k.value ->> 1 AND r.sort = k.value ->> 2",
        "PRIMARY KEY (partition=? AND generation=? AND collection=? AND grp=? AND sort=?)",
    ),
    (
        "SELECT collection, grp, sort, data FROM view_rows WHERE partition = 0 AND generation = ?1 \
         AND (collection, grp, sort) > (?3, ?4, ?5) ORDER BY collection, grp, sort LIMIT ?2",
        "PRIMARY KEY (partition=? AND generation=? AND (collection,grp,sort)>(?,?,?))",
    ),
    (
        "DELETE FROM view_rows WHERE (partition, generation, collection, grp, sort) IN ( \
         SELECT 0, ?1, k.value ->> 0, k.value ->> 1, k.value ->> 2 FROM json_each(?2) k)",
        "PRIMARY KEY (partition=? AND generation=? AND collection=? AND grp=? AND sort=?)",
    ),
    (
        "SELECT c.revision, c.touched FROM projections p LEFT JOIN view_changes c ON c.partition = 0 \
         AND c.projection = p.name AND c.revision > ?2 WHERE p.partition = 0 AND p.name = ?1 \
         ORDER BY c.revision LIMIT ?3",
        "PRIMARY KEY (partition=? AND projection=? AND revision>?)",
    ),
    (
        "SELECT position FROM parked_events INDEXED BY parked_events_waiting WHERE partition = 0 AND generation = ?1 \
         AND position > ?2 AND skipped_at IS NULL AND key = ?4 ORDER BY position LIMIT ?3",
        "parked_events_waiting (partition=? AND generation=? AND key=? AND position>?)",
    ),
    ("SELECT * FROM projection_states WHERE partition = 0 AND name = ?1", "parked_events_requested"),
    (
        "SELECT t.level, t.tile, t.hashes FROM json_each(?1) w CROSS JOIN merkle_tiles t ON t.partition = 0 \
         AND t.level = w.value ->> 0 AND t.tile = w.value ->> 1",
        "sqlite_autoindex_merkle_tiles_1 (partition=? AND level=? AND tile=?)",
    ),
];

#[tokio::test]
async fn reads_of_an_empty_file_go_by_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = SqliteStore::open(SqliteOptions::new(&path)).await.unwrap();
    let mut session = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    for (query, index) in SQLITE {
        let explain = format!("EXPLAIN QUERY PLAN {query}");
        let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut session).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        let plan = plan.join("\n");
        assert!(plan.contains(index), "{query}\n{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "rows are sorted: {query}\n{plan}");
        let scans = plan.lines().filter(|line| line.starts_with("SCAN") && !line.contains("VIRTUAL TABLE"));
        assert_eq!(scans.count(), 0, "{query}\n{plan}");
    }
    drop(store);
}

/// Statement, types of its parameters, the index it must use.
const POSTGRES: [(&str, &str, &str); 10] = [
    (
        "SELECT p.revision, r.sort, r.data FROM projections p LEFT JOIN LATERAL (SELECT v.sort, v.data FROM view_rows v \
         WHERE v.partition = 0 AND v.generation = p.generation AND v.collection = $2 AND v.grp = $3 AND v.sort >= $4 \
         AND v.sort < $6 ORDER BY v.sort LIMIT $5) r ON true WHERE p.partition = 0 AND p.name = $1",
        "text, text, text, text, bigint, text",
        "Index Scan using view_rows_pkey",
    ),
    (
        "SELECT p.revision, r.sort, r.data FROM projections p LEFT JOIN LATERAL (SELECT v.sort, v.data FROM view_rows v \
         WHERE v.partition = 0 AND v.generation = p.generation AND v.collection = $2 AND v.grp = $3 AND v.sort >= $4 \
         ORDER BY v.sort DESC LIMIT $5) r ON true WHERE p.partition = 0 AND p.name = $1",
        "text, text, text, text, bigint",
        "Index Scan Backward using view_rows_pkey",
    ),
    (
        "SELECT k.place, r.data FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY k(collection, grp, sort, \
         place) CROSS JOIN LATERAL (SELECT v.data FROM view_rows v WHERE v.partition = 0 AND v.generation = $1 \
         AND v.collection = k.collection AND v.grp = k.grp AND v.sort = k.sort LIMIT 1) r",
        "bigint, text[], text[], text[]",
        "Index Scan using view_rows_pkey",
    ),
    (
        "SELECT collection, grp, sort, data FROM view_rows WHERE partition = 0 AND generation = $1 \
         AND (collection, grp, sort) > ($3, $4, $5) ORDER BY collection, grp, sort LIMIT $2",
        "bigint, bigint, text, text, text",
        "Index Scan using view_rows_pkey",
    ),
    (
        "SELECT s.place, c.revision, c.touched FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY s(name, since, place) \
         JOIN projections p ON p.partition = 0 AND p.name = s.name LEFT JOIN LATERAL (SELECT * FROM view_changes v \
         WHERE v.partition = 0 AND v.projection = s.name AND v.revision > s.since ORDER BY v.revision LIMIT $3) c ON true",
        "text[], bigint[], bigint",
        "Index Scan using view_changes_pkey",
    ),
    (
        "DELETE FROM view_rows r WHERE r.partition = 0 AND r.ctid = ANY (ARRAY(SELECT w.ctid \
         FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) d(generation, collection, grp, sort) \
         CROSS JOIN LATERAL (SELECT v.ctid FROM view_rows v WHERE v.partition = 0 AND v.generation = d.generation \
         AND v.collection = d.collection AND v.grp = d.grp AND v.sort = d.sort LIMIT 1) w))",
        "bigint[], text[], text[], text[]",
        "(grp = d.grp) AND (sort = d.sort)",
    ),
    (
        "DELETE FROM view_rows WHERE (partition, generation, collection, grp, sort) IN ( \
         SELECT partition, generation, collection, grp, sort FROM view_rows WHERE partition = 0 AND generation = $1 \
         ORDER BY collection, grp, sort LIMIT $2 FOR UPDATE SKIP LOCKED)",
        "bigint, bigint",
        "Index Scan using view_rows_pkey",
    ),
    (
        "SELECT position, error FROM parked_events WHERE partition = 0 AND generation = $1 AND position > $2 \
         AND skipped_at IS NULL AND key = $4 ORDER BY position LIMIT $3",
        "bigint, bigint, bigint, text",
        "Index Scan using parked_events_waiting",
    ),
    (
        "SELECT s.name, s.has_requests FROM projection_states s WHERE s.partition = 0 AND s.name = $1",
        "text",
        "parked_events_requested",
    ),
    (
        "SELECT w.level, w.tile, t.hashes FROM unnest($1::smallint[], $2::bigint[]) w(level, tile) \
         CROSS JOIN LATERAL (SELECT m.hashes FROM merkle_tiles m WHERE m.partition = 0 AND m.level = w.level \
         AND m.tile = w.tile LIMIT 1) t",
        "smallint[], bigint[]",
        "Index Scan using merkle_tiles_pkey",
    ),
];

#[tokio::test]
async fn reads_of_an_empty_database_go_by_index() {
    let Some(database) = postgres::database().await else { return };
    let store = PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap();
    let mut session = database.session().await;
    // As the pool's sessions are set up, and the function that commits.
    let source = include_str!("../../src/store/postgres.rs");
    for name in ["enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"] {
        assert!(source.contains(&format!("set_config('{name}', 'off', false)")), "{name}");
        sqlx::raw_sql(AssertSqlSafe(format!("SET {name} = off"))).execute(&mut session).await.unwrap();
    }
    sqlx::raw_sql("SET plan_cache_mode = force_generic_plan").execute(&mut session).await.unwrap();
    for (number, (query, types, index)) in POSTGRES.into_iter().enumerate() {
        let prepare = format!("PREPARE read_{number} ({types}) AS {query}");
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut session).await.unwrap();
        let values = vec!["NULL"; types.split(',').count()].join(", ");
        let explain = format!("EXPLAIN EXECUTE read_{number} ({values})");
        let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut session).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains(index), "{query}\n{plan}");
        assert!(!plan.contains("Seq Scan") && !plan.contains("Sort"), "{query}\n{plan}");
        // A join that keeps one side and compares it with each row of the other.
        assert!(!plan.contains("Materialize"), "{query}\n{plan}");
    }
    drop(store);
}
