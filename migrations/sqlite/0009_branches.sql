-- Branches: alternative timelines that fork at a position of the log. What happens on one is kept here, apart from the log:
-- its events take the positions after the fork (fork + 1, fork + 2, …) and follow, stream by stream, what was there.
CREATE TABLE branches (
    partition       INTEGER NOT NULL,
    branch_id       BLOB    NOT NULL,
    name            TEXT    NOT NULL,
    fork_position   INTEGER NOT NULL,
    -- The instant of the event at the fork: nothing on the branch is recorded before it.
    fork_at         INTEGER NOT NULL,
    status          TEXT    NOT NULL CHECK (status IN ('open', 'merged')),
    created_at      INTEGER NOT NULL,
    -- What the merge answered; also to whoever asks again.
    report          BLOB,
    -- The request that made it, if it came with an idempotency key.
    key_principal   TEXT,
    key_name        TEXT,
    key_fingerprint BLOB,
    PRIMARY KEY (partition, branch_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX branches_key ON branches (partition, key_principal, key_name) WHERE key_name IS NOT NULL;

CREATE TABLE branch_events (
    partition      INTEGER NOT NULL,
    branch_id      BLOB    NOT NULL,
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
    CONSTRAINT branch_events_position PRIMARY KEY (partition, branch_id, position),
    CONSTRAINT branch_events_sequence UNIQUE (partition, branch_id, aggregate_id, sequence),
    CONSTRAINT branch_events_event_id UNIQUE (partition, branch_id, event_id)
) STRICT;

-- The commands that led to events, as they were asked for; each at the position of its first event.
CREATE TABLE branch_commands (
    partition    INTEGER NOT NULL,
    branch_id    BLOB    NOT NULL,
    position     INTEGER NOT NULL,
    command_id   BLOB    NOT NULL,
    aggregate_id TEXT    NOT NULL,
    command_type TEXT    NOT NULL,
    content      BLOB    NOT NULL,
    PRIMARY KEY (partition, branch_id, position)
) STRICT;

-- Idempotency keys are unique per branch.
CREATE TABLE branch_idempotency (
    partition   INTEGER NOT NULL,
    branch_id   BLOB    NOT NULL,
    principal   TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint BLOB    NOT NULL,
    outcome     BLOB    NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (partition, branch_id, principal, key)
) STRICT;
CREATE INDEX branch_idempotency_age ON branch_idempotency (partition, branch_id, recorded_at);
