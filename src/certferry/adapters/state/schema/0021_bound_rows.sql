-- What the state's key proves of a row: that certferry wrote it, and that no column which decides was changed
-- since (binding.py). What is there already is bound by the function beside this script.

ALTER TABLE version ADD COLUMN proof TEXT;
ALTER TABLE withdrawal ADD COLUMN proof TEXT;
ALTER TABLE acme_account ADD COLUMN proof TEXT;
ALTER TABLE acme_order ADD COLUMN proof TEXT;
ALTER TABLE console_user ADD COLUMN proof TEXT;
ALTER TABLE console_user_link ADD COLUMN proof TEXT;
ALTER TABLE console_user_session ADD COLUMN proof TEXT;
ALTER TABLE console_token ADD COLUMN proof TEXT;
