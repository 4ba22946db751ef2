-- What operators are to be told of. `message` and `hint` are sentences with their values, as JSON.

CREATE TABLE notice (
    topic TEXT NOT NULL,
    lineage TEXT NOT NULL,
    target TEXT NOT NULL,
    domain TEXT NOT NULL,
    channel TEXT NOT NULL,
    since TEXT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    hint TEXT,
    deadline TEXT,
    PRIMARY KEY (topic, lineage, target, domain, channel)
);

-- What each channel was told of them. A row is written before the message is sent, and taken back
-- where the service did not take it.

CREATE TABLE told (
    name TEXT NOT NULL,
    topic TEXT NOT NULL,
    lineage TEXT NOT NULL,
    target TEXT NOT NULL,
    domain TEXT NOT NULL,
    channel TEXT NOT NULL,
    since TEXT NOT NULL,
    at TEXT NOT NULL,
    code TEXT NOT NULL,
    PRIMARY KEY (name, topic, lineage, target, domain, channel)
);

-- When it was sent its last messages (a JSON list), before when it is sent none, and why it took none.

CREATE TABLE channel (
    name TEXT PRIMARY KEY,
    sent TEXT NOT NULL,
    again_at TEXT,
    refused_since TEXT,
    problem TEXT,
    hint TEXT
);
