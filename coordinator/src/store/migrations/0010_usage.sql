-- Who used what for how long. A row stands beside each claim of the ledger, with the names as
-- they were, and is never deleted: not with its session, its owner or its node.
CREATE TABLE usage (
  session       INTEGER NOT NULL,                  -- with rank and attempt: which container
  rank          INTEGER NOT NULL,                  -- 0 = main
  attempt       INTEGER NOT NULL,                  -- from 1: each attempt has rows of its own
  slot          TEXT NOT NULL,                     -- of what
  device        TEXT NOT NULL,                     -- of which device; '' = the slot has none
  model         TEXT NOT NULL,                     -- product name of the device; '' = not known
  amount        INTEGER NOT NULL,                  -- thousandths, or bytes for mem
  agent         TEXT NOT NULL,                     -- on which node
  agent_name    TEXT NOT NULL,                     -- what it was called
  owner         TEXT NOT NULL,                     -- whose
  owner_name    TEXT NOT NULL,                     -- what the owner was called
  access_key    TEXT NOT NULL,                     -- with which keypair
  project       TEXT NOT NULL,                     -- in which project
  project_name  TEXT NOT NULL,                     -- what it was called
  domain        TEXT NOT NULL,                     -- in which domain
  domain_name   TEXT NOT NULL,                     -- what it was called
  group_id      TEXT NOT NULL,                     -- in which resource group
  group_name    TEXT NOT NULL,                     -- what it was called
  from_at       INTEGER NOT NULL,                  -- since when it is held
  billable_from INTEGER,                           -- since when the session was RUNNING
  billable_to   INTEGER,                           -- until when it was
  to_at         INTEGER,                           -- until when it was held: with its claim
  busy_ms       INTEGER NOT NULL DEFAULT 0,        -- milliseconds of full use, by the samples
  measured_ms   INTEGER NOT NULL DEFAULT 0,        -- milliseconds that were measured
  PRIMARY KEY (session, rank, attempt, slot, device)
) STRICT, WITHOUT ROWID;

-- What is asked for: a stretch of time, of somebody or of everybody.
CREATE INDEX usage_by_end ON usage (to_at);
CREATE INDEX usage_by_owner ON usage (owner, to_at);

-- What the ledger knows of the time before. Nobody wrote models and figures down then.
INSERT INTO usage
  SELECT l.session, l.rank, l.attempt, l.slot, l.device, '', l.amount,
    l.agent, coalesce((SELECT a.name FROM agents a WHERE a.id = l.agent), l.agent),
    s.owner, s.owner_name, coalesce(json_extract(s.body, '$.access_key'), ''),
    coalesce(json_extract(s.body, '$.project'), ''),
    coalesce(json_extract(s.body, '$.project_name'), ''),
    coalesce(json_extract(s.body, '$.domain'), ''),
    coalesce((SELECT d.name FROM domains d WHERE d.id = json_extract(s.body, '$.domain')), ''),
    s.group_id, s.group_name, l.opened_at,
    (SELECT min(h.at) FROM session_history h
      WHERE h.session = l.session AND h.attempt = l.attempt AND h.to_state = 'RUNNING'),
    (SELECT min(h.at) FROM session_history h
      WHERE h.session = l.session AND h.from_state = 'RUNNING' AND h.seq > (
        SELECT min(r.seq) FROM session_history r
          WHERE r.session = l.session AND r.attempt = l.attempt AND r.to_state = 'RUNNING')),
    l.closed_at, 0, 0
  FROM ledger l JOIN sessions s ON s.id = l.session;
