-- Of a version's renewal window (RFC 9773), which the first schema has: the page on which the CA says
-- why. And when the CA may be asked again, NULL when it never was.

ALTER TABLE version ADD COLUMN window_page TEXT;

ALTER TABLE version ADD COLUMN ask_after TEXT;
