-- What the state's key proves beside what it proves since schema 21 (binding.py): deliveries to commands, and that
-- the state was moved. Revocations and withdrawals are found in the history by themselves.

ALTER TABLE rollout ADD COLUMN proof TEXT;
ALTER TABLE moved ADD COLUMN proof TEXT;

CREATE INDEX history_of_what_counts_for_ever ON history (lineage, number)
    WHERE event IN ('revoked', 'rolled back', 'rollback refused');
