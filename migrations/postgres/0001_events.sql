-- The log and what is decided in the same transaction as an append. Every key starts with `partition` (0 today), so that
-- the same statements can later run over many heads. Identifiers compare bytewise (collation "C"), as the program does.

-- The one lock of all writers: a row that appends lock but never change, so that it cannot bloat.
CREATE TABLE log_head (
    partition smallint NOT NULL PRIMARY KEY,
    store_id  uuid     NOT NULL,
    read_only boolean  NOT NULL DEFAULT false
);
INSERT INTO log_head (partition, store_id) VALUES (0, gen_random_uuid());

-- No foreign keys: nothing may wait once the head is locked.
CREATE TABLE events (
    partition      smallint         NOT NULL,
    position       bigint           NOT NULL,
    aggregate_id   text COLLATE "C" NOT NULL,
    aggregate_type text COLLATE "C" NOT NULL,
    sequence       bigint           NOT NULL,
    event_id       uuid             NOT NULL,
    event_type     text COLLATE "C" NOT NULL,
    schema_version bigint           NOT NULL,
    data           bytea            NOT NULL,
    metadata       bytea            NOT NULL,
    recorded_at    timestamptz      NOT NULL,
    checksum       bytea            NOT NULL,
    chain          bytea            NOT NULL,
    CONSTRAINT events_position PRIMARY KEY (partition, position),
    CONSTRAINT events_sequence UNIQUE (partition, aggregate_id, sequence),
    CONSTRAINT events_event_id UNIQUE (partition, event_id)
);

-- One row per stream, written with its first event.
CREATE TABLE streams (
    partition      smallint         NOT NULL,
    aggregate_id   text COLLATE "C" NOT NULL,
    aggregate_type text COLLATE "C" NOT NULL,
    PRIMARY KEY (partition, aggregate_id)
);
CREATE INDEX streams_type ON streams (partition, aggregate_type, aggregate_id);

CREATE TABLE idempotency (
    partition   smallint         NOT NULL,
    principal   text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    fingerprint bytea            NOT NULL,
    outcome     bytea            NOT NULL,
    recorded_at timestamptz      NOT NULL,
    PRIMARY KEY (partition, principal, key)
);
CREATE INDEX idempotency_age ON idempotency (partition, recorded_at);

-- A writer that lost twice on a stream has the turn there until the instant given.
CREATE TABLE turns (
    partition    smallint         NOT NULL,
    aggregate_id text COLLATE "C" NOT NULL,
    holder       uuid             NOT NULL,
    until        timestamptz      NOT NULL,
    PRIMARY KEY (partition, aggregate_id)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of "%" is refused: the log is append-only, nothing in it is changed or deleted', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER streams_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON streams
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER log_head_stays BEFORE DELETE OR TRUNCATE ON log_head
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- For people: payload and metadata as text.
CREATE VIEW events_text AS
SELECT partition, position, aggregate_id, aggregate_type, sequence, event_id, event_type, schema_version,
       convert_from(data, 'UTF8') AS data, convert_from(metadata, 'UTF8') AS metadata, recorded_at,
       encode(checksum, 'hex') AS checksum, encode(chain, 'hex') AS chain
FROM events;

-- What the functions below answer; a type of its own is cheaper per call than as many parameters.
CREATE TYPE append_answer AS (
    head bigint, instant timestamptz, sealed boolean,
    known_units int[], known_commands int[], stale_units int[], waiting_units int[]
);

-- Several independent appends in one autocommitted call. A unit succeeds or fails whole, decided before anything is
-- stored: is one of its commands known (ids and keys), does each stream stand at the claimed head, is it nobody else's
-- turn. Elements of the arrays with one prefix belong together; `…_units` says to which unit they belong.
--
-- Answer: the log's head before the call and the instant of everything stored by it; the writer numbers the events of
-- the units that passed from head + 1, in the order given. `sealed`: the log is read-only and nothing was stored.
--
-- A writer that was the last to append knows the heads it left: where the log still ends at `left_at`, claims marked as
-- trusted are not looked up again.
--
-- Volatile and READ COMMITTED: each statement sees what was committed before it began, so what follows the lock sees the
-- whole log. Look-ups go by index, one by one: a plan made on a young log must still be right on an old one.
CREATE FUNCTION append_batch(
    writer uuid, left_at bigint,
    claim_units int[], claim_streams text[], claim_sequences bigint[], claim_chains bytea[], claim_losses int[],
    claim_trusted boolean[],
    probe_units int[], probe_commands int[], probe_ids uuid[], probe_least uuid, probe_most uuid,
    key_units int[], key_commands int[], key_principals text[], key_names text[], key_fingerprints bytea[],
    key_outcomes bytea[],
    event_units int[], event_streams text[], event_stream_types text[], event_sequences bigint[], event_ids uuid[],
    event_types text[], event_schemas bigint[], event_datas bytea[], event_metadatas bytea[], event_checksums bytea[],
    event_chains bytea[])
RETURNS append_answer LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
DECLARE
    head bigint;
    instant timestamptz;
    sealed boolean;
    known_units int[];
    known_commands int[];
    stale_units int[];
    waiting_units int[];
    no_chain CONSTANT bytea := decode(repeat('00', 32), 'hex');
    clock timestamptz;
    failed int[];
    has_turns boolean;
    stored bigint := 0;
BEGIN
    -- The only wait of the whole call.
    SELECT l.read_only INTO STRICT sealed FROM log_head l WHERE l.partition = 0 FOR UPDATE;
    IF cardinality(event_units) + cardinality(key_units) = 0 THEN
        -- Nothing will be stored, and all that can be seen is flushed already.
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    clock := clock_timestamp();
    SELECT e.position, greatest(e.recorded_at, clock) INTO head, instant
        FROM events e WHERE e.partition = 0 ORDER BY e.position DESC LIMIT 1;
    IF head IS NULL THEN
        head := 0;
        instant := clock;
    END IF;

    -- Ids grow with time, so as a rule all of a batch lie above all that is stored, and one look is enough.
    IF EXISTS (SELECT FROM events e WHERE e.partition = 0 AND e.event_id BETWEEN probe_least AND probe_most) THEN
        SELECT array_agg(p.unit), array_agg(p.command) INTO known_units, known_commands
            FROM unnest(probe_units, probe_commands, probe_ids) p(unit, command, id)
            CROSS JOIN LATERAL (SELECT 1 FROM events e WHERE e.partition = 0 AND e.event_id = p.id LIMIT 1) x;
    END IF;
    IF cardinality(key_units) > 0 THEN
        SELECT known_units || array_agg(k.unit), known_commands || array_agg(k.command) INTO known_units, known_commands
            FROM unnest(key_units, key_commands, key_principals, key_names) k(unit, command, principal, name)
            CROSS JOIN LATERAL (SELECT 1 FROM idempotency i
                WHERE i.partition = 0 AND i.principal = k.principal AND i.key = k.name LIMIT 1) x;
    END IF;

    IF head IS DISTINCT FROM left_at OR false = ANY (claim_trusted) THEN
        SELECT array_agg(c.unit) INTO stale_units
            FROM unnest(claim_units, claim_streams, claim_sequences, claim_chains, claim_trusted)
                c(unit, stream, sequence, chain, trusted)
            LEFT JOIN LATERAL (SELECT e.sequence, e.chain FROM events e
                WHERE e.partition = 0 AND e.aggregate_id = c.stream ORDER BY e.sequence DESC LIMIT 1) x ON true
            WHERE (head IS DISTINCT FROM left_at OR NOT c.trusted)
                AND (coalesce(x.sequence, 0) <> c.sequence OR coalesce(x.chain, no_chain) <> c.chain);
    END IF;

    has_turns := EXISTS (SELECT FROM turns t WHERE t.partition = 0);
    IF has_turns THEN
        SELECT array_agg(c.unit) INTO waiting_units FROM unnest(claim_units, claim_streams) c(unit, stream)
            CROSS JOIN LATERAL (SELECT 1 FROM turns t WHERE t.partition = 0 AND t.aggregate_id = c.stream
                AND t.holder <> writer AND t.until > clock LIMIT 1) x;
    END IF;
    failed := known_units || stale_units || waiting_units;

    IF has_turns OR 2 <= ANY (claim_losses) THEN
        -- A turn that was used, or has run out, goes; one is written where a unit has lost at least twice before.
        DELETE FROM turns t USING unnest(claim_units, claim_streams) c(unit, stream)
            WHERE t.partition = 0 AND t.aggregate_id = c.stream AND NOT c.unit = ANY (coalesce(failed, '{}'))
                AND (t.holder = writer OR t.until <= clock);
        INSERT INTO turns AS t (partition, aggregate_id, holder, until)
            SELECT 0, c.stream, writer, clock + interval '50 ms'
            FROM unnest(claim_units, claim_streams, claim_losses) c(unit, stream, losses)
            WHERE c.losses >= 2 AND c.unit = ANY (coalesce(stale_units, '{}'))
                AND NOT c.unit = ANY (coalesce(waiting_units, '{}'))
            ON CONFLICT ON CONSTRAINT turns_pkey DO UPDATE SET holder = excluded.holder, until = excluded.until;
    END IF;
    IF sealed THEN
        RETURN (head, instant, sealed, known_units, known_commands, stale_units, waiting_units);
    END IF;

    IF cardinality(key_units) > 0 THEN
        INSERT INTO idempotency (partition, principal, key, fingerprint, outcome, recorded_at)
            SELECT 0, k.principal, k.name, k.fingerprint, k.outcome, instant
            FROM unnest(key_units, key_principals, key_names, key_fingerprints, key_outcomes)
                k(unit, principal, name, fingerprint, outcome)
            WHERE failed IS NULL OR NOT k.unit = ANY (failed);
    END IF;
    IF cardinality(event_units) > 0 THEN
        IF failed IS NULL THEN
            INSERT INTO events (partition, position, aggregate_id, aggregate_type, sequence, event_id, event_type,
                    schema_version, data, metadata, recorded_at, checksum, chain)
                SELECT 0, head + n.ordinal, n.stream, n.stream_type, n.sequence,
                    n.id, n.type, n.schema, n.data, n.metadata, instant, n.checksum, n.chain
                FROM unnest(event_units, event_streams, event_stream_types, event_sequences, event_ids, event_types,
                        event_schemas, event_datas, event_metadatas, event_checksums, event_chains) WITH ORDINALITY
                    n(unit, stream, stream_type, sequence, id, type, schema, data, metadata, checksum, chain, ordinal);
            stored := cardinality(event_units);
        ELSE
            INSERT INTO events (partition, position, aggregate_id, aggregate_type, sequence, event_id, event_type,
                    schema_version, data, metadata, recorded_at, checksum, chain)
                SELECT 0, head + row_number() OVER (ORDER BY n.ordinal), n.stream, n.stream_type, n.sequence,
                    n.id, n.type, n.schema, n.data, n.metadata, instant, n.checksum, n.chain
                FROM unnest(event_units, event_streams, event_stream_types, event_sequences, event_ids, event_types,
                        event_schemas, event_datas, event_metadatas, event_checksums, event_chains) WITH ORDINALITY
                    n(unit, stream, stream_type, sequence, id, type, schema, data, metadata, checksum, chain, ordinal)
                WHERE NOT n.unit = ANY (failed);
            GET DIAGNOSTICS stored = ROW_COUNT;
        END IF;
    END IF;
    IF stored > 0 THEN
        IF 1 = ANY (event_sequences) THEN
            INSERT INTO streams (partition, aggregate_id, aggregate_type)
                SELECT 0, n.stream, n.stream_type
                FROM unnest(event_units, event_streams, event_stream_types, event_sequences)
                    n(unit, stream, stream_type, sequence)
                WHERE n.sequence = 1 AND (failed IS NULL OR NOT n.unit = ANY (failed));
        END IF;
        PERFORM pg_notify('es_events', (head + stored)::text);
    END IF;
    RETURN (head, instant, sealed, known_units, known_commands, stale_units, waiting_units);
END $$;

-- The same for one command of one stream with at most one event, which is what an idle system sends, without arrays. It
-- never writes a turn: a unit that has lost twice goes by the batch. A null event id means no event, a null key name no
-- key. (No joins here, so fewer settings; each costs a microsecond or two per call.)
CREATE FUNCTION append_one(
    writer uuid, left_at bigint,
    claim_stream text, claim_sequence bigint, claim_chain bytea, claim_trusted boolean, probe_id uuid,
    key_principal text, key_name text, key_fingerprint bytea, key_outcome bytea,
    event_stream_type text, event_id uuid, event_type text, event_schema bigint, event_data bytea, event_metadata bytea,
    event_checksum bytea, event_chain bytea)
RETURNS append_answer LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    head bigint;
    instant timestamptz;
    sealed boolean;
    known_units int[];
    known_commands int[];
    stale_units int[];
    waiting_units int[];
    no_chain CONSTANT bytea := decode(repeat('00', 32), 'hex');
    last_sequence bigint;
    last_chain bytea;
    has_turns boolean;
    is_known boolean;
BEGIN
    SELECT l.read_only INTO STRICT sealed FROM log_head l WHERE l.partition = 0 FOR UPDATE;
    IF event_id IS NULL AND key_name IS NULL THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    -- One statement for all: starting one costs more than any of its look-ups.
    SELECT e.position, greatest(e.recorded_at, clock_timestamp()), EXISTS (SELECT FROM turns t WHERE t.partition = 0),
            EXISTS (SELECT FROM events p WHERE p.partition = 0 AND p.event_id = probe_id)
                OR key_name IS NOT NULL AND EXISTS (SELECT FROM idempotency i
                    WHERE i.partition = 0 AND i.principal = key_principal AND i.key = key_name)
        INTO head, instant, has_turns, is_known
        FROM (VALUES (0)) one LEFT JOIN LATERAL (SELECT e.position, e.recorded_at FROM events e
            WHERE e.partition = 0 ORDER BY e.position DESC LIMIT 1) e ON true;
    head := coalesce(head, 0);
    IF is_known THEN
        known_units := '{0}';
        known_commands := '{0}';
        RETURN (head, instant, sealed, known_units, known_commands, stale_units, waiting_units);
    END IF;
    IF head IS DISTINCT FROM left_at OR NOT claim_trusted THEN
        SELECT e.sequence, e.chain INTO last_sequence, last_chain
            FROM events e WHERE e.partition = 0 AND e.aggregate_id = claim_stream ORDER BY e.sequence DESC LIMIT 1;
        IF coalesce(last_sequence, 0) <> claim_sequence OR coalesce(last_chain, no_chain) <> claim_chain THEN
            stale_units := '{0}';
        END IF;
    END IF;
    IF has_turns THEN
        SELECT '{0}' INTO waiting_units FROM turns t WHERE t.partition = 0 AND t.aggregate_id = claim_stream
            AND t.holder <> writer AND t.until > clock_timestamp();
        IF stale_units IS NULL AND waiting_units IS NULL THEN
            DELETE FROM turns t WHERE t.partition = 0 AND t.aggregate_id = claim_stream;
        END IF;
    END IF;
    IF sealed OR stale_units IS NOT NULL OR waiting_units IS NOT NULL THEN
        RETURN (head, instant, sealed, known_units, known_commands, stale_units, waiting_units);
    END IF;

    IF key_name IS NOT NULL THEN
        INSERT INTO idempotency (partition, principal, key, fingerprint, outcome, recorded_at)
            VALUES (0, key_principal, key_name, key_fingerprint, key_outcome, instant);
    END IF;
    IF event_id IS NOT NULL THEN
        INSERT INTO events (partition, position, aggregate_id, aggregate_type, sequence, event_id, event_type,
                schema_version, data, metadata, recorded_at, checksum, chain)
            VALUES (0, head + 1, claim_stream, event_stream_type, claim_sequence + 1, append_one.event_id,
                append_one.event_type, event_schema, event_data, event_metadata, instant, event_checksum, event_chain);
        IF claim_sequence = 0 THEN
            INSERT INTO streams (partition, aggregate_id, aggregate_type)
                VALUES (0, claim_stream, event_stream_type);
        END IF;
        PERFORM pg_notify('es_events', (head + 1)::text);
    END IF;
    RETURN (head, instant, sealed, known_units, known_commands, stale_units, waiting_units);
END $$;
