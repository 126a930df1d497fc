-- Who may come in, and what was done or refused at the door. Neither takes positions of the log.

-- API keys: of each only its SHA-256. A key is revoked once and for ever, and no line of it is ever changed or removed.
CREATE TABLE tokens (
    partition  smallint         NOT NULL,
    id         uuid             NOT NULL,
    name       text COLLATE "C" NOT NULL,
    -- Names with commas between them.
    roles      text COLLATE "C" NOT NULL,
    digest     bytea            NOT NULL,
    created_at timestamptz      NOT NULL,
    created_by text COLLATE "C" NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (partition, id),
    UNIQUE (partition, digest)
);
-- Every replica looks at the active ones once a second.
CREATE INDEX tokens_active ON tokens (partition, id) WHERE revoked_at IS NULL;

CREATE FUNCTION refuse_token_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of "tokens" is refused: a key can only be revoked', TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER tokens_only_revoked BEFORE UPDATE ON tokens FOR EACH ROW
    WHEN (old.revoked_at IS NOT NULL OR new.revoked_at IS NULL
        OR (new.partition, new.id, new.name, new.roles, new.digest, new.created_at, new.created_by)
            IS DISTINCT FROM (old.partition, old.id, old.name, old.roles, old.digest, old.created_at, old.created_by)
        OR new.expires_at IS DISTINCT FROM old.expires_at)
    EXECUTE FUNCTION refuse_token_change();
CREATE TRIGGER tokens_stay BEFORE DELETE OR TRUNCATE ON tokens
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_token_change();

-- Refused and administrative acts, in the order of their ids (UUIDs of version 7).
CREATE TABLE audit (
    partition  smallint         NOT NULL,
    id         uuid             NOT NULL,
    at         timestamptz      NOT NULL,
    principal  text COLLATE "C",
    peer       text COLLATE "C",
    act        text COLLATE "C" NOT NULL,
    target     text COLLATE "C" NOT NULL,
    outcome    text COLLATE "C" NOT NULL,
    status     integer,
    request_id text COLLATE "C",
    count      bigint           NOT NULL,
    PRIMARY KEY (partition, id)
);
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
