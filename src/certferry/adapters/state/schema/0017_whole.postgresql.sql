-- The schema of number 17 as PostgreSQL has it from the start: what 0001 to 0017 lead to. Later numbers are
-- the same script for every database.
--
-- Text is compared and sorted by its bytes, as SQLite does it, whatever the database's locale is: COLLATE "C".
-- Moments are RFC 3339 text in UTC with microseconds. Names and facts are JSON. `sealed_*` is base64 of AES-GCM,
-- bound to the row it belongs to. What belongs to a host has its name in its key; '' is no host's.

-- The oldest schema whose certferry may go on working here, while its host is not upgraded yet.
CREATE TABLE certferry_schema (
    oldest BIGINT NOT NULL
);

INSERT INTO certferry_schema (oldest) VALUES (17);

CREATE TABLE sealing (
    number BIGINT PRIMARY KEY CHECK (number = 1),
    sealed_check TEXT COLLATE "C" NOT NULL
);

-- A row stays when its lease is given back: the next holder's token must be greater. `until` is by this
-- server's clock.
CREATE TABLE lease (
    lineage TEXT COLLATE "C" PRIMARY KEY,
    token BIGINT NOT NULL,
    holder TEXT COLLATE "C",
    since TEXT COLLATE "C",
    until TEXT COLLATE "C"
);

CREATE TABLE version (
    lineage TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    names TEXT COLLATE "C" NOT NULL,
    common_name TEXT COLLATE "C" NOT NULL,
    serial TEXT COLLATE "C" NOT NULL,
    issuer TEXT COLLATE "C" NOT NULL,
    not_before TEXT COLLATE "C" NOT NULL,
    not_after TEXT COLLATE "C" NOT NULL,
    key_type TEXT COLLATE "C" NOT NULL,
    key_matches BOOLEAN NOT NULL,
    chain_complete BOOLEAN NOT NULL,
    window_start TEXT COLLATE "C",
    window_end TEXT COLLATE "C",
    saved_at TEXT COLLATE "C" NOT NULL,
    fullchain_digest TEXT COLLATE "C",
    window_page TEXT COLLATE "C",
    ask_after TEXT COLLATE "C",
    directory TEXT COLLATE "C",
    revoked_at TEXT COLLATE "C",
    revocation_reason TEXT COLLATE "C",
    revocation_answered BOOLEAN,
    issuer_not_after TEXT COLLATE "C",
    PRIMARY KEY (lineage, number),
    UNIQUE (lineage, fingerprint)
);

CREATE TABLE version_pem (
    lineage TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    fullchain_pem TEXT COLLATE "C" NOT NULL,
    sealed_privkey_pem TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (lineage, number),
    FOREIGN KEY (lineage, number) REFERENCES version (lineage, number)
);

CREATE TABLE acme_account (
    directory TEXT COLLATE "C" PRIMARY KEY,
    url TEXT COLLATE "C",
    sealed_key_pem TEXT COLLATE "C" NOT NULL,
    sealed_next_key_pem TEXT COLLATE "C"
);

CREATE TABLE acme_order (
    lineage TEXT COLLATE "C" PRIMARY KEY,
    directory TEXT COLLATE "C" NOT NULL,
    url TEXT COLLATE "C" NOT NULL,
    names TEXT COLLATE "C" NOT NULL,
    sealed_key_pem TEXT COLLATE "C" NOT NULL,
    created_at TEXT COLLATE "C" NOT NULL,
    key_type TEXT COLLATE "C"
);

CREATE TABLE challenge_record (
    lineage TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    handle TEXT COLLATE "C",
    created_at TEXT COLLATE "C" NOT NULL,
    proof TEXT COLLATE "C",
    PRIMARY KEY (lineage, name, value)
);

CREATE TABLE upload (
    target TEXT COLLATE "C" NOT NULL,
    remote_id TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    label TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    uploaded_at TEXT COLLATE "C" NOT NULL,
    in_use_until TEXT COLLATE "C",
    proof TEXT COLLATE "C",
    PRIMARY KEY (target, remote_id)
);

CREATE INDEX upload_of_lineage ON upload (lineage, target);

CREATE TABLE issue_try (
    lineage TEXT COLLATE "C" PRIMARY KEY,
    tried_at TEXT COLLATE "C" NOT NULL,
    rejected_at TEXT COLLATE "C",
    tries BIGINT NOT NULL DEFAULT 0,
    failing_since TEXT COLLATE "C"
);

CREATE TABLE notice (
    topic TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    domain TEXT COLLATE "C" NOT NULL,
    channel TEXT COLLATE "C" NOT NULL,
    since TEXT COLLATE "C" NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    message TEXT COLLATE "C" NOT NULL,
    hint TEXT COLLATE "C",
    deadline TEXT COLLATE "C",
    PRIMARY KEY (topic, lineage, target, domain, channel)
);

CREATE TABLE told (
    name TEXT COLLATE "C" NOT NULL,
    topic TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    domain TEXT COLLATE "C" NOT NULL,
    channel TEXT COLLATE "C" NOT NULL,
    since TEXT COLLATE "C" NOT NULL,
    at TEXT COLLATE "C" NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (name, topic, lineage, target, domain, channel)
);

CREATE TABLE channel (
    name TEXT COLLATE "C" PRIMARY KEY,
    sent TEXT COLLATE "C" NOT NULL,
    again_at TEXT COLLATE "C",
    refused_since TEXT COLLATE "C",
    problem TEXT COLLATE "C",
    hint TEXT COLLATE "C"
);

CREATE TABLE failed_proof (
    directory TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    failed_at TEXT COLLATE "C" NOT NULL
);

CREATE INDEX failed_proof_of_name ON failed_proof (directory, name);

CREATE TABLE host (
    name TEXT COLLATE "C" PRIMARY KEY
);

CREATE TABLE rollout (
    host TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    domain TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    started_at TEXT COLLATE "C" NOT NULL,
    accepted_at TEXT COLLATE "C",
    problem_before TEXT COLLATE "C",
    failed_at TEXT COLLATE "C",
    verified_at TEXT COLLATE "C",
    sent TEXT COLLATE "C",
    program_digest TEXT COLLATE "C",
    fullchain_digest TEXT COLLATE "C",
    settings_before TEXT COLLATE "C",
    request_id TEXT COLLATE "C",
    worked_before BOOLEAN NOT NULL,
    refused_since TEXT COLLATE "C",
    drift TEXT COLLATE "C",
    repairs TEXT COLLATE "C" NOT NULL,
    attempts BIGINT NOT NULL,
    PRIMARY KEY (lineage, target, domain, host)
);

CREATE TABLE sighting (
    host TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    domain TEXT COLLATE "C" NOT NULL,
    served BOOLEAN NOT NULL,
    since TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C",
    PRIMARY KEY (lineage, target, domain, host)
);

CREATE TABLE account_note (
    host TEXT COLLATE "C" NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    text TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (account, name, host)
);

CREATE TABLE last_run (
    host TEXT COLLATE "C" PRIMARY KEY,
    ended_at TEXT COLLATE "C" NOT NULL,
    succeeded_at TEXT COLLATE "C"
);

CREATE TABLE begun_run (
    host TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    began_at TEXT COLLATE "C" NOT NULL,
    machine TEXT COLLATE "C" NOT NULL,
    pid BIGINT NOT NULL,
    PRIMARY KEY (host, number)
);

CREATE TABLE withdrawal (
    lineage TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    domain TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    withdrawn_at TEXT COLLATE "C" NOT NULL,
    by_hand BOOLEAN NOT NULL,
    PRIMARY KEY (lineage, target, domain, fingerprint)
);

CREATE TABLE hold (
    directory TEXT COLLATE "C" NOT NULL,
    names TEXT COLLATE "C" NOT NULL,
    told_at TEXT COLLATE "C" NOT NULL,
    until TEXT COLLATE "C" NOT NULL,
    for_all BOOLEAN NOT NULL,
    PRIMARY KEY (directory, names)
);

CREATE TABLE issuance (
    number BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    directory TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    names TEXT COLLATE "C" NOT NULL,
    renews BOOLEAN NOT NULL,
    ordered_at TEXT COLLATE "C" NOT NULL,
    issued_at TEXT COLLATE "C",
    given_up BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE INDEX issuance_of_lineage ON issuance (lineage);

CREATE INDEX issuance_at_directory ON issuance (directory, ordered_at);

CREATE TABLE history (
    number BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    at TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    event TEXT COLLATE "C" NOT NULL,
    who TEXT COLLATE "C" NOT NULL,
    facts TEXT COLLATE "C" NOT NULL
);

CREATE INDEX history_of_lineage ON history (lineage, number);

-- What happened is never changed and never removed, by any program.

CREATE FUNCTION history_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'history is never changed and never removed';
END
$$;

CREATE TRIGGER history_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON history
    FOR EACH STATEMENT EXECUTE FUNCTION history_stays();
