-- The runs that have begun and not ended yet. A lock of the same number is held while a run's
-- process lives, so that one that is left over tells of a run that was killed.

CREATE TABLE begun_run (
    number INTEGER PRIMARY KEY,
    began_at TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL
);
