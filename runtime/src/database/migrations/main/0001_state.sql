-- Format of this file for older binaries: one whose newest format is below min_reader must not open it.
CREATE TABLE format (min_reader INTEGER NOT NULL);
INSERT INTO format VALUES (1);

CREATE TABLE setting (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Rows refer to a device by number, so that taking on another device id changes one row.
CREATE TABLE device (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    name    TEXT NOT NULL UNIQUE,
    is_self INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX device_self ON device (is_self) WHERE is_self = 1;

-- module NULL: the device's own identity.
CREATE TABLE identity (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    device        INTEGER NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    module        TEXT,
    generation_id TEXT NOT NULL UNIQUE,
    status        TEXT NOT NULL DEFAULT 'enabled',
    managed_by    TEXT NOT NULL DEFAULT '',
    created_us    INTEGER NOT NULL
);
CREATE UNIQUE INDEX identity_name ON identity (device, ifnull(module, ''));

-- A section without a row is empty at revision 1. One table per section, so that a reported patch writes reported bytes only.
-- metadata: the tree of the document with the time of each part in ms; "$" is the time of the object itself.
-- hub_version, hub_base: version and document last agreed with the hub above; NULL without one.
CREATE TABLE twin_tags (
    identity    INTEGER PRIMARY KEY REFERENCES identity (id) ON DELETE CASCADE,
    revision    INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    document    TEXT NOT NULL,
    metadata    TEXT NOT NULL,
    hub_version INTEGER,
    hub_base    TEXT
);
CREATE TABLE twin_desired (
    identity    INTEGER PRIMARY KEY REFERENCES identity (id) ON DELETE CASCADE,
    revision    INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    document    TEXT NOT NULL,
    metadata    TEXT NOT NULL,
    hub_version INTEGER,
    hub_base    TEXT
);
CREATE TABLE twin_reported (
    identity    INTEGER PRIMARY KEY REFERENCES identity (id) ON DELETE CASCADE,
    revision    INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    document    TEXT NOT NULL,
    metadata    TEXT NOT NULL,
    hub_version INTEGER,
    hub_base    TEXT
);

-- The desired document that the module accepted last: what a cold start gives it when the newest one was refused.
CREATE TABLE twin_accepted (
    identity INTEGER PRIMARY KEY REFERENCES identity (id) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    document TEXT NOT NULL
);

-- arrival counts up, so that of two builds of one version the later one is known without a clock.
CREATE TABLE image (
    arrival    INTEGER PRIMARY KEY AUTOINCREMENT,
    digest     TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    version    TEXT NOT NULL,
    descriptor TEXT NOT NULL,
    source     TEXT,
    bytes      INTEGER NOT NULL,
    arrived_us INTEGER NOT NULL,
    verdict    TEXT NOT NULL,
    reason     TEXT NOT NULL,
    abi        TEXT NOT NULL,
    schema     TEXT,
    defaults   TEXT
);
CREATE INDEX image_name ON image (name);

CREATE TABLE deployment (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    origin        TEXT NOT NULL,
    source_sha256 TEXT NOT NULL,
    document      TEXT NOT NULL,
    applied_us    INTEGER NOT NULL,
    status        TEXT NOT NULL,
    reason        TEXT NOT NULL
);

-- is_local: of the layer that a deployment keeps (dropped or added by hand). stopped_by: a stop that holds until a start.
CREATE TABLE instance (
    name       TEXT PRIMARY KEY,
    origin     TEXT NOT NULL,
    image      TEXT NOT NULL,
    digest     TEXT,
    spec       TEXT NOT NULL,
    stopped_by TEXT,
    stopped_us INTEGER,
    is_local   INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
