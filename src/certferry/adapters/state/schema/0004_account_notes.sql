-- What an adapter remembers of an account between runs, by the account's label: which host and
-- scheme Qiniu took last, how many requests DNSPod has been sent. No secrets.

CREATE TABLE account_note (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (account, name)
);

-- The settings that a domain showed before it was changed, as JSON: what was not to change is
-- compared with them afterwards. NULL in what was written before.

ALTER TABLE rollout ADD COLUMN settings_before TEXT;
