-- What the last change of a domain asked for, as JSON; at a receiver, which program was run with
-- which fullchain. `fullchain_digest` is SHA-256 in lower-case hex: the same leaf may come with other
-- issuers. All are NULL in what was written before, and then nobody knows.

ALTER TABLE version ADD COLUMN fullchain_digest TEXT;

ALTER TABLE rollout ADD COLUMN sent TEXT;

ALTER TABLE rollout ADD COLUMN program_digest TEXT;

ALTER TABLE rollout ADD COLUMN fullchain_digest TEXT;
