-- Folded states: a cache. `digest` covers the row and is compared on reading; a row that does not match is ignored.
CREATE TABLE snapshots (
    partition      smallint         NOT NULL,
    aggregate_id   text COLLATE "C" NOT NULL,
    sequence       bigint           NOT NULL,
    aggregate_type text COLLATE "C" NOT NULL,
    state_version  integer          NOT NULL,
    chain          bytea            NOT NULL,
    state          bytea            NOT NULL,
    digest         bytea            NOT NULL,
    created_at     timestamptz      NOT NULL,
    PRIMARY KEY (partition, aggregate_id, sequence)
);
