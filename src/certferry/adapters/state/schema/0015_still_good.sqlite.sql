-- What was kept before gets it from its own fullchain. `issuer_end` is given to SQLite by
-- `SqliteDatabase`.

UPDATE version SET issuer_not_after = (
    SELECT issuer_end(version_pem.fullchain_pem) FROM version_pem
    WHERE version_pem.lineage = version.lineage AND version_pem.number = version.number
);
