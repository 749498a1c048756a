-- What came into the ledger and was not told yet to those who listen for losses: it goes when it is told, or nobody listens.
CREATE TABLE untold (
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
    is_upper_bound INTEGER NOT NULL
);
