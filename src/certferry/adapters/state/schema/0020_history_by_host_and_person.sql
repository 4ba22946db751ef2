-- The history is read by host and by person as well, newest first, and by time.

CREATE INDEX history_of_host ON history (host, number);
CREATE INDEX history_of_person ON history (who, number);
CREATE INDEX history_at ON history (at);
