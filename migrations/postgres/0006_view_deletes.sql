-- Rows of a read model are deleted by key, one look-up each. Joined with its arguments the statement took, with a plan made
-- while the table was young, the product of both: 0.6 s for 1,100 rows among 3,300. Only the owner, who holds the row of
-- `projections`, writes rows of a generation, so a row stays in its place from the look-up to the deletion. What the function
-- does otherwise, and why, stands in 0003.
CREATE OR REPLACE FUNCTION commit_view(
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
        DELETE FROM view_rows r WHERE r.partition = 0 AND r.ctid = ANY (ARRAY(
            SELECT w.ctid
            FROM unnest(delete_generations, delete_collections, delete_groups, delete_sorts)
                d(generation, collection, grp, sort)
            CROSS JOIN LATERAL (SELECT v.ctid FROM view_rows v WHERE v.partition = 0 AND v.generation = d.generation
                AND v.collection = d.collection AND v.grp = d.grp AND v.sort = d.sort LIMIT 1) w));
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
