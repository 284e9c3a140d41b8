-- compat: 1
-- Tokens of programs, made by administrators; only their hashes are kept.

CREATE TABLE service_token (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    applications TEXT NOT NULL,
    paths TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    revoked INTEGER
) STRICT;
