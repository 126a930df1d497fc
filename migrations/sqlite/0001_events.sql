-- The log and what is decided in the same transaction as an append. Every key starts with `partition` (0 today), so that
-- the same statements can later run over many heads. Identifiers compare bytewise; instants are microseconds since 1970.
--
-- No table of turns: they let a writer on one of several machines win a hot stream at last. A file is shared by processes
-- of one machine, whose batches follow each other in well under a millisecond, and one of them is the rule.

-- The write lock of SQLite is the one lock; this row holds what else PostgreSQL keeps beside its lock.
CREATE TABLE log_head (
    partition INTEGER NOT NULL PRIMARY KEY,
    store_id  BLOB    NOT NULL,
    read_only INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO log_head (partition, store_id) VALUES (0, randomblob(16));

CREATE TABLE events (
    partition      INTEGER NOT NULL,
    position       INTEGER NOT NULL,
    aggregate_id   TEXT    NOT NULL,
    aggregate_type TEXT    NOT NULL,
    sequence       INTEGER NOT NULL,
    event_id       BLOB    NOT NULL,
    event_type     TEXT    NOT NULL,
    schema_version INTEGER NOT NULL,
    data           BLOB    NOT NULL,
    metadata       BLOB    NOT NULL,
    recorded_at    INTEGER NOT NULL,
    checksum       BLOB    NOT NULL,
    chain          BLOB    NOT NULL,
    CONSTRAINT events_position PRIMARY KEY (partition, position),
    CONSTRAINT events_sequence UNIQUE (partition, aggregate_id, sequence),
    CONSTRAINT events_event_id UNIQUE (partition, event_id)
) STRICT;

-- One row per stream, written with its first event.
CREATE TABLE streams (
    partition      INTEGER NOT NULL,
    aggregate_id   TEXT    NOT NULL,
    aggregate_type TEXT    NOT NULL,
    PRIMARY KEY (partition, aggregate_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX streams_type ON streams (partition, aggregate_type, aggregate_id);

CREATE TABLE idempotency (
    partition   INTEGER NOT NULL,
    principal   TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint BLOB    NOT NULL,
    outcome     BLOB    NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (partition, principal, key)
) STRICT;
CREATE INDEX idempotency_age ON idempotency (partition, recorded_at);

CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN
    SELECT raise(ABORT, 'UPDATE of "events" is refused: the log is append-only, nothing in it is changed or deleted');
END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN
    SELECT raise(ABORT, 'DELETE of "events" is refused: the log is append-only, nothing in it is changed or deleted');
END;
CREATE TRIGGER streams_no_update BEFORE UPDATE ON streams BEGIN
    SELECT raise(ABORT, 'UPDATE of "streams" is refused: the log is append-only, nothing in it is changed or deleted');
END;
CREATE TRIGGER streams_no_delete BEFORE DELETE ON streams BEGIN
    SELECT raise(ABORT, 'DELETE of "streams" is refused: the log is append-only, nothing in it is changed or deleted');
END;
CREATE TRIGGER log_head_no_delete BEFORE DELETE ON log_head BEGIN
    SELECT raise(ABORT, 'DELETE of "log_head" is refused: the log is append-only, nothing in it is changed or deleted');
END;

-- For people: payload and metadata as text, ids and digests in hexadecimal, instants as timestamps.
CREATE VIEW events_text AS
SELECT partition, position, aggregate_id, aggregate_type, sequence, lower(hex(event_id)) AS event_id, event_type,
       schema_version, CAST(data AS TEXT) AS data, CAST(metadata AS TEXT) AS metadata,
       strftime('%Y-%m-%dT%H:%M:%S', recorded_at / 1000000, 'unixepoch')
           || printf('.%06dZ', recorded_at % 1000000) AS recorded_at,
       lower(hex(checksum)) AS checksum, lower(hex(chain)) AS chain
FROM events;
