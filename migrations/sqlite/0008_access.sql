-- Who may come in, and what was done or refused at the door. Neither takes positions of the log.

-- API keys: of each only its SHA-256. A key is revoked once and for ever, and no line of it is ever changed or removed.
CREATE TABLE tokens (
    partition  INTEGER NOT NULL,
    id         BLOB    NOT NULL,
    name       TEXT    NOT NULL,
    -- Names with commas between them.
    roles      TEXT    NOT NULL,
    digest     BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    PRIMARY KEY (partition, id),
    UNIQUE (partition, digest)
) STRICT;
-- Every process looks at the active ones once a second.
CREATE INDEX tokens_active ON tokens (partition, id) WHERE revoked_at IS NULL;
CREATE TRIGGER tokens_only_revoked BEFORE UPDATE ON tokens
WHEN old.revoked_at IS NOT NULL OR new.revoked_at IS NULL OR new.id IS NOT old.id OR new.name IS NOT old.name
    OR new.roles IS NOT old.roles OR new.digest IS NOT old.digest OR new.created_at IS NOT old.created_at
    OR new.created_by IS NOT old.created_by OR new.expires_at IS NOT old.expires_at
BEGIN
    SELECT raise(ABORT, 'UPDATE of "tokens" is refused: a key can only be revoked');
END;
CREATE TRIGGER tokens_no_delete BEFORE DELETE ON tokens BEGIN
    SELECT raise(ABORT, 'DELETE of "tokens" is refused: a key can only be revoked');
END;

-- Refused and administrative acts, in the order of their ids (UUIDs of version 7).
CREATE TABLE audit (
    partition  INTEGER NOT NULL,
    id         BLOB    NOT NULL,
    at         INTEGER NOT NULL,
    principal  TEXT,
    peer       TEXT,
    act        TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    outcome    TEXT    NOT NULL,
    status     INTEGER,
    request_id TEXT,
    count      INTEGER NOT NULL,
    PRIMARY KEY (partition, id)
) STRICT;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN
    SELECT raise(ABORT, 'UPDATE of "audit" is refused: it is append-only, nothing in it is changed or deleted');
END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN
    SELECT raise(ABORT, 'DELETE of "audit" is refused: it is append-only, nothing in it is changed or deleted');
END;
