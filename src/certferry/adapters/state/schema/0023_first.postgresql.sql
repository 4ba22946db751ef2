-- The first schema, for PostgreSQL. The script for SQLite has the same tables (0023_first.sqlite.sql).
--
-- A moment is text, RFC 3339 in UTC with microseconds, so the order of texts is the order of moments. COLLATE
-- "C" orders text by its bytes, as SQLite does, in a database of any locale. Names, facts and sentences are
-- JSON. A fingerprint, a digest or a link is SHA-256 in lower-case hex. `sealed_*` is base64 of AES-GCM,
-- bound to its row (sealing.py); `proof` seals nothing, and shows that certferry wrote the row
-- (row_proofs.py).

-- --- The state as a whole

-- The oldest schema whose certferry may go on working here while its host is not upgraded yet: one row. The
-- script of a later schema sets the newest schema of the release before.
CREATE TABLE certferry_schema (
    oldest BIGINT NOT NULL
);

INSERT INTO certferry_schema (oldest) VALUES (23);

-- The check of the state's key: a sealed text that no other key opens. The table has at most one row. After a
-- change of the key, `history_key` is the sealed key of the history's chain, and `changed_*` tells when and
-- on which host.
CREATE TABLE sealing (
    number BIGINT PRIMARY KEY CHECK ((number = 1)),
    sealed_check TEXT COLLATE "C" NOT NULL,
    history_key TEXT COLLATE "C",
    changed_at TEXT COLLATE "C",
    changed_on TEXT COLLATE "C"
);

-- The new place of a moved state, or `from ` and the old place while a move is arriving. A state in use has
-- no row.
CREATE TABLE moved (
    destination TEXT COLLATE "C" NOT NULL,
    at TEXT COLLATE "C" NOT NULL,
    proof TEXT COLLATE "C"
);

-- --- Hosts. A table with rows of single hosts has the host in its key; the host '' owns rows of all hosts.

-- A host that uses the state, as its last run found it. `machine` distinguishes two machines with the same
-- name; `release` is the release of certferry; `clock_ahead` is how many seconds the clock was ahead of the
-- database's clock. A file has one host.
CREATE TABLE host (
    name TEXT COLLATE "C" PRIMARY KEY,
    machine TEXT COLLATE "C",
    release TEXT COLLATE "C",
    seen_at TEXT COLLATE "C",
    clock_ahead BIGINT
);

-- The right to work on a lineage, until a moment of this server's clock. A released lease keeps its row
-- without a holder, because the token of the next holder must be greater.
CREATE TABLE lease (
    lineage TEXT COLLATE "C" PRIMARY KEY,
    token BIGINT NOT NULL,
    holder TEXT COLLATE "C",
    since TEXT COLLATE "C",
    until TEXT COLLATE "C"
);

-- A declaration that a lineage has had: the digest of the content, and when a host first declared this
-- content.
CREATE TABLE declaration (
    lineage TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    first_seen_at TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (lineage, digest)
);

-- The declaration of a lineage on a host now: the digest of the content, since when, and in which file.
CREATE TABLE host_declaration (
    host TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    since TEXT COLLATE "C" NOT NULL,
    file TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (host, lineage)
);

CREATE INDEX host_declaration_of_lineage ON host_declaration (lineage);

-- The moment until which the calls of an account to a service (`name`) are reserved. `account` is the
-- account's label; in a shared state, a digest of the account's keys, because labels differ from file to
-- file.
CREATE TABLE pace (
    account TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    until TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (account, name)
);

-- A text that an adapter keeps about an account between runs, such as the endpoint that answered last. No
-- secrets.
CREATE TABLE account_note (
    host TEXT COLLATE "C" NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    text TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (account, name, host)
);

-- --- Certificates

-- A certificate of a lineage. `number` counts the lineage's certificates. `window_*` and `ask_after` are from
-- the CA's renewal information (RFC 9773): the window, the page with the CA's reason, and when certferry may
-- ask again. `directory` is the CA that issued the certificate. A revocation is stored before the CA is
-- asked; `revocation_answered` tells whether the CA has taken the revocation. `issuer_not_after` is the end
-- of the certificate that signed this certificate.
CREATE TABLE version (
    lineage TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    fullchain_digest TEXT COLLATE "C",
    names TEXT COLLATE "C" NOT NULL,
    common_name TEXT COLLATE "C" NOT NULL,
    serial TEXT COLLATE "C" NOT NULL,
    issuer TEXT COLLATE "C" NOT NULL,
    issuer_not_after TEXT COLLATE "C",
    not_before TEXT COLLATE "C" NOT NULL,
    not_after TEXT COLLATE "C" NOT NULL,
    key_type TEXT COLLATE "C" NOT NULL,
    key_matches BOOLEAN NOT NULL,
    chain_complete BOOLEAN NOT NULL,
    directory TEXT COLLATE "C",
    window_start TEXT COLLATE "C",
    window_end TEXT COLLATE "C",
    window_page TEXT COLLATE "C",
    ask_after TEXT COLLATE "C",
    revoked_at TEXT COLLATE "C",
    revocation_reason TEXT COLLATE "C",
    revocation_answered BOOLEAN,
    saved_at TEXT COLLATE "C" NOT NULL,
    proof TEXT COLLATE "C",
    PRIMARY KEY (lineage, number),
    UNIQUE (lineage, fingerprint)
);

-- The chain and the private key of a version. In a separate table, because every run reads the facts of every
-- version, but the PEM texts only to deploy.
CREATE TABLE version_pem (
    lineage TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    fullchain_pem TEXT COLLATE "C" NOT NULL,
    sealed_privkey_pem TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (lineage, number),
    FOREIGN KEY (lineage, number) REFERENCES version (lineage, number)
);

-- --- Orders at CAs. `directory` is the URL of a CA's directory (RFC 8555 §7.1.1).

-- An account at a CA, without a URL until the CA has registered the account. While the CA changes the
-- account's key, `sealed_next_key_pem` is the next key.
CREATE TABLE acme_account (
    directory TEXT COLLATE "C" PRIMARY KEY,
    url TEXT COLLATE "C",
    sealed_key_pem TEXT COLLATE "C" NOT NULL,
    sealed_next_key_pem TEXT COLLATE "C",
    proof TEXT COLLATE "C"
);

-- The order in progress of a lineage, with the certificate's private key.
CREATE TABLE acme_order (
    lineage TEXT COLLATE "C" PRIMARY KEY,
    directory TEXT COLLATE "C" NOT NULL,
    url TEXT COLLATE "C" NOT NULL,
    names TEXT COLLATE "C" NOT NULL,
    key_type TEXT COLLATE "C",
    sealed_key_pem TEXT COLLATE "C" NOT NULL,
    created_at TEXT COLLATE "C" NOT NULL,
    proof TEXT COLLATE "C"
);

-- A TXT record that certferry created for a proof, to be removed. `handle` is the DNS service's name for the
-- record.
CREATE TABLE challenge_record (
    lineage TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    handle TEXT COLLATE "C",
    created_at TEXT COLLATE "C" NOT NULL,
    proof TEXT COLLATE "C",
    PRIMARY KEY (lineage, name, value)
);

-- The last try to get a certificate for a lineage. `tries` counts the failed tries since the last
-- certificate, `failing_since` is when the CA began to fail, and `rejected_at` when certferry refused the
-- certificate of the CA.
CREATE TABLE issue_try (
    lineage TEXT COLLATE "C" PRIMARY KEY,
    tried_at TEXT COLLATE "C" NOT NULL,
    tries BIGINT NOT NULL DEFAULT 0,
    failing_since TEXT COLLATE "C",
    rejected_at TEXT COLLATE "C"
);

-- An order that counts against a CA's rate limits, stored before the CA is asked. `names` is a sorted list. A
-- lineage has at most one order that is neither issued nor given up.
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

-- A proof of a name that a CA refused.
CREATE TABLE failed_proof (
    directory TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    failed_at TEXT COLLATE "C" NOT NULL
);

CREATE INDEX failed_proof_of_name ON failed_proof (directory, name);

-- A CA's request to wait with orders of some names, or with all orders (`for_all`): when the CA asked, and
-- until when.
CREATE TABLE hold (
    directory TEXT COLLATE "C" NOT NULL,
    names TEXT COLLATE "C" NOT NULL,
    told_at TEXT COLLATE "C" NOT NULL,
    until TEXT COLLATE "C" NOT NULL,
    for_all BOOLEAN NOT NULL,
    PRIMARY KEY (directory, names)
);

-- --- Places: the domains of targets, and receivers

-- A copy of a certificate at a target, put there by certferry. If the target refused to remove the copy, the
-- copy counts as used until `in_use_until`.
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

-- How far a certificate has come at a place. Rows of the targets `files` and `command` belong to a host.
-- `problem_before`, `settings_before` and `worked_before` tell how the target was before the change; `sent`
-- is the accepted settings, `request_id` the target's name for the change. `program_digest` and
-- `fullchain_digest` tell which program a receiver ran, with which chain. `refused_since` is when addresses
-- began to refuse the certificate, `drift` another tool's change, `repairs` when drift was repaired.
CREATE TABLE rollout (
    host TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    domain TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    started_at TEXT COLLATE "C" NOT NULL,
    accepted_at TEXT COLLATE "C",
    verified_at TEXT COLLATE "C",
    failed_at TEXT COLLATE "C",
    attempts BIGINT NOT NULL,
    request_id TEXT COLLATE "C",
    sent TEXT COLLATE "C",
    problem_before TEXT COLLATE "C",
    settings_before TEXT COLLATE "C",
    worked_before BOOLEAN NOT NULL,
    program_digest TEXT COLLATE "C",
    fullchain_digest TEXT COLLATE "C",
    refused_since TEXT COLLATE "C",
    drift TEXT COLLATE "C",
    repairs TEXT COLLATE "C" NOT NULL,
    proof TEXT COLLATE "C",
    PRIMARY KEY (lineage, target, domain, host)
);

-- A certificate that must not be bound to a domain again: after a rollback, by an operator (`by_hand`) or by
-- a run.
CREATE TABLE withdrawal (
    lineage TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    domain TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    withdrawn_at TEXT COLLATE "C" NOT NULL,
    by_hand BOOLEAN NOT NULL,
    proof TEXT COLLATE "C",
    PRIMARY KEY (lineage, target, domain, fingerprint)
);

-- The last observation of a place: whether the place had its certificate, since when, which of the lineage's
-- certificates, the first end among other certificates there, whether the target holds a copy of the certificate,
-- how many addresses answered, which of the addresses present another certificate (`lagging`, JSON), and whether
-- visitors get no certificate at all.
CREATE TABLE sighting (
    host TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    domain TEXT COLLATE "C" NOT NULL,
    served BOOLEAN NOT NULL,
    since TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C",
    other_until TEXT COLLATE "C",
    uploaded BOOLEAN NOT NULL,
    answered BIGINT NOT NULL,
    lagging TEXT COLLATE "C" NOT NULL,
    serves_nothing BOOLEAN NOT NULL,
    PRIMARY KEY (lineage, target, domain, host)
);

-- --- Messages

-- A notice: a matter for operators, stored until the matter is over. Its key is the topic and the
-- subject; an empty column means that the subject has no such part.
CREATE TABLE notice (
    topic TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    domain TEXT COLLATE "C" NOT NULL,
    channel TEXT COLLATE "C" NOT NULL,
    host TEXT COLLATE "C" NOT NULL,
    logged TEXT COLLATE "C" NOT NULL,
    watch TEXT COLLATE "C" NOT NULL,
    since TEXT COLLATE "C" NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    message TEXT COLLATE "C" NOT NULL,
    hint TEXT COLLATE "C",
    deadline TEXT COLLATE "C",
    PRIMARY KEY (topic, lineage, target, domain, channel, host, logged, watch)
);

-- A notice that was sent, or is about to be sent, to the channel `name`, and when. A run stores the row
-- before sending the message, and deletes the row if the service refuses the message.
CREATE TABLE told (
    name TEXT COLLATE "C" NOT NULL,
    topic TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    domain TEXT COLLATE "C" NOT NULL,
    channel TEXT COLLATE "C" NOT NULL,
    host TEXT COLLATE "C" NOT NULL,
    logged TEXT COLLATE "C" NOT NULL,
    watch TEXT COLLATE "C" NOT NULL,
    since TEXT COLLATE "C" NOT NULL,
    at TEXT COLLATE "C" NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (name, topic, lineage, target, domain, channel, host, logged, watch)
);

-- A channel: when its last messages were sent (a list), until when its service asked to wait, and why the
-- service refuses messages.
CREATE TABLE channel (
    name TEXT COLLATE "C" PRIMARY KEY,
    sent TEXT COLLATE "C" NOT NULL,
    again_at TEXT COLLATE "C",
    refused_since TEXT COLLATE "C",
    problem TEXT COLLATE "C",
    hint TEXT COLLATE "C"
);

-- --- Public logs (Certificate Transparency)

-- A digest by which certferry recognises an own certificate in public logs: SHA-256 of the public key of an
-- order or a certificate, or of a certificate's TBSCertificate without SCTs. The row of an order stays even if
-- the CA's certificate never came.
CREATE TABLE own_digest (
    digest TEXT COLLATE "C" PRIMARY KEY,
    proof TEXT COLLATE "C"
);

-- How far the list of a registered domain's certificates in public logs has been read. `cursor` is the service's id of the last
-- certificate read, `baseline_at` when the first look ended, `looked_at` when a look last reached the end of the
-- list, `again_at` until when the service asked to wait, `problem` why the last look failed (JSON), and
-- `left_out` how many certificates were too many to store.
CREATE TABLE watched_domain (
    domain TEXT COLLATE "C" PRIMARY KEY,
    since TEXT COLLATE "C" NOT NULL,
    cursor TEXT COLLATE "C" NOT NULL,
    baseline_at TEXT COLLATE "C",
    looked_at TEXT COLLATE "C",
    tried_at TEXT COLLATE "C",
    again_at TEXT COLLATE "C",
    problem TEXT COLLATE "C",
    left_out BIGINT NOT NULL
);

-- A certificate for names at or below `domain` that certferry did not order, until the certificate expires.
-- `identity` is `tbs_digest`, or `id:` and the service's id. Of the first look (`is_baseline`), no certificate
-- raises an alarm. `other_names` counts the names left out; `is_cut` tells whether some are at or below
-- `domain`.
CREATE TABLE found_certificate (
    domain TEXT COLLATE "C" NOT NULL,
    identity TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    names TEXT COLLATE "C" NOT NULL,
    issuer TEXT COLLATE "C" NOT NULL,
    issuer_name TEXT COLLATE "C" NOT NULL,
    not_before TEXT COLLATE "C",
    not_after TEXT COLLATE "C",
    key_digest TEXT COLLATE "C" NOT NULL,
    tbs_digest TEXT COLLATE "C" NOT NULL,
    link TEXT COLLATE "C" NOT NULL,
    is_revoked BOOLEAN NOT NULL,
    found_at TEXT COLLATE "C" NOT NULL,
    is_baseline BOOLEAN NOT NULL,
    other_names BIGINT NOT NULL,
    is_cut BOOLEAN NOT NULL,
    PRIMARY KEY (domain, identity)
);

-- The last look of the certferry host `host` at a host of [[watch]]. `since` is since when the watched host
-- has had a problem, or has had none; the worst problem is in `code`, `message`, `hint` and `severity`, and
-- `more` counts the others. `fingerprint` and the columns after it are facts of the presented certificate that
-- ends first.
CREATE TABLE watched_host (
    name TEXT COLLATE "C" NOT NULL,
    port BIGINT NOT NULL,
    host TEXT COLLATE "C" NOT NULL,
    watch TEXT COLLATE "C" NOT NULL,
    looked_at TEXT COLLATE "C" NOT NULL,
    since TEXT COLLATE "C" NOT NULL,
    code TEXT COLLATE "C",
    message TEXT COLLATE "C",
    hint TEXT COLLATE "C",
    severity TEXT COLLATE "C",
    more BIGINT NOT NULL,
    addresses BIGINT NOT NULL,
    valid BIGINT NOT NULL,
    is_silent BOOLEAN NOT NULL,
    fingerprint TEXT COLLATE "C",
    issuer TEXT COLLATE "C" NOT NULL,
    not_before TEXT COLLATE "C",
    not_after TEXT COLLATE "C",
    PRIMARY KEY (name, port, host)
);

-- --- Runs. move.py copies tables in the order of their names: a table's name follows the name of the table referred to.

-- A run that began and has not ended yet. While the process lives, a lease of the same number is held; a row
-- without its lease belongs to a killed run.
CREATE TABLE begun_run (
    host TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    began_at TEXT COLLATE "C" NOT NULL,
    machine TEXT COLLATE "C" NOT NULL,
    pid BIGINT NOT NULL,
    PRIMARY KEY (host, number)
);

-- When the last run on a host ended, and when the last run without a failure ended.
CREATE TABLE last_run (
    host TEXT COLLATE "C" PRIMARY KEY,
    ended_at TEXT COLLATE "C" NOT NULL,
    succeeded_at TEXT COLLATE "C"
);

-- A run, who started it, and from where. `names` is [] for a run over all lineages, `plan` the digest of a
-- confirmed plan, `number` the row of begun_run. The same `request` starts one run only. `done` of `count`
-- certificates are done. A run that was killed has no end.
CREATE TABLE run (
    id TEXT COLLATE "C" PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    who TEXT COLLATE "C" NOT NULL,
    host TEXT COLLATE "C" NOT NULL,
    started_at TEXT COLLATE "C" NOT NULL,
    names TEXT COLLATE "C" NOT NULL,
    plan TEXT COLLATE "C",
    number BIGINT,
    done BIGINT,
    count BIGINT,
    state TEXT COLLATE "C" NOT NULL,
    ended_at TEXT COLLATE "C",
    request TEXT COLLATE "C",
    UNIQUE (request)
);

CREATE INDEX run_in_order ON run (started_at, id);
CREATE INDEX run_of_process ON run (host, number);

-- An event of a run, such as the end of a step.
CREATE TABLE run_event (
    run TEXT COLLATE "C" NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    at TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    event TEXT COLLATE "C" NOT NULL,
    text TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C",
    target TEXT COLLATE "C",
    domain TEXT COLLATE "C",
    PRIMARY KEY (run, number)
);

-- The document that a run printed at its end, as compressed JSON.
CREATE TABLE run_report (
    run TEXT COLLATE "C" PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
    documents TEXT COLLATE "C" NOT NULL
);

-- --- The console. The secret of a link, a cookie or a token is stored as a digest only.

-- A user of the console. `id` is the name in lower case, because anna and Anna are one user; `password` is a
-- hash (Argon2id), absent until the user has chosen a password.
CREATE TABLE console_user (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C" NOT NULL,
    made_at TEXT COLLATE "C" NOT NULL,
    password TEXT COLLATE "C",
    password_at TEXT COLLATE "C",
    language TEXT COLLATE "C",
    seen_at TEXT COLLATE "C",
    proof TEXT COLLATE "C"
);

-- A link with which a user chooses a password, once.
CREATE TABLE console_user_link (
    user_id TEXT COLLATE "C" PRIMARY KEY REFERENCES console_user (id) ON DELETE CASCADE,
    digest TEXT COLLATE "C" NOT NULL,
    expires_at TEXT COLLATE "C" NOT NULL,
    proof TEXT COLLATE "C",
    UNIQUE (digest)
);

-- A browser in which a user is logged in.
CREATE TABLE console_user_session (
    digest TEXT COLLATE "C" PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES console_user (id) ON DELETE CASCADE,
    began_at TEXT COLLATE "C" NOT NULL,
    seen_at TEXT COLLATE "C" NOT NULL,
    address TEXT COLLATE "C" NOT NULL,
    browser TEXT COLLATE "C" NOT NULL,
    proof TEXT COLLATE "C"
);

CREATE INDEX console_user_session_of_user ON console_user_session (user_id);

-- A token for the API. `begins` is the first characters, by which operators recognise the token.
CREATE TABLE console_token (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    begins TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C" NOT NULL,
    made_at TEXT COLLATE "C" NOT NULL,
    expires_at TEXT COLLATE "C",
    used_at TEXT COLLATE "C",
    proof TEXT COLLATE "C",
    UNIQUE (digest)
);

-- Failed logins from an address or for a name, counted by the minute: a flood of failures fills no disk.
CREATE TABLE console_guess (
    whose TEXT COLLATE "C" NOT NULL,
    minute TEXT COLLATE "C" NOT NULL,
    guesses BIGINT NOT NULL,
    PRIMARY KEY (whose, minute)
);

-- --- The history

-- An event, kept for ever. `link` seals the entry and the entry of the same lineage before it, so a lineage's
-- entries are a chain (history_chain.py).
CREATE TABLE history (
    number BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    at TEXT COLLATE "C" NOT NULL,
    lineage TEXT COLLATE "C" NOT NULL,
    event TEXT COLLATE "C" NOT NULL,
    who TEXT COLLATE "C" NOT NULL,
    host TEXT COLLATE "C",
    facts TEXT COLLATE "C" NOT NULL,
    link TEXT COLLATE "C"
);

-- Every index ends with the number, because the history is read newest first. With an index of moments, the
-- database would sort all entries of a long time to find the newest hundred. The last index has the entries
-- that every run reads (lasting.py).
CREATE INDEX history_of_lineage ON history (lineage, number);
CREATE INDEX history_of_host ON history (host, number);
CREATE INDEX history_of_person ON history (who, number);
CREATE INDEX history_that_lasts ON history (lineage, number)
    WHERE event IN ('revoked', 'rolled back', 'rollback refused');

-- The end of a lineage's chain: how many entries, and the last link.
CREATE TABLE history_head (
    lineage TEXT COLLATE "C" PRIMARY KEY,
    entries BIGINT NOT NULL,
    link TEXT COLLATE "C" NOT NULL
);

-- The database refuses to change or remove an entry of the history.
CREATE FUNCTION history_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'history is never changed and never removed';
END
$$;

CREATE TRIGGER history_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON history
    FOR EACH STATEMENT EXECUTE FUNCTION history_stays();
