-- One row: the epoch of the book of sequences below. Not salvaged: a file that was set aside takes its book with it.
CREATE TABLE book (epoch INTEGER NOT NULL);

-- reserved: the last number that may have been given out; while is_open it may go up at any time, else it is exact.
-- settled: up to here nothing waits in memory any more. has_memory: since it was opened, it had routes in memory.
CREATE TABLE sequence (
    sender     TEXT NOT NULL,
    output     TEXT NOT NULL,
    is_open    INTEGER NOT NULL,
    has_memory INTEGER NOT NULL,
    settled    INTEGER NOT NULL,
    reserved   INTEGER NOT NULL,
    PRIMARY KEY (sender, output)
) WITHOUT ROWID;
-- A start looks only at what was in use.
CREATE INDEX sequence_open ON sequence (sender, output) WHERE is_open;

-- Several ranges for each sender, output, endpoint and reason.
ALTER TABLE losses RENAME TO losses_merged;
CREATE TABLE losses (
    id             INTEGER PRIMARY KEY,
    sender         TEXT NOT NULL,
    output         TEXT NOT NULL,
    endpoint       TEXT NOT NULL,
    reason         TEXT NOT NULL,
    first_epoch    INTEGER NOT NULL,
    first_seq      INTEGER NOT NULL,
    last_epoch     INTEGER NOT NULL,
    last_seq       INTEGER NOT NULL,
    count          INTEGER NOT NULL,
    is_upper_bound INTEGER NOT NULL DEFAULT 0,
    first_us       INTEGER,
    last_us        INTEGER
);
INSERT INTO losses (sender, output, endpoint, reason, first_epoch, first_seq, last_epoch, last_seq, count)
    SELECT sender, output, endpoint, reason, first_epoch, first_seq, last_epoch, last_seq, count FROM losses_merged;
DROP TABLE losses_merged;
CREATE INDEX losses_range ON losses (sender, output, endpoint, reason, last_epoch, last_seq);
