-- What kind of key an order under way is for; NULL in what was written before, which counts as the
-- declared one.

ALTER TABLE acme_order ADD COLUMN key_type TEXT;
