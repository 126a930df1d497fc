-- Keys of the people that personal members of events tell of, each wrapped by a master key that lies outside the database.
-- A destroyed key leaves its row behind without key: the subject never gets another.
CREATE TABLE subject_keys (
    partition    smallint         NOT NULL,
    subject      text COLLATE "C" NOT NULL,
    key_id       uuid,
    master       text COLLATE "C",
    wrapped      bytea,
    created_at   timestamptz      NOT NULL,
    destroyed_at timestamptz,
    PRIMARY KEY (partition, subject),
    CHECK ((destroyed_at IS NULL) = (wrapped IS NOT NULL)),
    CHECK ((wrapped IS NULL) = (key_id IS NULL) AND (wrapped IS NULL) = (master IS NULL))
);
CREATE INDEX subject_keys_master ON subject_keys (partition, master, subject) WHERE master IS NOT NULL;
CREATE INDEX subject_keys_destroyed ON subject_keys (partition, destroyed_at, subject) WHERE destroyed_at IS NOT NULL;

-- The name of the master key that is current; a digest, no secret.
CREATE TABLE subject_key_master (
    partition smallint         NOT NULL PRIMARY KEY,
    master    text COLLATE "C" NOT NULL
);

CREATE FUNCTION refuse_return_of_subject_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of "subject_keys" is refused: a key is destroyed by an erasure, its row stays, and it does not come back', TG_OP;
END $$;
CREATE TRIGGER subject_keys_no_delete BEFORE DELETE ON subject_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_return_of_subject_key();
CREATE TRIGGER subject_keys_no_return BEFORE UPDATE ON subject_keys
    FOR EACH ROW WHEN (old.destroyed_at IS NOT NULL) EXECUTE FUNCTION refuse_return_of_subject_key();

-- Statistics of the planner are samples of values, and outlive the rows they were taken from: there are none of anything that
-- an erasure removes.
ALTER TABLE subject_keys ALTER COLUMN wrapped SET STATISTICS 0;
ALTER TABLE snapshots ALTER COLUMN state SET STATISTICS 0;
ALTER TABLE view_rows ALTER COLUMN data SET STATISTICS 0;
ALTER TABLE parked_events ALTER COLUMN error SET STATISTICS 0;
