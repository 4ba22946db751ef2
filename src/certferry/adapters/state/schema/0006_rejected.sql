-- When what a CA gave was not what was ordered: NULL when the last try ended otherwise.

ALTER TABLE issue_try ADD COLUMN rejected_at TEXT;
