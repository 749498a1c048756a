-- A deployment knows its steps and what ran under it. A failed one was never in force so far; from now on it may be, so that
-- the word for the former is another. The one in force is the latest that was not refused.
ALTER TABLE deployment ADD COLUMN applied_by TEXT NOT NULL DEFAULT '';
ALTER TABLE deployment ADD COLUMN steps TEXT NOT NULL DEFAULT '[]';
ALTER TABLE deployment ADD COLUMN ran TEXT NOT NULL DEFAULT '{}';
UPDATE deployment SET status = 'refused' WHERE status = 'failed';
-- A binary that knows less would take a failed one for another than it is.
UPDATE format SET min_reader = 4;

-- Images that an instance must not use until a person says otherwise.
CREATE TABLE barred (
    instance TEXT NOT NULL,
    digest   TEXT NOT NULL,
    reason   TEXT NOT NULL,
    at_us    INTEGER NOT NULL,
    PRIMARY KEY (instance, digest)
) WITHOUT ROWID;
