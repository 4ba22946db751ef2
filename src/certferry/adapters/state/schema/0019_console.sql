-- Runs, each with who started it and from where. `number` is its process's among the runs of its host
-- (`begun_run`), until another run takes that number. A `request` starts one run. `names` is [] for one that
-- was for all. There is no row for how a run died: it has no end, and its process is gone.

CREATE TABLE run (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    who TEXT NOT NULL,
    host TEXT NOT NULL,
    started_at TEXT NOT NULL,
    names TEXT NOT NULL,
    plan TEXT,
    number INTEGER,
    state TEXT NOT NULL,
    ended_at TEXT,
    request TEXT UNIQUE
);

CREATE INDEX run_in_order ON run (started_at, id);

CREATE INDEX run_of_process ON run (host, number);

-- A table is named so that it comes, by name, after the one that it refers to (`move._tables`).

CREATE TABLE run_event (
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    at TEXT NOT NULL,
    lineage TEXT NOT NULL,
    event TEXT NOT NULL,
    text TEXT NOT NULL,
    outcome TEXT,
    target TEXT,
    domain TEXT,
    PRIMARY KEY (run, number)
);

-- What a run printed at its end, by language: JSON, packed.

CREATE TABLE run_report (
    run TEXT PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
    documents TEXT NOT NULL
);

-- Who may open the console. `id` is the name in lower case, since anna is Anna; `password` a hash (Argon2id).

CREATE TABLE console_user (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    made_at TEXT NOT NULL,
    password TEXT,
    password_at TEXT,
    language TEXT,
    seen_at TEXT
);

-- What opens something is stored as its SHA-256 alone: the secret in a link, a session's cookie, a token.

CREATE TABLE console_user_link (
    user_id TEXT PRIMARY KEY REFERENCES console_user (id) ON DELETE CASCADE,
    digest TEXT NOT NULL UNIQUE,
    expires_at TEXT NOT NULL
);

CREATE TABLE console_user_session (
    digest TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES console_user (id) ON DELETE CASCADE,
    began_at TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    address TEXT NOT NULL,
    browser TEXT NOT NULL
);

CREATE INDEX console_session_of_user ON console_user_session (user_id);

CREATE TABLE console_token (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    begins TEXT NOT NULL,
    role TEXT NOT NULL,
    made_at TEXT NOT NULL,
    expires_at TEXT,
    used_at TEXT
);

-- Failed logins of an address or a name, counted by the minute: a flood of them fills no disk.

CREATE TABLE console_guess (
    whose TEXT NOT NULL,
    minute TEXT NOT NULL,
    guesses INTEGER NOT NULL,
    PRIMARY KEY (whose, minute)
);

-- The history is read by host and by person as well, newest first. By time it is read as it stands:
-- an index of moments would have every entry of a long time sorted for the newest hundred.

CREATE INDEX history_of_host ON history (host, number);
CREATE INDEX history_of_person ON history (who, number);
