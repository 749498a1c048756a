-- How often a message was delivered without being settled, how often its handling failed, and when it was set aside (wall time):
-- kept where a delivery is repeated or given up, so that a restart does not begin to count anew.
ALTER TABLE message ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN faults INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN parked_us INTEGER;
