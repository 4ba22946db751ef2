-- What hosts that share a state know of each other. A file has one host, and the same tables.

-- `machine` tells two machines of one name apart; `release` is the certferry that ran there last;
-- `clock_ahead` is how many seconds its clock was ahead of the database's.

ALTER TABLE host ADD COLUMN machine TEXT;
ALTER TABLE host ADD COLUMN release TEXT;
ALTER TABLE host ADD COLUMN seen_at TEXT;
ALTER TABLE host ADD COLUMN clock_ahead INTEGER;

-- What a lineage was declared as, and when a host first had it like this; what each host has now, by
-- which of its files.

CREATE TABLE declaration (
    lineage TEXT NOT NULL,
    digest TEXT NOT NULL,
    first_seen_at TEXT NOT NULL,
    PRIMARY KEY (lineage, digest)
);

CREATE TABLE host_declaration (
    host TEXT NOT NULL,
    lineage TEXT NOT NULL,
    digest TEXT NOT NULL,
    since TEXT NOT NULL,
    file TEXT NOT NULL,
    PRIMARY KEY (host, lineage)
);

CREATE INDEX host_declaration_lineage ON host_declaration (lineage);

-- Until when the calls to an account are taken, by the database's clock.

CREATE TABLE pace (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    until TEXT NOT NULL,
    PRIMARY KEY (account, name)
);

-- The chain of each lineage's history: `link` seals an entry and the one before it; the head has the
-- last one, and how many there are. Entries without a link are older than the chain.

ALTER TABLE history ADD COLUMN host TEXT;
ALTER TABLE history ADD COLUMN link TEXT;

CREATE TABLE history_head (
    lineage TEXT PRIMARY KEY,
    entries INTEGER NOT NULL,
    link TEXT NOT NULL
);

-- The key of the chains, sealed, where the state's own was replaced; when that was last, and on which host.

ALTER TABLE sealing ADD COLUMN history_key TEXT;
ALTER TABLE sealing ADD COLUMN changed_at TEXT;
ALTER TABLE sealing ADD COLUMN changed_on TEXT;

-- Where the state went, if it was moved; 'from ' and where it was, while it arrives. There is no row, or one.

CREATE TABLE moved (
    destination TEXT NOT NULL,
    at TEXT NOT NULL
);

-- Whose receiver, or whose file, a notice is about, where it is one host's alone; which host.

ALTER TABLE notice RENAME TO notice_of_all;

CREATE TABLE notice (
    topic TEXT NOT NULL,
    lineage TEXT NOT NULL,
    target TEXT NOT NULL,
    domain TEXT NOT NULL,
    channel TEXT NOT NULL,
    host TEXT NOT NULL,
    since TEXT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    hint TEXT,
    deadline TEXT,
    PRIMARY KEY (topic, lineage, target, domain, channel, host)
);

INSERT INTO notice (topic, lineage, target, domain, channel, host, since, code, message, hint, deadline)
SELECT topic, lineage, target, domain, channel, '', since, code, message, hint, deadline FROM notice_of_all;

DROP TABLE notice_of_all;

ALTER TABLE told RENAME TO told_of_all;

CREATE TABLE told (
    name TEXT NOT NULL,
    topic TEXT NOT NULL,
    lineage TEXT NOT NULL,
    target TEXT NOT NULL,
    domain TEXT NOT NULL,
    channel TEXT NOT NULL,
    host TEXT NOT NULL,
    since TEXT NOT NULL,
    at TEXT NOT NULL,
    code TEXT NOT NULL,
    PRIMARY KEY (name, topic, lineage, target, domain, channel, host)
);

INSERT INTO told (name, topic, lineage, target, domain, channel, host, since, at, code)
SELECT name, topic, lineage, target, domain, channel, '', since, at, code FROM told_of_all;

DROP TABLE told_of_all;
