-- Branches: alternative timelines that fork at a position of the log. What happens on one is kept here, apart from the log:
-- its events take the positions after the fork (fork + 1, fork + 2, …) and follow, stream by stream, what was there.
CREATE TABLE branches (
    partition       smallint         NOT NULL,
    branch_id       uuid             NOT NULL,
    name            text COLLATE "C" NOT NULL,
    fork_position   bigint           NOT NULL,
    -- The instant of the event at the fork: nothing on the branch is recorded before it.
    fork_at         timestamptz      NOT NULL,
    status          text COLLATE "C" NOT NULL CHECK (status IN ('open', 'merged')),
    created_at      timestamptz      NOT NULL,
    -- What the merge answered; also to whoever asks again.
    report          bytea,
    -- The request that made it, if it came with an idempotency key.
    key_principal   text COLLATE "C",
    key_name        text COLLATE "C",
    key_fingerprint bytea,
    PRIMARY KEY (partition, branch_id)
);
CREATE UNIQUE INDEX branches_key ON branches (partition, key_principal, key_name) WHERE key_name IS NOT NULL;

CREATE TABLE branch_events (
    partition       smallint         NOT NULL,
    branch_id       uuid             NOT NULL,
    position        bigint           NOT NULL,
    aggregate_id    text COLLATE "C" NOT NULL,
    aggregate_type  text COLLATE "C" NOT NULL,
    sequence        bigint           NOT NULL,
    event_id        uuid             NOT NULL,
    event_type      text COLLATE "C" NOT NULL,
    schema_version  bigint           NOT NULL,
    data            bytea            NOT NULL,
    metadata        bytea            NOT NULL,
    recorded_at     timestamptz      NOT NULL,
    checksum        bytea            NOT NULL,
    chain           bytea            NOT NULL,
    CONSTRAINT branch_events_position PRIMARY KEY (partition, branch_id, position),
    CONSTRAINT branch_events_sequence UNIQUE (partition, branch_id, aggregate_id, sequence),
    CONSTRAINT branch_events_event_id UNIQUE (partition, branch_id, event_id)
);

-- The commands that led to events, as they were asked for; each at the position of its first event.
CREATE TABLE branch_commands (
    partition       smallint         NOT NULL,
    branch_id       uuid             NOT NULL,
    position        bigint           NOT NULL,
    command_id      uuid             NOT NULL,
    aggregate_id    text COLLATE "C" NOT NULL,
    command_type    text COLLATE "C" NOT NULL,
    content         bytea            NOT NULL,
    PRIMARY KEY (partition, branch_id, position)
);

-- Idempotency keys are unique per branch.
CREATE TABLE branch_idempotency (
    partition       smallint         NOT NULL,
    branch_id       uuid             NOT NULL,
    principal       text COLLATE "C" NOT NULL,
    key             text COLLATE "C" NOT NULL,
    fingerprint     bytea            NOT NULL,
    outcome         bytea            NOT NULL,
    recorded_at     timestamptz      NOT NULL,
    PRIMARY KEY (partition, branch_id, principal, key)
);
CREATE INDEX branch_idempotency_age ON branch_idempotency (partition, branch_id, recorded_at);
