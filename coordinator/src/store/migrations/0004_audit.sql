-- Who did what, chained: each record holds the digest of the one before it. Rows are only
-- added. What stands beside the body is taken from it, for searches; a check of the chain
-- compares both.
CREATE TABLE audit (
  seq       INTEGER PRIMARY KEY NOT NULL, -- from 1, without gaps
  at        INTEGER NOT NULL,             -- milliseconds since 1970
  actor     TEXT NOT NULL,                -- id, or name, or kind of who did it
  operation TEXT NOT NULL,                -- as in the operation table
  target    TEXT NOT NULL,                -- id of what it was done to; '' = of nothing
  outcome   TEXT NOT NULL,                -- ok, refused, failed
  hash      BLOB NOT NULL,                -- SHA-256 of body
  body      TEXT NOT NULL                 -- the record as hashed: canonical JSON
) STRICT;

CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_actor ON audit (actor, seq);
CREATE INDEX audit_operation ON audit (operation, seq);
CREATE INDEX audit_target ON audit (target, seq);
-- Nearly all went well: an index over those would help nobody.
CREATE INDEX audit_trouble ON audit (outcome, seq) WHERE outcome <> 'ok';
