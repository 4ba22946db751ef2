-- Whether the CA has taken a revocation: it is written down before the CA is asked. NULL for those of
-- earlier versions, which wrote them down afterwards. Until when the issuer certificate that stands
-- behind the leaf is valid; NULL where there is none. What was kept before gets it from its own
-- fullchain (`database._add_issuer_ends`).

ALTER TABLE version ADD COLUMN revocation_answered BOOLEAN;

ALTER TABLE version ADD COLUMN issuer_not_after TEXT;
