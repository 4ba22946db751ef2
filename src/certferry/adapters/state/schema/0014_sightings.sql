-- Whether each place had the certificate that it is to have when a run last looked, since when, and
-- which of ours it was last seen to have.

CREATE TABLE sighting (
    lineage TEXT NOT NULL,
    target TEXT NOT NULL,
    domain TEXT NOT NULL,
    served BOOLEAN NOT NULL,
    since TEXT NOT NULL,
    fingerprint TEXT,
    PRIMARY KEY (lineage, target, domain)
);
