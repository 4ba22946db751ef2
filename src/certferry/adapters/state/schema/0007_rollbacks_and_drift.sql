-- Of a change that a target took: the target's id of the request, and whether the domain's addresses
-- completed handshakes just before. Since when they refuse the certificate, what another tool
-- changed, as it was last told, and when that was set right (a JSON list of moments).

ALTER TABLE rollout ADD COLUMN request_id TEXT;

ALTER TABLE rollout ADD COLUMN worked_before INTEGER NOT NULL DEFAULT 0;

ALTER TABLE rollout ADD COLUMN refused_since TEXT;

ALTER TABLE rollout ADD COLUMN drift TEXT;

ALTER TABLE rollout ADD COLUMN repairs TEXT NOT NULL DEFAULT '[]';

-- How often a certificate was ordered in vain since one came. `attempts` of a rollout, which the first
-- schema has, counts from here on how often it was tried.

ALTER TABLE issue_try ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;

-- Certificates that are not to be bound to a domain again.

CREATE TABLE withdrawal (
    lineage TEXT NOT NULL,
    target TEXT NOT NULL,
    domain TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    withdrawn_at TEXT NOT NULL,
    by_hand INTEGER NOT NULL,
    PRIMARY KEY (lineage, target, domain, fingerprint)
);
