-- Version 1. Every table is our own: the file may be shared with others.

-- 'schema_version'; 'file_id', made at random with the file; 'generation' is a new one, at random, with every change of trunk_nodes and trunk_members, so
-- that a sender sees from one number, in the statement that appends, whether what it remembers of them still holds.
CREATE TABLE IF NOT EXISTS trunk_meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

-- The log. A row is a batch of envelopes of one node. Ids have no gaps and are never used again: trimming takes rows
-- from the low end alone, and always leaves the newest, from which the next id is made. Where somebody emptied or
-- restored it, the next id lies far above all that were used: so each reader finds a gap.
CREATE TABLE IF NOT EXISTS trunk_log (
    id INTEGER PRIMARY KEY,
    prefix TEXT NOT NULL,
    origin TEXT NOT NULL,
    expires_at REAL NOT NULL,
    frame BLOB NOT NULL
);

-- Messages of normal channels. Claiming takes the lowest ids; what is given back gets an id below all others.
CREATE TABLE IF NOT EXISTS trunk_queue (
    id INTEGER PRIMARY KEY,
    prefix TEXT NOT NULL,
    channel TEXT NOT NULL,
    expires_at REAL NOT NULL,
    frame BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS trunk_queue_channel ON trunk_queue (prefix, channel, id);

-- How many rows a channel has in trunk_queue: counting them would cost more the fuller it is.
CREATE TABLE IF NOT EXISTS trunk_depth (
    prefix TEXT NOT NULL,
    channel TEXT NOT NULL,
    depth INTEGER NOT NULL,
    PRIMARY KEY (prefix, channel)
) WITHOUT ROWID;

-- Normal channels that are members of groups. (Process-specific members live in their owner's memory.)
CREATE TABLE IF NOT EXISTS trunk_members (
    prefix TEXT NOT NULL,
    group_name TEXT NOT NULL,
    channel TEXT NOT NULL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (prefix, group_name, channel)
) WITHOUT ROWID;

-- The nodes that are alive: where to ring, what they wait for, and how far they have read; `must_poll` is the errno of one
-- that cannot ring there, and `clock` by how much its wall clock is ahead of the kernel's.
CREATE TABLE IF NOT EXISTS trunk_nodes (
    node TEXT PRIMARY KEY,
    prefix TEXT NOT NULL,
    doorbell TEXT NOT NULL,
    watching BLOB NOT NULL,
    position INTEGER NOT NULL,
    seen_at REAL NOT NULL,
    must_poll INTEGER NOT NULL DEFAULT 0,
    clock REAL
) WITHOUT ROWID;
