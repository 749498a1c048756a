-- Format of this file for older binaries: one whose newest format is below min_reader must not open it.
CREATE TABLE format (min_reader INTEGER NOT NULL);
INSERT INTO format VALUES (1);

CREATE TABLE endpoint (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- Starts of the machine, to which monotonic times belong.
CREATE TABLE boot (
    id        INTEGER PRIMARY KEY,
    boot_id   TEXT NOT NULL UNIQUE,
    opened_us INTEGER NOT NULL
);

-- ttl_left_us: time to live that was left at ttl_from_us (wall time); NULL lives for ever.
-- state: 0 waits, 1 is parked (with a reason). format: of meta and body; 1 is message::Meta and a plain body.
CREATE TABLE message (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint      INTEGER NOT NULL REFERENCES endpoint (id),
    priority      INTEGER NOT NULL,
    state         INTEGER NOT NULL DEFAULT 0,
    bytes         INTEGER NOT NULL,
    sender        TEXT NOT NULL,
    output        TEXT NOT NULL,
    epoch         INTEGER NOT NULL,
    sequence      INTEGER NOT NULL,
    created_us    INTEGER NOT NULL,
    boot          INTEGER,
    monotonic_us  INTEGER,
    clock_trusted INTEGER NOT NULL DEFAULT 1,
    ttl_left_us   INTEGER,
    ttl_from_us   INTEGER,
    reason        TEXT,
    format        INTEGER NOT NULL DEFAULT 1,
    meta          BLOB NOT NULL,
    body          BLOB NOT NULL
);
-- bytes is part of it so that counting reads no message.
CREATE INDEX message_order ON message (endpoint, state, priority, id, bytes);

CREATE TABLE losses (
    sender      TEXT NOT NULL,
    output      TEXT NOT NULL,
    endpoint    TEXT NOT NULL,
    reason      TEXT NOT NULL,
    first_epoch INTEGER NOT NULL,
    first_seq   INTEGER NOT NULL,
    last_epoch  INTEGER NOT NULL,
    last_seq    INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    PRIMARY KEY (sender, output, endpoint, reason)
) WITHOUT ROWID;
