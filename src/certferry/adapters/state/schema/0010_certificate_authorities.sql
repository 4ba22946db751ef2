-- Where a certificate was ordered, and when and why it was revoked. Since when a CA fails, for the
-- next one in the list. The key that an account is to have, while the CA changes it.

ALTER TABLE version ADD COLUMN directory TEXT;

ALTER TABLE version ADD COLUMN revoked_at TEXT;

ALTER TABLE version ADD COLUMN revocation_reason TEXT;

ALTER TABLE issue_try ADD COLUMN failing_since TEXT;

ALTER TABLE acme_account ADD COLUMN sealed_next_key_pem TEXT;
