-- Keys of the people that personal members of events tell of, each wrapped by a master key that lies outside the database.
-- A destroyed key leaves its row behind without key: the subject never gets another. Instants are microseconds since 1970.
CREATE TABLE subject_keys (
    partition    INTEGER NOT NULL,
    subject      TEXT    NOT NULL,
    key_id       BLOB,
    master       TEXT,
    wrapped      BLOB,
    created_at   INTEGER NOT NULL,
    destroyed_at INTEGER,
    PRIMARY KEY (partition, subject),
    CHECK ((destroyed_at IS NULL) = (wrapped IS NOT NULL)),
    CHECK ((wrapped IS NULL) = (key_id IS NULL) AND (wrapped IS NULL) = (master IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX subject_keys_master ON subject_keys (partition, master, subject) WHERE master IS NOT NULL;
CREATE INDEX subject_keys_destroyed ON subject_keys (partition, destroyed_at, subject) WHERE destroyed_at IS NOT NULL;

-- The name of the master key that is current; a digest, no secret.
CREATE TABLE subject_key_master (
    partition INTEGER NOT NULL PRIMARY KEY,
    master    TEXT    NOT NULL
) STRICT;

CREATE TRIGGER subject_keys_no_delete BEFORE DELETE ON subject_keys BEGIN
    SELECT raise(ABORT, 'DELETE of "subject_keys" is refused: a key is destroyed by an erasure, and its row stays');
END;
CREATE TRIGGER subject_keys_no_return BEFORE UPDATE ON subject_keys WHEN old.destroyed_at IS NOT NULL BEGIN
    SELECT raise(ABORT, 'UPDATE of "subject_keys" is refused: a destroyed key does not come back');
END;
