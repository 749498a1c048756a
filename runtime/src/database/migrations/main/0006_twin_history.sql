-- Changes of desired properties (section 1) and tags (section 0): who, when, from which version to which, and the merge patch that
-- leads back. Newest ids are newest changes. An older binary changes twins without a row here, which shows as a gap of versions.
CREATE TABLE twin_history (
    id           INTEGER PRIMARY KEY,
    identity     INTEGER NOT NULL REFERENCES identity (id) ON DELETE CASCADE,
    at_us        INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    section      INTEGER NOT NULL,
    from_version INTEGER NOT NULL,
    to_version   INTEGER NOT NULL,
    changed_by   TEXT NOT NULL,
    action       TEXT NOT NULL,
    forced       INTEGER NOT NULL DEFAULT 0,
    reverse      TEXT NOT NULL
);
CREATE INDEX twin_history_of ON twin_history (identity, id, at_us, bytes);
