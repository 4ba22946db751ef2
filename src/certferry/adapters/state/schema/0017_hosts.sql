-- The hosts that share the state. A file has one, whatever the machine is called later.

CREATE TABLE host (
    name TEXT PRIMARY KEY
);

-- What belongs to a host has its name in its key: how far its receivers are (the targets `files` and
-- `command`) and what they were last seen to have, its notes, its last run, its runs in progress. The
-- host is '' in rows that belong to none. What was written before is given to the host that runs this
-- (`database._give_to_host`).
--
-- What is true or false is BOOLEAN from here on. A column that is an INTEGER PRIMARY KEY by itself is
-- numbered by the database (PostgreSQL: an identity).

CREATE TABLE new_rollout (
    host TEXT NOT NULL,
    lineage TEXT NOT NULL,
    target TEXT NOT NULL,
    domain TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    started_at TEXT NOT NULL,
    accepted_at TEXT,
    problem_before TEXT,
    failed_at TEXT,
    verified_at TEXT,
    sent TEXT,
    program_digest TEXT,
    fullchain_digest TEXT,
    settings_before TEXT,
    request_id TEXT,
    worked_before BOOLEAN NOT NULL,
    refused_since TEXT,
    drift TEXT,
    repairs TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (lineage, target, domain, host)
);

INSERT INTO new_rollout
SELECT '', lineage, target, domain, fingerprint, started_at, accepted_at, problem_before, failed_at,
    verified_at, sent, program_digest, fullchain_digest, settings_before, request_id,
    worked_before <> 0, refused_since, drift, repairs, attempts
FROM rollout;

DROP TABLE rollout;

ALTER TABLE new_rollout RENAME TO rollout;

CREATE TABLE new_sighting (
    host TEXT NOT NULL,
    lineage TEXT NOT NULL,
    target TEXT NOT NULL,
    domain TEXT NOT NULL,
    served BOOLEAN NOT NULL,
    since TEXT NOT NULL,
    fingerprint TEXT,
    PRIMARY KEY (lineage, target, domain, host)
);

INSERT INTO new_sighting
SELECT '', lineage, target, domain, served, since, fingerprint FROM sighting;

DROP TABLE sighting;

ALTER TABLE new_sighting RENAME TO sighting;

CREATE TABLE new_account_note (
    host TEXT NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (account, name, host)
);

INSERT INTO new_account_note SELECT '', account, name, text FROM account_note;

DROP TABLE account_note;

ALTER TABLE new_account_note RENAME TO account_note;

CREATE TABLE new_last_run (
    host TEXT PRIMARY KEY,
    ended_at TEXT NOT NULL,
    succeeded_at TEXT
);

INSERT INTO new_last_run SELECT '', ended_at, succeeded_at FROM last_run;

DROP TABLE last_run;

ALTER TABLE new_last_run RENAME TO last_run;

-- `machine` is what the machine was called when the run began.

CREATE TABLE new_begun_run (
    host TEXT NOT NULL,
    number INTEGER NOT NULL,
    began_at TEXT NOT NULL,
    machine TEXT NOT NULL,
    pid INTEGER NOT NULL,
    PRIMARY KEY (host, number)
);

INSERT INTO new_begun_run SELECT '', number, began_at, host, pid FROM begun_run;

DROP TABLE begun_run;

ALTER TABLE new_begun_run RENAME TO begun_run;

CREATE TABLE new_withdrawal (
    lineage TEXT NOT NULL,
    target TEXT NOT NULL,
    domain TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    withdrawn_at TEXT NOT NULL,
    by_hand BOOLEAN NOT NULL,
    PRIMARY KEY (lineage, target, domain, fingerprint)
);

INSERT INTO new_withdrawal
SELECT lineage, target, domain, fingerprint, withdrawn_at, by_hand <> 0 FROM withdrawal;

DROP TABLE withdrawal;

ALTER TABLE new_withdrawal RENAME TO withdrawal;

CREATE TABLE new_hold (
    directory TEXT NOT NULL,
    names TEXT NOT NULL,
    told_at TEXT NOT NULL,
    until TEXT NOT NULL,
    for_all BOOLEAN NOT NULL,
    PRIMARY KEY (directory, names)
);

INSERT INTO new_hold SELECT directory, names, told_at, until, for_all <> 0 FROM hold;

DROP TABLE hold;

ALTER TABLE new_hold RENAME TO hold;

CREATE TABLE new_issuance (
    number INTEGER PRIMARY KEY,
    directory TEXT NOT NULL,
    lineage TEXT NOT NULL,
    names TEXT NOT NULL,
    renews BOOLEAN NOT NULL,
    ordered_at TEXT NOT NULL,
    issued_at TEXT,
    given_up BOOLEAN NOT NULL DEFAULT FALSE
);

INSERT INTO new_issuance
SELECT number, directory, lineage, names, renews <> 0, ordered_at, issued_at, given_up <> 0
FROM issuance;

DROP TABLE issuance;

ALTER TABLE new_issuance RENAME TO issuance;

CREATE INDEX issuance_of_lineage ON issuance (lineage);

CREATE INDEX issuance_at_directory ON issuance (directory, ordered_at);

CREATE TABLE new_history (
    number INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    lineage TEXT NOT NULL,
    event TEXT NOT NULL,
    who TEXT NOT NULL,
    facts TEXT NOT NULL
);

INSERT INTO new_history SELECT number, at, lineage, event, who, facts FROM history;

DROP TABLE history;

ALTER TABLE new_history RENAME TO history;

CREATE INDEX history_of_lineage ON history (lineage, number);
