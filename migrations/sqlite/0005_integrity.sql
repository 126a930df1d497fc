-- Evidence against tampering: the Merkle tree over the log (RFC 6962, leaf of position n at index n - 1). It can be made
-- again from the log; what it is worth comes from the signed checkpoints that lie outside of this database.

-- How the tree stands, and who lets it grow: one process at a time, by a lease.
CREATE TABLE merkle_tree (
    partition   INTEGER NOT NULL PRIMARY KEY,
    size        INTEGER NOT NULL DEFAULT 0,
    -- How often an operator has accepted that the log went back: part of the origin of checkpoints.
    acceptances INTEGER NOT NULL DEFAULT 0,
    checkpoint  TEXT,
    owner       BLOB,
    epoch       INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER
) STRICT;
INSERT INTO merkle_tree (partition) VALUES (0);

-- Up to 256 neighbouring hashes of every eighth level of the tree, 32 bytes each.
CREATE TABLE merkle_tiles (
    partition INTEGER NOT NULL,
    level     INTEGER NOT NULL,
    tile      INTEGER NOT NULL,
    hashes    BLOB    NOT NULL,
    PRIMARY KEY (partition, level, tile)
) STRICT;
