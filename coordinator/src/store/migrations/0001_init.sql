-- Everything the coordinator keeps. Instants are milliseconds since 1970 in UTC, ids
-- are in their printed form. A `body` is the whole object as JSON and the truth; the
-- columns beside it repeat what is searched by. Rows of past sessions and closed claims
-- stay: memory forgets them, the database does not.

CREATE TABLE meta (
  id           INTEGER PRIMARY KEY CHECK (id = 1), -- one row
  cluster      TEXT NOT NULL,                      -- id of the installation, drawn once
  generation   INTEGER NOT NULL,                   -- raised at each start of the coordinator
  next_session INTEGER NOT NULL,                   -- number of the next session; never goes back
  next_uid     INTEGER NOT NULL                    -- user number inside containers of the next user
) STRICT;

CREATE TABLE users (
  id         TEXT PRIMARY KEY NOT NULL,            -- usr_…
  username   TEXT NOT NULL UNIQUE COLLATE NOCASE,  -- what the person is called
  email      TEXT NOT NULL UNIQUE COLLATE NOCASE,  -- never changes
  created_at INTEGER NOT NULL,                     -- when it was made
  body       TEXT NOT NULL                         -- the user as JSON
) STRICT;

CREATE TABLE keypairs (
  access_key TEXT PRIMARY KEY NOT NULL,            -- the public part
  owner      TEXT NOT NULL REFERENCES users (id),  -- whose it is
  active     INTEGER NOT NULL,                     -- 1 = opens something
  body       TEXT NOT NULL                         -- the keypair as JSON; of the secret only its hash
) STRICT;

CREATE TABLE resource_groups (
  id   TEXT PRIMARY KEY NOT NULL,                  -- rgp_…
  name TEXT NOT NULL UNIQUE COLLATE NOCASE,        -- never changes
  body TEXT NOT NULL                               -- the group as JSON
) STRICT;

CREATE TABLE agents (
  id       TEXT PRIMARY KEY NOT NULL,                       -- agt_…
  name     TEXT NOT NULL COLLATE NOCASE,                    -- unique among those that have not left
  group_id TEXT NOT NULL REFERENCES resource_groups (id),   -- its resource group
  state    TEXT NOT NULL,                                   -- ALIVE, LOST, TERMINATED
  body     TEXT NOT NULL                                    -- the agent as JSON
) STRICT;

CREATE UNIQUE INDEX agents_by_name ON agents (name) WHERE state <> 'TERMINATED';

CREATE TABLE join_tokens (
  id         TEXT PRIMARY KEY NOT NULL,                     -- the public part
  group_id   TEXT NOT NULL REFERENCES resource_groups (id), -- where its nodes go
  expires_at INTEGER NOT NULL,                              -- until when it can be used
  body       TEXT NOT NULL                                  -- the token as JSON; of the secret only its hash
) STRICT;

CREATE TABLE sessions (
  id         INTEGER PRIMARY KEY,                           -- the n of s-n; never given out again
  owner      TEXT NOT NULL REFERENCES users (id),           -- whose it is
  owner_name TEXT NOT NULL,                                 -- what the owner was called then
  name       TEXT,                                          -- of the owner's choice
  group_id   TEXT NOT NULL REFERENCES resource_groups (id), -- its resource group
  group_name TEXT NOT NULL,                                 -- what the group was called then
  kind       TEXT NOT NULL,                                 -- batch, interactive
  state      TEXT NOT NULL,                                 -- PENDING to ERROR
  settled    INTEGER NOT NULL,                              -- 1 = final and confirmed by its nodes
  priority   INTEGER NOT NULL,                              -- 0 to 100
  created_at INTEGER NOT NULL,                              -- when it was accepted
  ended_at   INTEGER,                                       -- when it became final
  version    INTEGER NOT NULL,                              -- counts its stored changes from 1
  body       TEXT NOT NULL                                  -- the session as JSON
) STRICT;

-- What a start reads; past sessions cost it nothing.
CREATE INDEX sessions_live ON sessions (id) WHERE settled = 0;
CREATE INDEX sessions_by_owner ON sessions (owner, id);
CREATE INDEX sessions_by_name ON sessions (owner, name, id) WHERE name IS NOT NULL;
CREATE INDEX sessions_by_created ON sessions (created_at);

CREATE TABLE session_history (
  session    INTEGER NOT NULL REFERENCES sessions (id),     -- whose line
  seq        INTEGER NOT NULL,                              -- from 1 in each session
  at         INTEGER NOT NULL,                              -- when
  from_state TEXT,                                          -- before; absent in the first line
  to_state   TEXT NOT NULL,                                 -- after
  reason     TEXT,                                          -- why
  detail     TEXT,                                          -- the same in words
  by         TEXT NOT NULL,                                 -- which user, agent or rule
  attempt    INTEGER NOT NULL,                              -- in which attempt, from 1
  PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
  session        INTEGER NOT NULL REFERENCES sessions (id), -- with rank and attempt: which container
  rank           INTEGER NOT NULL,                          -- 0 = main
  attempt        INTEGER NOT NULL,                          -- from 1
  slot           TEXT NOT NULL,                             -- a claim on what
  device         TEXT NOT NULL DEFAULT '',                  -- on which device; '' = the slot has none
  agent          TEXT NOT NULL REFERENCES agents (id),      -- where
  amount         INTEGER NOT NULL CHECK (amount > 0),       -- thousandths, or bytes for mem
  opened_at      INTEGER NOT NULL,                          -- with the placement
  quota_freed_at INTEGER,                                   -- stopped counting against the owner
  closed_at      INTEGER,                                   -- the node confirmed that nothing is left
  PRIMARY KEY (session, rank, attempt, slot, device)
) STRICT, WITHOUT ROWID;

-- What a start reads.
CREATE INDEX ledger_open ON ledger (session, rank, attempt) WHERE closed_at IS NULL;

-- The core gives no device out twice; here the database refuses it once more.
CREATE UNIQUE INDEX ledger_whole_device ON ledger (agent, device)
  WHERE closed_at IS NULL AND device <> '' AND slot NOT GLOB '*.shares';

CREATE TABLE idempotency (
  caller  TEXT NOT NULL REFERENCES users (id),              -- who called
  key     TEXT NOT NULL,                                    -- of the caller's choice
  body    BLOB NOT NULL CHECK (length(body) = 32),          -- SHA-256 of the request
  session INTEGER NOT NULL REFERENCES sessions (id),        -- what it made
  at      INTEGER NOT NULL,                                 -- when
  PRIMARY KEY (caller, key)
) STRICT, WITHOUT ROWID;
