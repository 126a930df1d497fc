-- The master key itself, where no file outside of the database is named for it.
ALTER TABLE subject_key_master ADD COLUMN secret TEXT;
