-- That a challenge record was written here, as for uploads. NULL where the key was not there when
-- this ran: such a row is told, and nothing is removed by it.

ALTER TABLE challenge_record ADD COLUMN proof TEXT;
