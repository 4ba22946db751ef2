-- What was written before there were digests gets them from what was kept, so that another chain is
-- seen as one from the first run on. A command was given its fullchain from the very same row. Which
-- program was run then nobody knows; a later run takes the one that it finds.
--
-- `sha256_hex` is given to SQLite by `migrations`; PostgreSQL can define it with its own `sha256`.

UPDATE version SET fullchain_digest = (
    SELECT sha256_hex(version_pem.fullchain_pem) FROM version_pem
    WHERE version_pem.lineage = version.lineage AND version_pem.number = version.number
) WHERE fullchain_digest IS NULL;

UPDATE rollout SET fullchain_digest = (
    SELECT version.fullchain_digest FROM version
    WHERE version.lineage = rollout.lineage AND version.fingerprint = rollout.fingerprint
) WHERE fullchain_digest IS NULL AND target = 'command';
