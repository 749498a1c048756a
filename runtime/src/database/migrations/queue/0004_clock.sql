-- The store's own time, in microseconds: it goes on with the machine and never jumps. Times to live are measured by it:
-- message.ttl_from_us is a moment of it. It began as the wall time. anchor_*: the latest moment at which the wall clock could be
-- trusted, in both times. is_owed: the time that the machine was off since then has not been counted yet.
CREATE TABLE store_clock (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    boot            INTEGER,
    monotonic_us    INTEGER NOT NULL,
    store_us        INTEGER NOT NULL,
    anchor_wall_us  INTEGER,
    anchor_store_us INTEGER,
    is_owed         INTEGER NOT NULL
);

-- Jumps of the wall clock: together with boot and monotonic time of a message they say when it really was.
CREATE TABLE clock_jump (
    id           INTEGER PRIMARY KEY,
    boot         INTEGER,
    monotonic_us INTEGER NOT NULL,
    before_us    INTEGER NOT NULL,
    after_us     INTEGER NOT NULL,
    is_trusted   INTEGER NOT NULL
);

-- Wall time at monotonic 0, by the last clock of that boot that could be trusted.
ALTER TABLE boot ADD COLUMN offset_us INTEGER;

CREATE INDEX message_expiry ON message (ttl_from_us + ttl_left_us) WHERE state = 0 AND ttl_left_us IS NOT NULL;
