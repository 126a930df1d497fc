-- Read models: rows, and who may write them. All of it can be made again from the log. Every key starts with `partition`
-- (0 today). Texts compare bytewise; instants are microseconds since 1970.

-- The last number given to a generation of rows; never given twice.
CREATE TABLE view_generations (
    partition INTEGER NOT NULL PRIMARY KEY,
    last      INTEGER NOT NULL
) STRICT;
INSERT INTO view_generations (partition, last) VALUES (0, 0);

-- One row decides who may write a projection's rows, and from where: every step tests and moves it first. `parked` counts
-- the waiting parked events of the served generation.
CREATE TABLE projections (
    partition                 INTEGER NOT NULL,
    name                      TEXT    NOT NULL,
    version                   INTEGER NOT NULL,
    generation                INTEGER NOT NULL,
    checkpoint                INTEGER NOT NULL DEFAULT 0,
    checkpoint_leaf           BLOB,
    revision                  INTEGER NOT NULL DEFAULT 0,
    owner                     BLOB,
    lease_until               INTEGER,
    epoch                     INTEGER NOT NULL DEFAULT 0,
    paused                    INTEGER NOT NULL DEFAULT 0,
    frozen                    INTEGER NOT NULL DEFAULT 0,
    shadow_generation         INTEGER,
    shadow_version            INTEGER,
    shadow_checkpoint         INTEGER,
    shadow_leaf               BLOB,
    shadow_operation          BLOB,
    shadow_accepts_difference INTEGER,
    previous_generation       INTEGER,
    previous_version          INTEGER,
    previous_checkpoint       INTEGER,
    previous_leaf             BLOB,
    fault_reason              TEXT,
    fault_position            INTEGER,
    fault_at                  INTEGER,
    parked                    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (partition, name)
) STRICT, WITHOUT ROWID;

-- `grp` and `sort`: the list a row stands in, and its place there. `data` is JSON, byte for byte as it was written.
CREATE TABLE view_rows (
    partition  INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    collection TEXT    NOT NULL,
    grp        TEXT    NOT NULL,
    sort       TEXT    NOT NULL,
    data       TEXT    NOT NULL,
    PRIMARY KEY (partition, generation, collection, grp, sort)
) STRICT, WITHOUT ROWID;

-- What readers could notice, revision by revision; `previous_revision` tells whether the chain is whole. `touched` are tags
-- of 8 bytes each; null = everything.
CREATE TABLE view_changes (
    partition         INTEGER NOT NULL,
    projection        TEXT    NOT NULL,
    revision          INTEGER NOT NULL,
    previous_revision INTEGER NOT NULL,
    touched           BLOB,
    recorded_at       INTEGER NOT NULL,
    PRIMARY KEY (partition, projection, revision)
) STRICT, WITHOUT ROWID;

-- Events that could not be applied, and what waits behind them.
CREATE TABLE parked_events (
    partition         INTEGER NOT NULL,
    generation        INTEGER NOT NULL,
    position          INTEGER NOT NULL,
    key               TEXT    NOT NULL,
    aggregate_id      TEXT    NOT NULL,
    event_type        TEXT    NOT NULL,
    error             TEXT    NOT NULL,
    attempts          INTEGER NOT NULL,
    parked_at         INTEGER NOT NULL,
    request           TEXT,
    request_operation BLOB,
    request_principal TEXT,
    skipped_at        INTEGER,
    skipped_by        TEXT,
    PRIMARY KEY (partition, generation, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX parked_events_waiting ON parked_events (partition, generation, key, position) WHERE skipped_at IS NULL;
CREATE INDEX parked_events_requested ON parked_events (partition, generation, position) WHERE request IS NOT NULL;

CREATE TABLE operations (
    partition  INTEGER NOT NULL,
    id         BLOB    NOT NULL,
    kind       TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    done       INTEGER NOT NULL,
    total      INTEGER NOT NULL,
    result     BLOB,
    error      TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (partition, id)
) STRICT, WITHOUT ROWID;

-- The rows of `projections` as the program reads them.
CREATE VIEW projection_states AS
SELECT p.*, EXISTS (SELECT 1 FROM parked_events e
    WHERE e.partition = p.partition AND e.generation = p.generation AND e.request IS NOT NULL) AS has_requests
FROM projections p;
