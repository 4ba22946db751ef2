-- What was written before is believed this once: rows that are changed from here on have no proof.
-- `proof_of` is given to SQLite by `SqliteDatabase`.

UPDATE challenge_record SET proof = proof_of('challenge', lineage, name, value);
