-- Whether the CA has taken a revocation: it is written down before the CA is asked. NULL for those of
-- earlier versions, which wrote them down afterwards.

ALTER TABLE version ADD COLUMN revocation_answered BOOLEAN;
