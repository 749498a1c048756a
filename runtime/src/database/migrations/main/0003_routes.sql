-- Routes that a person added outside a manifest: part of the layer that a deployment keeps. spec: JSON.
CREATE TABLE route (
    name     TEXT PRIMARY KEY,
    spec     TEXT NOT NULL,
    added_by TEXT NOT NULL,
    added_us INTEGER NOT NULL
) WITHOUT ROWID;
