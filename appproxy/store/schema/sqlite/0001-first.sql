-- compat: 1
-- Times are whole epoch seconds given by the caller.

CREATE TABLE schema (version INTEGER NOT NULL, compat INTEGER NOT NULL) STRICT;

-- The counter row numbers the feed: it is incremented in the transaction that adds the entry, so that no reader ever
-- sees entry n before n - 1.  Entries up to "dropped" are no longer kept.
CREATE TABLE feed_counter (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, dropped INTEGER NOT NULL) STRICT;
INSERT INTO feed_counter VALUES (1, 0, 0);
CREATE TABLE feed (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL) STRICT;

CREATE TABLE session (
    handle_hash BLOB PRIMARY KEY,
    parent BLOB,
    host TEXT NOT NULL,
    application TEXT NOT NULL,
    provider TEXT NOT NULL,
    user_name TEXT NOT NULL,
    identity BLOB NOT NULL,
    created INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    idle_seconds INTEGER NOT NULL,
    until INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    provider_session TEXT NOT NULL
) STRICT;
CREATE INDEX session_parent ON session (parent) WHERE parent IS NOT NULL;
CREATE INDEX session_user_name ON session (user_name);
CREATE INDEX session_until ON session (until);

CREATE TABLE token (
    hash BLOB PRIMARY KEY,
    connector_group TEXT NOT NULL,
    issued INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    used INTEGER
) STRICT;

CREATE TABLE once (key BLOB PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX once_until ON once (until);

CREATE TABLE application (id TEXT PRIMARY KEY, version INTEGER NOT NULL, document BLOB NOT NULL) STRICT;
CREATE TABLE connector_group (name TEXT PRIMARY KEY, version INTEGER NOT NULL, document BLOB NOT NULL) STRICT;

CREATE TABLE connector (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    connector_group TEXT NOT NULL,
    serial TEXT NOT NULL,
    not_after INTEGER NOT NULL,
    enrolled INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    revoked INTEGER,
    boot TEXT NOT NULL,
    epoch INTEGER NOT NULL
) STRICT;

CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;

-- A lease is a node's ("node:relay-1") or a task's ("task:purge"); its epoch fences what an earlier holder still writes.
CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;
