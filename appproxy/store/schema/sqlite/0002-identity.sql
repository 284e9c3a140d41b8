-- compat: 1
-- What sessions need to be refreshed, found by what a provider says of them, and recognised by their owner.

ALTER TABLE session ADD COLUMN subject TEXT NOT NULL DEFAULT '';
-- Of a sign-in with a refresh token: when it is to be refreshed, from when requests wait for that, until when it may go
-- on without, and until when somebody is at it.
ALTER TABLE session ADD COLUMN refresh_due INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN refresh_wait INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN refresh_deadline INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN refresh_claimed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN client TEXT NOT NULL DEFAULT '';
ALTER TABLE session ADD COLUMN agent TEXT NOT NULL DEFAULT '';
UPDATE session SET subject = coalesce(json_extract(CAST(identity AS TEXT), '$.subject'), '');
CREATE INDEX session_subject ON session (provider, subject);
CREATE INDEX session_provider_session ON session (provider, provider_session) WHERE provider_session <> '';

-- Bodies of requests that wait for a sign-in, each encrypted with a key that only the browser holds.
CREATE TABLE kept (
    id BLOB PRIMARY KEY,
    client TEXT NOT NULL,
    sealed BLOB NOT NULL,
    until INTEGER NOT NULL
) STRICT;
CREATE INDEX kept_until ON kept (until);
