-- Keys of identities. A word says under which name a key is derived from the device's key; NULL: under the name of its place.
-- sealed: given by an operator, under the device's key. counter: how many keys were derived anew, so that none comes back.
ALTER TABLE identity ADD COLUMN primary_word TEXT;
ALTER TABLE identity ADD COLUMN secondary_word TEXT;
ALTER TABLE identity ADD COLUMN primary_sealed BLOB;
ALTER TABLE identity ADD COLUMN secondary_sealed BLOB;
ALTER TABLE identity ADD COLUMN key_counter INTEGER NOT NULL DEFAULT 0;

-- revision: counts the changes of an identity, for its etag. status_us: NULL since it was made.
ALTER TABLE identity ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
ALTER TABLE identity ADD COLUMN status_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE identity ADD COLUMN status_us INTEGER;

-- When it connected or disconnected last, and when it did anything last; NULL: never.
ALTER TABLE identity ADD COLUMN connection_us INTEGER;
ALTER TABLE identity ADD COLUMN activity_us INTEGER;

-- Shared access policies whose keys are not the first ones any more.
CREATE TABLE policy (
    name             TEXT PRIMARY KEY,
    primary_word     TEXT,
    secondary_word   TEXT,
    primary_sealed   BLOB,
    secondary_sealed BLOB,
    key_counter      INTEGER NOT NULL
) WITHOUT ROWID;
