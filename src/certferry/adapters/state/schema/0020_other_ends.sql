-- Until when what a place has instead of ours is valid, where a run saw that.

ALTER TABLE sighting ADD COLUMN other_until TEXT;
