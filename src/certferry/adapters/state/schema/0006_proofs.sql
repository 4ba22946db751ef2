-- When what a CA gave was not what was ordered: NULL when the last try ended otherwise.

ALTER TABLE issue_try ADD COLUMN rejected_at TEXT;

-- That an upload was written here: nothing, sealed with the key and bound to the row. NULL in what
-- was written before, which then counts as unknown: a copy is found by its mark.

ALTER TABLE upload ADD COLUMN proof TEXT;
