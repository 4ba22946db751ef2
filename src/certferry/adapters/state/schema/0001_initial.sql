-- Lineages, accounts, orders, challenge records, uploads, rollouts, leases, history.
--
-- Plain SQL that SQLite and PostgreSQL both take; what only one of them understands stands in
-- the file of the same number with its name in it (0001_initial.sqlite.sql).
--
-- Moments are RFC 3339 text in UTC with microseconds, so that they sort as they follow one another.
-- Names and facts are JSON. `sealed_*` is base64 of AES-GCM, bound to the row it belongs to.

CREATE TABLE sealing (
    number INTEGER PRIMARY KEY CHECK (number = 1),
    sealed_check TEXT NOT NULL
);

-- A row stays when its lease is given back: the next holder's token must be greater.
CREATE TABLE lease (
    lineage TEXT PRIMARY KEY,
    token BIGINT NOT NULL,
    holder TEXT,
    since TEXT,
    until TEXT
);

CREATE TABLE version (
    lineage TEXT NOT NULL,
    number INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    names TEXT NOT NULL,
    common_name TEXT NOT NULL,
    serial TEXT NOT NULL,
    issuer TEXT NOT NULL,
    not_before TEXT NOT NULL,
    not_after TEXT NOT NULL,
    key_type TEXT NOT NULL,
    key_matches BOOLEAN NOT NULL,
    chain_complete BOOLEAN NOT NULL,
    window_start TEXT,
    window_end TEXT,
    saved_at TEXT NOT NULL,
    PRIMARY KEY (lineage, number),
    UNIQUE (lineage, fingerprint)
);

-- Apart from the facts: those are read by every run, for every lineage; these only to deploy.
CREATE TABLE version_pem (
    lineage TEXT NOT NULL,
    number INTEGER NOT NULL,
    fullchain_pem TEXT NOT NULL,
    sealed_privkey_pem TEXT NOT NULL,
    PRIMARY KEY (lineage, number),
    FOREIGN KEY (lineage, number) REFERENCES version (lineage, number)
);

CREATE TABLE acme_account (
    directory TEXT PRIMARY KEY,
    url TEXT,
    sealed_key_pem TEXT NOT NULL
);

CREATE TABLE acme_order (
    lineage TEXT PRIMARY KEY,
    directory TEXT NOT NULL,
    url TEXT NOT NULL,
    names TEXT NOT NULL,
    sealed_key_pem TEXT NOT NULL,
    created_at TEXT NOT NULL
);

CREATE TABLE challenge_record (
    lineage TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    handle TEXT,
    created_at TEXT NOT NULL,
    PRIMARY KEY (lineage, name, value)
);

CREATE TABLE upload (
    target TEXT NOT NULL,
    remote_id TEXT NOT NULL,
    lineage TEXT NOT NULL,
    label TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    uploaded_at TEXT NOT NULL,
    in_use_until TEXT,
    PRIMARY KEY (target, remote_id)
);

CREATE INDEX upload_of_lineage ON upload (lineage, target);

CREATE TABLE rollout (
    lineage TEXT NOT NULL,
    target TEXT NOT NULL,
    domain TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    started_at TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    last_error TEXT,
    verified_at TEXT,
    PRIMARY KEY (lineage, target, domain)
);

CREATE TABLE history (
    number BIGINT PRIMARY KEY,
    at TEXT NOT NULL,
    lineage TEXT NOT NULL,
    event TEXT NOT NULL,
    who TEXT NOT NULL,
    facts TEXT NOT NULL
);

CREATE INDEX history_of_lineage ON history (lineage, number);
