-- Folded states: a cache. `digest` covers the row and is compared on reading; a row that does not match is ignored.
CREATE TABLE snapshots (
    partition      INTEGER NOT NULL,
    aggregate_id   TEXT    NOT NULL,
    sequence       INTEGER NOT NULL,
    aggregate_type TEXT    NOT NULL,
    state_version  INTEGER NOT NULL,
    chain          BLOB    NOT NULL,
    state          BLOB    NOT NULL,
    digest         BLOB    NOT NULL,
    created_at     INTEGER NOT NULL,
    PRIMARY KEY (partition, aggregate_id, sequence)
) STRICT;
