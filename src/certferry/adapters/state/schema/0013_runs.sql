-- When the last run ended, and the last in which nothing failed.

CREATE TABLE last_run (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    ended_at TEXT NOT NULL,
    succeeded_at TEXT
);
