-- Requests that make something and carry an idempotency key, for a day. One without a status was
-- begun, and nobody knows whether it was carried out.
CREATE TABLE replays (
  caller  TEXT NOT NULL,                                    -- who asked
  route   TEXT NOT NULL,                                    -- id of the operation
  key     TEXT NOT NULL,                                    -- of the caller's choice
  request BLOB NOT NULL CHECK (length(request) = 32),       -- over all it says, keyed
  at      INTEGER NOT NULL,                                 -- when it was noted last
  status  INTEGER,                                          -- of the answer
  headers TEXT NOT NULL DEFAULT '[]',                       -- pairs of name and value
  body    BLOB NOT NULL DEFAULT x'',                        -- without what is said only once
  PRIMARY KEY (caller, route, key)
) STRICT;

CREATE INDEX replays_at ON replays (at);
