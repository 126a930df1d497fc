-- Read models: rows, and one row per projection that says who may write them and how far they are.

-- The counter of generations; a number is never given twice.
CREATE TABLE view_generations (
    partition smallint NOT NULL PRIMARY KEY,
    last      bigint   NOT NULL
);
INSERT INTO view_generations (partition, last) VALUES (0, 0);

-- Everything that decides who may write which rows. `row_version` rises with each change, and each change names the one it
-- was decided on: so of two that were decided on the same row, one counts.
CREATE TABLE projections (
    partition                 smallint         NOT NULL,
    name                      text COLLATE "C" NOT NULL,
    row_version               bigint           NOT NULL,
    version                   bigint           NOT NULL,
    generation                bigint           NOT NULL,
    checkpoint                bigint           NOT NULL,
    checkpoint_leaf           bytea,
    revision                  bigint           NOT NULL,
    owner                     uuid,
    lease_until               timestamptz,
    epoch                     bigint           NOT NULL,
    paused                    boolean          NOT NULL,
    frozen                    boolean          NOT NULL,
    shadow_generation         bigint,
    shadow_version            bigint,
    shadow_checkpoint         bigint,
    shadow_leaf               bytea,
    shadow_operation          uuid,
    shadow_accepts_difference boolean,
    previous_generation       bigint,
    previous_version          bigint,
    previous_checkpoint       bigint,
    previous_leaf             bytea,
    fault_reason              text,
    fault_position            bigint,
    fault_at                  timestamptz,
    PRIMARY KEY (partition, name)
);

-- Rows of every generation. A list is the rows of one group, in the order of sort.
CREATE TABLE view_rows (
    partition  smallint         NOT NULL,
    generation bigint           NOT NULL,
    collection text COLLATE "C" NOT NULL,
    grp        text COLLATE "C" NOT NULL,
    sort       text COLLATE "C" NOT NULL,
    data       text COLLATE "C" NOT NULL,
    PRIMARY KEY (partition, generation, collection, grp, sort)
);

-- What each revision touched: 8 bytes a tag, none = everything. Kept for some minutes.
CREATE TABLE view_changes (
    partition         smallint         NOT NULL,
    projection        text COLLATE "C" NOT NULL,
    revision          bigint           NOT NULL,
    previous_revision bigint           NOT NULL,
    touched           bytea            NOT NULL,
    recorded_at       timestamptz      NOT NULL,
    PRIMARY KEY (partition, projection, revision)
);

-- Events that could not be applied, and those that wait behind them.
CREATE TABLE parked_events (
    partition    smallint         NOT NULL,
    generation   bigint           NOT NULL,
    position     bigint           NOT NULL,
    park_key     text COLLATE "C" NOT NULL,
    aggregate_id text COLLATE "C" NOT NULL,
    event_type   text COLLATE "C" NOT NULL,
    error        text             NOT NULL,
    attempts     bigint           NOT NULL,
    parked_at    timestamptz      NOT NULL,
    request      text,
    operation    uuid,
    principal    text,
    skipped_at   timestamptz,
    skipped_by   text,
    PRIMARY KEY (partition, generation, position)
);
CREATE INDEX parked_events_waiting ON parked_events (partition, generation, park_key, position) WHERE skipped_at IS NULL;
CREATE INDEX parked_events_requested ON parked_events (partition, generation, position) WHERE request IS NOT NULL;

-- Long work, as people follow it.
CREATE TABLE operations (
    partition  smallint    NOT NULL,
    id         uuid        NOT NULL,
    kind       text        NOT NULL,
    subject    text        NOT NULL,
    status     text        NOT NULL,
    done       bigint      NOT NULL,
    total      bigint      NOT NULL,
    result     text,
    error      text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (partition, id)
);

-- A projection with what is counted about it, and the instant of the look.
CREATE VIEW projection_states AS
SELECT p.*,
    (SELECT count(*) FROM parked_events w
        WHERE w.partition = p.partition AND w.generation = p.generation AND w.skipped_at IS NULL) AS parked,
    EXISTS (SELECT FROM parked_events w
        WHERE w.partition = p.partition AND w.generation = p.generation AND w.request IS NOT NULL) AS has_requests,
    clock_timestamp() AS looked_at
FROM projections p;

-- One step of a projection in one call: its row first, if it still is the one the step was decided on; then everything
-- else. `state` is the row as it is to be; `lease_ms` renews the lease by the clock of the database. `change` is null
-- where readers notice nothing. `rest` holds what is rare: parked events and operations.
--
-- Answers the projection as it stands after the step; nothing, if the row has changed meanwhile: then nothing is stored.
CREATE FUNCTION move_projection(
    projection text, decided_on bigint, revision_before bigint, state jsonb, lease_ms bigint, flushed boolean,
    change bytea,
    put_generations bigint[], put_collections text[], put_groups text[], put_sorts text[], put_datas text[],
    gone_generations bigint[], gone_collections text[], gone_groups text[], gone_sorts text[], rest jsonb)
RETURNS SETOF projection_states LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
DECLARE
    goal projections;
    clock CONSTANT timestamptz := clock_timestamp();
    moved CONSTANT boolean := change IS NOT NULL OR flushed;
BEGIN
    IF NOT flushed THEN
        -- Rows can be made again from the log; what matters is that they and their checkpoint go together.
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    goal := jsonb_populate_record(NULL::projections, state);
    UPDATE projections p SET
        row_version = p.row_version + 1, version = goal.version, generation = goal.generation,
        checkpoint = goal.checkpoint, checkpoint_leaf = goal.checkpoint_leaf, revision = goal.revision,
        owner = goal.owner,
        lease_until = CASE WHEN lease_ms IS NULL THEN goal.lease_until ELSE clock + lease_ms * interval '1 ms' END,
        epoch = goal.epoch, paused = goal.paused, frozen = goal.frozen,
        shadow_generation = goal.shadow_generation, shadow_version = goal.shadow_version,
        shadow_checkpoint = goal.shadow_checkpoint, shadow_leaf = goal.shadow_leaf,
        shadow_operation = goal.shadow_operation, shadow_accepts_difference = goal.shadow_accepts_difference,
        previous_generation = goal.previous_generation, previous_version = goal.previous_version,
        previous_checkpoint = goal.previous_checkpoint, previous_leaf = goal.previous_leaf,
        fault_reason = goal.fault_reason, fault_position = goal.fault_position, fault_at = goal.fault_at
    WHERE p.partition = 0 AND p.name = projection AND p.row_version = decided_on;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF cardinality(gone_sorts) > 0 THEN
        DELETE FROM view_rows r
            USING unnest(gone_generations, gone_collections, gone_groups, gone_sorts) g(generation, collection, grp, sort)
            WHERE r.partition = 0 AND r.generation = g.generation AND r.collection = g.collection
                AND r.grp = g.grp AND r.sort = g.sort;
    END IF;
    IF cardinality(put_sorts) > 0 THEN
        INSERT INTO view_rows (partition, generation, collection, grp, sort, data)
            SELECT 0, r.generation, r.collection, r.grp, r.sort, r.data
            FROM unnest(put_generations, put_collections, put_groups, put_sorts, put_datas)
                r(generation, collection, grp, sort, data)
            ON CONFLICT ON CONSTRAINT view_rows_pkey DO UPDATE SET data = excluded.data;
    END IF;
    IF change IS NOT NULL THEN
        INSERT INTO view_changes (partition, projection, revision, previous_revision, touched, recorded_at)
            VALUES (0, projection, goal.revision, revision_before, change, clock);
    END IF;
    IF rest IS NOT NULL THEN
        PERFORM move_parked(rest, clock);
    END IF;
    IF moved THEN
        PERFORM pg_notify('es_views', projection);
    END IF;
    RETURN QUERY SELECT * FROM projection_states s WHERE s.partition = 0 AND s.name = projection;
END $$;

-- The rare parts of a step: parked events and operations.
CREATE FUNCTION move_parked(rest jsonb, clock timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
AS $$
BEGIN
    INSERT INTO parked_events (partition, generation, position, park_key, aggregate_id, event_type, error, attempts,
            parked_at)
        SELECT 0, e.generation, e.position, e.park_key, e.aggregate_id, e.event_type, e.error, e.attempts, clock
        FROM jsonb_to_recordset(rest -> 'parked') e(generation bigint, position bigint, park_key text,
            aggregate_id text, event_type text, error text, attempts bigint)
        ON CONFLICT ON CONSTRAINT parked_events_pkey DO NOTHING;
    DELETE FROM parked_events p
        USING jsonb_to_recordset(rest -> 'released') e(generation bigint, position bigint)
        WHERE p.partition = 0 AND p.generation = e.generation AND p.position = e.position;
    UPDATE parked_events p
        SET skipped_at = coalesce(p.skipped_at, clock), skipped_by = coalesce(p.skipped_by, p.principal, ''),
            request = NULL, operation = NULL, principal = NULL
        FROM jsonb_to_recordset(rest -> 'skipped') e(generation bigint, position bigint)
        WHERE p.partition = 0 AND p.generation = e.generation AND p.position = e.position;
    UPDATE parked_events p SET error = e.error, attempts = e.attempts, request = NULL, operation = NULL, principal = NULL
        FROM jsonb_to_recordset(rest -> 'retried') e(generation bigint, position bigint, error text, attempts bigint)
        WHERE p.partition = 0 AND p.generation = e.generation AND p.position = e.position;
    UPDATE parked_events p SET request = e.request, operation = e.operation, principal = e.principal
        FROM jsonb_to_recordset(rest -> 'requested')
            e(generation bigint, position bigint, request text, operation uuid, principal text)
        WHERE p.partition = 0 AND p.generation = e.generation AND p.position = e.position;
    INSERT INTO operations (partition, id, kind, subject, status, done, total, created_at, updated_at)
        SELECT 0, o.id, o.kind, o.subject, o.status, 0, 0, clock, clock
        FROM jsonb_to_recordset(rest -> 'begun') o(id uuid, kind text, subject text, status text)
        ON CONFLICT ON CONSTRAINT operations_pkey DO NOTHING;
    UPDATE operations o
        SET status = u.status, done = coalesce(u.done, o.done), total = coalesce(u.total, o.total),
            result = coalesce(u.result, o.result), error = u.error, updated_at = clock
        FROM jsonb_to_recordset(rest -> 'operations')
            u(id uuid, status text, done bigint, total bigint, result text, error text)
        WHERE o.partition = 0 AND o.id = u.id AND o.status = 'running';
END $$;
