-- Evidence against tampering: the Merkle tree over the log (RFC 6962, leaf of position n at index n - 1). It can be made
-- again from the log; what it is worth comes from the signed checkpoints that lie outside of this database.

-- How the tree stands, and who lets it grow: one process at a time, by a lease.
CREATE TABLE merkle_tree (
    partition   smallint NOT NULL PRIMARY KEY,
    size        bigint   NOT NULL DEFAULT 0,
    -- How often an operator has accepted that the log went back: part of the origin of checkpoints.
    acceptances bigint   NOT NULL DEFAULT 0,
    checkpoint  text COLLATE "C",
    owner       uuid,
    epoch       bigint   NOT NULL DEFAULT 0,
    lease_until timestamptz
);
INSERT INTO merkle_tree (partition) VALUES (0);

-- Up to 256 neighbouring hashes of every eighth level of the tree, 32 bytes each.
CREATE TABLE merkle_tiles (
    partition smallint NOT NULL,
    level     smallint NOT NULL,
    tile      bigint   NOT NULL,
    hashes    bytea    NOT NULL,
    PRIMARY KEY (partition, level, tile)
);
-- Digests cannot be compressed, and trying costs time.
ALTER TABLE merkle_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;
