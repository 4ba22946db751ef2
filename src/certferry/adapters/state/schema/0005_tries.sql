-- When a target took a change, what it said of the domain before, and when a try failed for good:
-- what a run would otherwise have to keep in its memory. `attempts` and `last_error` are not used.

ALTER TABLE rollout ADD COLUMN accepted_at TEXT;

ALTER TABLE rollout ADD COLUMN problem_before TEXT;

ALTER TABLE rollout ADD COLUMN failed_at TEXT;

-- What was written before was written when the target had taken it.

UPDATE rollout SET accepted_at = started_at WHERE verified_at IS NULL;

-- When a certificate was last ordered or adopted for a lineage, whatever came of it.

CREATE TABLE issue_try (
    lineage TEXT PRIMARY KEY,
    tried_at TEXT NOT NULL
);
