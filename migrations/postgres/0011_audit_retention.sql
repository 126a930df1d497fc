-- Lines of the audit may leave when they are old enough, if an operator has set so, and never without a trace: what is
-- removed is announced here first, and an announcement stays for ever.
CREATE TABLE audit_prunings (
    partition smallint    NOT NULL,
    -- Lines from before this instant may be removed, and no others.
    before    timestamptz NOT NULL,
    at        timestamptz NOT NULL,
    PRIMARY KEY (partition, before)
);
-- By the clock of the machine and not of whoever asks: the traces of the last days cannot be announced away.
CREATE FUNCTION refuse_recent_pruning() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.before > clock_timestamp() - interval '7 days' THEN
        RAISE EXCEPTION 'INSERT into "audit_prunings" is refused: the last 7 days stay'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER audit_prunings_spare_a_week BEFORE INSERT ON audit_prunings
    FOR EACH ROW EXECUTE FUNCTION refuse_recent_pruning();
CREATE TRIGGER audit_prunings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_prunings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DROP TRIGGER audit_append_only ON audit;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE FUNCTION refuse_unannounced_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF old.at < (SELECT max(p.before) FROM audit_prunings p WHERE p.partition = old.partition) THEN
        RETURN old;
    END IF;
    RAISE EXCEPTION 'DELETE of "audit" is refused: only what was announced in "audit_prunings" leaves'
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION refuse_unannounced_delete();
