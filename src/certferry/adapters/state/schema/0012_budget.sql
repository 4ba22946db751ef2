-- What kind of key an order under way is for; NULL in what was written before, which counts as the
-- declared one.

ALTER TABLE acme_order ADD COLUMN key_type TEXT;

-- Orders that count against a CA's limits, written down before the CA is asked. `names` is a sorted
-- JSON list; at most one order of a lineage has no `issued_at` and is not given up.

CREATE TABLE issuance (
    number BIGINT PRIMARY KEY,
    directory TEXT NOT NULL,
    lineage TEXT NOT NULL,
    names TEXT NOT NULL,
    renews INTEGER NOT NULL,
    ordered_at TEXT NOT NULL,
    issued_at TEXT,
    given_up INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX issuance_of_lineage ON issuance (lineage);

CREATE INDEX issuance_at_directory ON issuance (directory, ordered_at);

-- Names whose proofs the CA did not accept.

CREATE TABLE failed_proof (
    directory TEXT NOT NULL,
    name TEXT NOT NULL,
    failed_at TEXT NOT NULL
);

CREATE INDEX failed_proof_of_name ON failed_proof (directory, name);

-- Until when a CA asked to be left alone, and when it did, by the names that were ordered.

CREATE TABLE hold (
    directory TEXT NOT NULL,
    names TEXT NOT NULL,
    told_at TEXT NOT NULL,
    until TEXT NOT NULL,
    for_all INTEGER NOT NULL,
    PRIMARY KEY (directory, names)
);
