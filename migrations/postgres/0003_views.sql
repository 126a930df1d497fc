-- Read models: rows, and who may write them. All of it can be made again from the log. Every key starts with `partition`
-- (0 today). Texts compare bytewise (collation "C").

-- The last number given to a generation of rows; never given twice.
CREATE TABLE view_generations (
    partition smallint NOT NULL PRIMARY KEY,
    last      bigint   NOT NULL
);
INSERT INTO view_generations (partition, last) VALUES (0, 0);

-- One row decides who may write a projection's rows, and from where: every step tests and moves it first. `parked` counts
-- the waiting parked events of the served generation. Half of each page stays free, so that a move finds room beside it.
CREATE TABLE projections (
    partition                 smallint         NOT NULL,
    name                      text COLLATE "C" NOT NULL,
    version                   bigint           NOT NULL,
    generation                bigint           NOT NULL,
    checkpoint                bigint           NOT NULL DEFAULT 0,
    checkpoint_leaf           bytea,
    revision                  bigint           NOT NULL DEFAULT 0,
    owner                     uuid,
    lease_until               timestamptz,
    epoch                     bigint           NOT NULL DEFAULT 0,
    paused                    boolean          NOT NULL DEFAULT false,
    frozen                    boolean          NOT NULL DEFAULT false,
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
    parked                    bigint           NOT NULL DEFAULT 0,
    PRIMARY KEY (partition, name)
) WITH (fillfactor = 50);

-- `grp` and `sort`: the list a row stands in, and its place there. `data` is JSON, byte for byte as it was written.
CREATE TABLE view_rows (
    partition  smallint         NOT NULL,
    generation bigint           NOT NULL,
    collection text COLLATE "C" NOT NULL,
    grp        text COLLATE "C" NOT NULL,
    sort       text COLLATE "C" NOT NULL,
    data       text             NOT NULL,
    PRIMARY KEY (partition, generation, collection, grp, sort)
) WITH (fillfactor = 85);

-- What readers could notice, revision by revision; `previous_revision` tells whether the chain is whole. `touched` are tags
-- of 8 bytes each; null = everything.
CREATE TABLE view_changes (
    partition         smallint         NOT NULL,
    projection        text COLLATE "C" NOT NULL,
    revision          bigint           NOT NULL,
    previous_revision bigint           NOT NULL,
    touched           bytea,
    recorded_at       timestamptz      NOT NULL,
    PRIMARY KEY (partition, projection, revision)
);

-- Events that could not be applied, and what waits behind them.
CREATE TABLE parked_events (
    partition         smallint         NOT NULL,
    generation        bigint           NOT NULL,
    position          bigint           NOT NULL,
    key               text COLLATE "C" NOT NULL,
    aggregate_id      text COLLATE "C" NOT NULL,
    event_type        text COLLATE "C" NOT NULL,
    error             text             NOT NULL,
    attempts          bigint           NOT NULL,
    parked_at         timestamptz      NOT NULL,
    request           text,
    request_operation uuid,
    request_principal text,
    skipped_at        timestamptz,
    skipped_by        text,
    PRIMARY KEY (partition, generation, position)
);
CREATE INDEX parked_events_waiting ON parked_events (partition, generation, key, position) WHERE skipped_at IS NULL;
CREATE INDEX parked_events_requested ON parked_events (partition, generation, position) WHERE request IS NOT NULL;

CREATE TABLE operations (
    partition  smallint    NOT NULL,
    id         uuid        NOT NULL,
    kind       text        NOT NULL,
    subject    text        NOT NULL,
    status     text        NOT NULL,
    done       bigint      NOT NULL,
    total      bigint      NOT NULL,
    result     bytea,
    error      text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (partition, id)
);

-- The rows of `projections` as the program reads them.
CREATE VIEW projection_states AS
SELECT p.*, EXISTS (SELECT FROM parked_events e
    WHERE e.partition = p.partition AND e.generation = p.generation AND e.request IS NOT NULL) AS has_requests
FROM projections p;

-- Whether the transaction waits for the disk. What is not flushed can be made again from the log.
CREATE FUNCTION set_flush(flushed boolean) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM set_config('synchronous_commit', CASE WHEN NOT flushed THEN 'off'
        WHEN current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true);
END $$;

-- The state of a projection, made at position 0 with an empty generation if there is none.
CREATE FUNCTION declare_projection(declared text, code_version bigint)
RETURNS SETOF projection_states LANGUAGE plpgsql VOLATILE
SET lock_timeout = '5s'
AS $$
DECLARE
    fresh bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM projections p WHERE p.partition = 0 AND p.name = declared) THEN
        PERFORM set_flush(true);
        UPDATE view_generations g SET last = g.last + 1 WHERE g.partition = 0 RETURNING g.last INTO STRICT fresh;
        INSERT INTO projections (partition, name, version, generation) VALUES (0, declared, code_version, fresh)
            ON CONFLICT DO NOTHING;
    END IF;
    RETURN QUERY SELECT * FROM projection_states s WHERE s.partition = 0 AND s.name = declared;
END $$;

-- Takes or renews the lease; no row: another holds it, or there is no such projection. Who asks in vain locks nothing. A
-- change of owner raises epoch and revision (by `leap`) and is flushed.
CREATE FUNCTION acquire_projection(projection text, claimer uuid, lease_ms bigint, leap bigint)
RETURNS SETOF projection_states LANGUAGE plpgsql VOLATILE
SET lock_timeout = '5s'
AS $$
DECLARE
    p projections;
    is_new boolean;
BEGIN
    SELECT * INTO p FROM projections l WHERE l.partition = 0 AND l.name = projection
        AND (l.owner IS NULL OR l.owner = claimer OR l.lease_until <= clock_timestamp()) FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    is_new := p.owner IS DISTINCT FROM claimer;
    PERFORM set_flush(is_new);
    IF is_new THEN
        INSERT INTO view_changes (partition, projection, revision, previous_revision, touched, recorded_at)
            VALUES (0, p.name, p.revision + leap, p.revision, NULL, clock_timestamp());
        p.revision := p.revision + leap;
        p.epoch := p.epoch + 1;
        PERFORM pg_notify('es_views', p.name);
    END IF;
    UPDATE projections l SET owner = claimer, lease_until = clock_timestamp() + lease_ms * interval '1 ms',
            epoch = p.epoch, revision = p.revision
        WHERE l.partition = 0 AND l.name = p.name;
    RETURN QUERY SELECT * FROM projection_states s WHERE s.partition = 0 AND s.name = p.name;
END $$;

-- One step of a projection's owner in one autocommitted call; no row: lost, and nothing is stored.
--
-- The projection's row is locked, tested and moved before anything else; `parked` alone is settled at the end. `transition`:
-- 'swap' (both at one position), 'force' (a swap wherever they stand), 'drop' (the shadow), 'stop' (with the fault).
-- Elements of the arrays with one prefix belong together. It is flushed only if it carries a transition or news of an
-- operation.
--
-- READ COMMITTED: each statement sees what was committed before it began, so what follows the lock sees the last step.
-- Look-ups go by index, one by one: a plan made on young tables must still be right on old ones.
CREATE FUNCTION commit_view(
    projection text, committer uuid, committer_epoch bigint, lease_ms bigint,
    served_generation bigint, served_from bigint, served_to bigint, served_leaf bytea,
    shadowed_generation bigint, shadow_from bigint, shadow_to bigint, shadow_leaf bytea,
    is_touched boolean, touched_tags bytea, transition text,
    stop_reason text, stop_position bigint, stop_at timestamptz,
    put_generations bigint[], put_collections text[], put_groups text[], put_sorts text[], put_datas text[],
    delete_generations bigint[], delete_collections text[], delete_groups text[], delete_sorts text[],
    park_generations bigint[], park_positions bigint[], park_keys text[], park_streams text[], park_types text[],
    park_errors text[], park_attempts bigint[],
    settle_generations bigint[], settle_positions bigint[], settle_skips boolean[],
    retry_generations bigint[], retry_positions bigint[], retry_errors text[], retry_attempts bigint[],
    operation uuid, operation_status text, operation_done bigint, operation_total bigint, operation_result bytea,
    operation_error text)
RETURNS SETOF projection_states LANGUAGE plpgsql VOLATILE
SET lock_timeout = '5s'
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
DECLARE
    p projections;
    before projections;
    is_swap CONSTANT boolean := coalesce(transition IN ('swap', 'force'), false);
    is_change CONSTANT boolean := is_touched OR is_swap;
    waiting bigint := 0;
    counted bigint;
    instant timestamptz;
BEGIN
    SELECT * INTO p FROM projections l WHERE l.partition = 0 AND l.name = projection FOR UPDATE;
    IF NOT FOUND OR p.owner IS DISTINCT FROM committer OR p.epoch <> committer_epoch
        OR p.paused AND (served_generation IS NOT NULL OR shadowed_generation IS NOT NULL OR is_swap)
        OR p.frozen AND served_generation IS NOT NULL
        OR served_generation IS NOT NULL AND (p.generation <> served_generation OR p.checkpoint <> served_from)
        OR shadowed_generation IS NOT NULL AND (p.shadow_generation IS DISTINCT FROM shadowed_generation
            OR p.shadow_checkpoint IS DISTINCT FROM shadow_from)
        OR is_swap AND p.shadow_generation IS NULL
        OR transition = 'swap' AND coalesce(shadow_to, p.shadow_checkpoint) <> coalesce(served_to, p.checkpoint)
    THEN
        RETURN;
    END IF;
    PERFORM set_flush(transition IS NOT NULL OR operation IS NOT NULL);
    instant := clock_timestamp();
    before := p;
    IF served_generation IS NOT NULL THEN
        p.checkpoint := served_to;
        p.checkpoint_leaf := served_leaf;
    END IF;
    IF shadowed_generation IS NOT NULL THEN
        p.shadow_checkpoint := shadow_to;
        p.shadow_leaf := commit_view.shadow_leaf;
    END IF;
    IF is_swap THEN
        p.previous_generation := p.generation;
        p.previous_version := p.version;
        p.previous_checkpoint := p.checkpoint;
        p.previous_leaf := p.checkpoint_leaf;
        p.generation := p.shadow_generation;
        p.version := p.shadow_version;
        p.checkpoint := p.shadow_checkpoint;
        p.checkpoint_leaf := p.shadow_leaf;
        p.frozen := false;
        p.fault_reason := NULL;
        p.fault_position := NULL;
        p.fault_at := NULL;
    END IF;
    IF is_swap OR transition = 'drop' THEN
        p.shadow_generation := NULL;
        p.shadow_version := NULL;
        p.shadow_checkpoint := NULL;
        p.shadow_leaf := NULL;
        p.shadow_operation := NULL;
        p.shadow_accepts_difference := NULL;
    END IF;
    IF transition = 'stop' THEN
        p.fault_reason := stop_reason;
        p.fault_position := stop_position;
        p.fault_at := stop_at;
    END IF;
    IF is_change THEN
        p.revision := p.revision + 1;
    END IF;
    UPDATE projections l SET version = p.version, generation = p.generation, checkpoint = p.checkpoint,
            checkpoint_leaf = p.checkpoint_leaf, revision = p.revision,
            lease_until = instant + lease_ms * interval '1 ms', frozen = p.frozen,
            shadow_generation = p.shadow_generation, shadow_version = p.shadow_version,
            shadow_checkpoint = p.shadow_checkpoint, shadow_leaf = p.shadow_leaf,
            shadow_operation = p.shadow_operation, shadow_accepts_difference = p.shadow_accepts_difference,
            previous_generation = p.previous_generation, previous_version = p.previous_version,
            previous_checkpoint = p.previous_checkpoint, previous_leaf = p.previous_leaf,
            fault_reason = p.fault_reason, fault_position = p.fault_position, fault_at = p.fault_at
        WHERE l.partition = 0 AND l.name = p.name;
    IF is_change THEN
        INSERT INTO view_changes (partition, projection, revision, previous_revision, touched, recorded_at)
            VALUES (0, p.name, p.revision, before.revision, CASE WHEN is_swap THEN NULL ELSE touched_tags END, instant);
    END IF;

    IF cardinality(delete_sorts) > 0 THEN
        DELETE FROM view_rows r
            USING unnest(delete_generations, delete_collections, delete_groups, delete_sorts)
                d(generation, collection, grp, sort)
            WHERE r.partition = 0 AND r.generation = d.generation AND r.collection = d.collection AND r.grp = d.grp
                AND r.sort = d.sort;
    END IF;
    IF cardinality(put_sorts) > 0 THEN
        INSERT INTO view_rows AS r (partition, generation, collection, grp, sort, data)
            SELECT 0, n.generation, n.collection, n.grp, n.sort, n.data
            FROM unnest(put_generations, put_collections, put_groups, put_sorts, put_datas)
                n(generation, collection, grp, sort, data)
            ON CONFLICT ON CONSTRAINT view_rows_pkey DO UPDATE SET data = excluded.data;
    END IF;

    IF cardinality(park_positions) > 0 THEN
        WITH fresh AS (
            INSERT INTO parked_events (partition, generation, position, key, aggregate_id, event_type, error, attempts,
                    parked_at)
                SELECT 0, n.generation, n.position, n.key, n.stream, n.type, n.error, n.attempts, instant
                FROM unnest(park_generations, park_positions, park_keys, park_streams, park_types, park_errors,
                        park_attempts) n(generation, position, key, stream, type, error, attempts)
                ON CONFLICT DO NOTHING RETURNING generation)
        SELECT count(*) INTO counted FROM fresh f WHERE f.generation = before.generation;
        waiting := waiting + counted;
    END IF;
    IF cardinality(settle_positions) > 0 THEN
        WITH gone AS (
            DELETE FROM parked_events e USING unnest(settle_generations, settle_positions, settle_skips)
                    s(generation, position, skips)
                WHERE e.partition = 0 AND e.generation = s.generation AND e.position = s.position
                    AND e.skipped_at IS NULL AND NOT s.skips
                RETURNING e.generation)
        SELECT count(*) INTO counted FROM gone g WHERE g.generation = before.generation;
        waiting := waiting - counted;
        WITH gone AS (
            UPDATE parked_events e SET skipped_at = instant, skipped_by = coalesce(e.request_principal, ''),
                    request = NULL, request_operation = NULL, request_principal = NULL
                FROM unnest(settle_generations, settle_positions, settle_skips) s(generation, position, skips)
                WHERE e.partition = 0 AND e.generation = s.generation AND e.position = s.position
                    AND e.skipped_at IS NULL AND s.skips
                RETURNING e.generation)
        SELECT count(*) INTO counted FROM gone g WHERE g.generation = before.generation;
        waiting := waiting - counted;
    END IF;
    IF cardinality(retry_positions) > 0 THEN
        UPDATE parked_events e SET error = n.error, attempts = n.attempts, request = NULL, request_operation = NULL,
                request_principal = NULL
            FROM unnest(retry_generations, retry_positions, retry_errors, retry_attempts)
                n(generation, position, error, attempts)
            WHERE e.partition = 0 AND e.generation = n.generation AND e.position = n.position;
    END IF;
    IF is_swap THEN
        UPDATE projections l SET parked = (SELECT count(*) FROM parked_events e
                WHERE e.partition = 0 AND e.generation = l.generation AND e.skipped_at IS NULL)
            WHERE l.partition = 0 AND l.name = p.name;
    ELSIF waiting <> 0 THEN
        UPDATE projections l SET parked = l.parked + waiting WHERE l.partition = 0 AND l.name = p.name;
    END IF;

    IF operation IS NOT NULL THEN
        UPDATE operations o SET status = operation_status, done = operation_done, total = operation_total,
                result = operation_result, error = operation_error, updated_at = instant
            WHERE o.partition = 0 AND o.id = operation AND o.status = 'running';
    END IF;
    IF is_change OR transition IS NOT NULL OR cardinality(park_positions) + cardinality(settle_positions) > 0
        OR p.checkpoint <> before.checkpoint OR p.shadow_checkpoint IS DISTINCT FROM before.shadow_checkpoint
    THEN
        PERFORM pg_notify('es_views', p.name);
    END IF;
    RETURN QUERY SELECT * FROM projection_states s WHERE s.partition = 0 AND s.name = p.name;
END $$;

-- What became of an operator's wish: granted, or the reason against it (a word) and the operation in the way.
CREATE TYPE control_answer AS (is_known boolean, objection text, in_the_way uuid);

-- Does what an operator wants in one flushed call. `wish`: 'pause', 'resume', 'rebuild', 'cancel', 'rollback', 'settle'.
-- `kind` and `subject` are those of the operation that begins.
CREATE FUNCTION control_projection(
    projection text, wish text, operation uuid, kind text, subject text, code_version bigint, accepts_difference boolean,
    parked_position bigint, request_word text, principal text)
RETURNS control_answer LANGUAGE plpgsql VOLATILE
SET lock_timeout = '5s'
SET enable_seqscan = off
AS $$
DECLARE
    p projections;
    e parked_events;
    fresh bigint;
    instant timestamptz;
BEGIN
    SELECT * INTO p FROM projections l WHERE l.partition = 0 AND l.name = projection FOR UPDATE;
    IF NOT FOUND THEN
        RETURN (false, NULL::text, NULL::uuid);
    END IF;
    PERFORM set_flush(true);
    instant := clock_timestamp();
    IF wish = 'pause' THEN
        UPDATE projections l SET paused = true WHERE l.partition = 0 AND l.name = p.name AND NOT l.paused;
    ELSIF wish = 'resume' THEN
        UPDATE projections l SET paused = false, fault_reason = NULL, fault_position = NULL, fault_at = NULL
            WHERE l.partition = 0 AND l.name = p.name AND (l.paused OR l.fault_reason IS NOT NULL);
    ELSIF wish = 'rebuild' THEN
        IF p.shadow_generation IS NOT NULL THEN
            RETURN (true, 'rebuilding'::text, p.shadow_operation);
        END IF;
        UPDATE view_generations g SET last = g.last + 1 WHERE g.partition = 0 RETURNING g.last INTO STRICT fresh;
        UPDATE projections l SET shadow_generation = fresh, shadow_version = code_version, shadow_checkpoint = 0,
                shadow_leaf = NULL, shadow_operation = operation, shadow_accepts_difference = accepts_difference,
                fault_reason = NULL, fault_position = NULL, fault_at = NULL
            WHERE l.partition = 0 AND l.name = p.name;
    ELSIF wish = 'cancel' THEN
        IF p.shadow_operation IS DISTINCT FROM operation THEN
            RETURN (true, 'not rebuilding'::text, p.shadow_operation);
        END IF;
        UPDATE projections l SET shadow_generation = NULL, shadow_version = NULL, shadow_checkpoint = NULL,
                shadow_leaf = NULL, shadow_operation = NULL, shadow_accepts_difference = NULL, epoch = l.epoch + 1
            WHERE l.partition = 0 AND l.name = p.name;
        UPDATE operations o SET status = 'cancelled', updated_at = instant
            WHERE o.partition = 0 AND o.id = operation AND o.status = 'running';
    ELSIF wish = 'rollback' THEN
        IF p.shadow_generation IS NOT NULL THEN
            RETURN (true, 'rebuilding'::text, p.shadow_operation);
        ELSIF p.previous_generation IS NULL THEN
            RETURN (true, 'no previous'::text, NULL::uuid);
        END IF;
        UPDATE projections l SET generation = p.previous_generation, version = p.previous_version,
                checkpoint = p.previous_checkpoint, checkpoint_leaf = p.previous_leaf,
                previous_generation = p.generation, previous_version = p.version, previous_checkpoint = p.checkpoint,
                previous_leaf = p.checkpoint_leaf, frozen = true, epoch = p.epoch + 1, revision = p.revision + 1,
                parked = (SELECT count(*) FROM parked_events w WHERE w.partition = 0
                    AND w.generation = p.previous_generation AND w.skipped_at IS NULL)
            WHERE l.partition = 0 AND l.name = p.name;
        INSERT INTO view_changes (partition, projection, revision, previous_revision, touched, recorded_at)
            VALUES (0, p.name, p.revision + 1, p.revision, NULL, instant);
    ELSE
        SELECT * INTO e FROM parked_events w WHERE w.partition = 0 AND w.generation = p.generation
            AND w.position = parked_position AND w.skipped_at IS NULL FOR UPDATE;
        IF NOT FOUND THEN
            RETURN (true, 'not parked'::text, NULL::uuid);
        ELSIF e.request_operation IS NOT NULL THEN
            RETURN (true, 'requested'::text, e.request_operation);
        END IF;
        UPDATE parked_events w SET request = request_word, request_operation = operation, request_principal = principal
            WHERE w.partition = 0 AND w.generation = p.generation AND w.position = parked_position;
    END IF;
    IF kind IS NOT NULL THEN
        INSERT INTO operations (partition, id, kind, subject, status, done, total, created_at, updated_at)
            VALUES (0, operation, kind, subject, 'running', 0, 0, instant, instant) ON CONFLICT DO NOTHING;
    END IF;
    IF NOT (wish = 'pause' AND p.paused OR wish = 'resume' AND NOT p.paused AND p.fault_reason IS NULL) THEN
        PERFORM pg_notify('es_views', p.name);
    END IF;
    RETURN (true, NULL::text, NULL::uuid);
END $$;
