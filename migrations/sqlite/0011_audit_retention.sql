-- Lines of the audit may leave when they are old enough, if an operator has set so, and never without a trace: what is
-- removed is announced here first, and an announcement stays for ever.
CREATE TABLE audit_prunings (
    partition INTEGER NOT NULL,
    -- Lines from before this instant may be removed, and no others.
    before    INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    PRIMARY KEY (partition, before)
) STRICT, WITHOUT ROWID;
-- By the clock of the machine and not of whoever asks: the traces of the last days cannot be announced away.
CREATE TRIGGER audit_prunings_spare_a_week BEFORE INSERT ON audit_prunings
WHEN new.before > (unixepoch() - 7 * 86400) * 1000000
    OR EXISTS (SELECT 1 FROM audit_prunings p WHERE p.partition = new.partition AND p.before = new.before)
BEGIN
    SELECT raise(ABORT, 'INSERT into "audit_prunings" is refused: the last 7 days stay, and nothing is announced twice');
END;
CREATE TRIGGER audit_prunings_no_update BEFORE UPDATE ON audit_prunings BEGIN
    SELECT raise(ABORT, 'UPDATE of "audit_prunings" is refused: it is append-only, nothing in it is changed or deleted');
END;
CREATE TRIGGER audit_prunings_no_delete BEFORE DELETE ON audit_prunings BEGIN
    SELECT raise(ABORT, 'DELETE of "audit_prunings" is refused: it is append-only, nothing in it is changed or deleted');
END;

DROP TRIGGER audit_no_delete;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
WHEN old.at >= coalesce((SELECT max(p.before) FROM audit_prunings p WHERE p.partition = old.partition), old.at)
BEGIN
    SELECT raise(ABORT, 'DELETE of "audit" is refused: only what was announced in "audit_prunings" leaves');
END;
-- INSERT OR REPLACE removes without asking the trigger above.
CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit a WHERE a.partition = new.partition AND a.id = new.id)
BEGIN
    SELECT raise(ABORT, 'UPDATE of "audit" is refused: it is append-only, nothing in it is changed or deleted');
END;
