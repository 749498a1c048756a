-- Values that modules are given by name. `sealed` is one of them under the device's key, for this name and version only.
CREATE TABLE secret (
    name    TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    sealed  BLOB NOT NULL,
    set_us  INTEGER NOT NULL,
    set_by  TEXT NOT NULL,
    -- JSON array of the modules that may have it, or ["*"].
    allowed TEXT NOT NULL
) WITHOUT ROWID;
