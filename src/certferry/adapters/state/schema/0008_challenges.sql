-- That a challenge record was written here, as for uploads. What was written before is proven this
-- once (`database._prove_challenges`); rows that are changed from here on have no proof. NULL where the
-- key was not there when this ran: such a row is reported, and nothing is removed by it.

ALTER TABLE challenge_record ADD COLUMN proof TEXT;
