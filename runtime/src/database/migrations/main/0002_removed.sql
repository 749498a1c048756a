-- Instances that a person removed although a file that starts one may still lie in a watched folder: by whom and when, and what
-- was wanted of them, so that a start brings them back as they were.
CREATE TABLE removed (
    name    TEXT PRIMARY KEY,
    by      TEXT NOT NULL,
    at_us   INTEGER NOT NULL,
    origin  TEXT NOT NULL,
    spec    TEXT NOT NULL
) WITHOUT ROWID;
