-- Administrators who reached into sessions of others, for the owners to see; domains and
-- projects that are gone.

CREATE TABLE session_reaches (
  session INTEGER NOT NULL REFERENCES sessions (id), -- into which
  after   INTEGER NOT NULL,                          -- behind which line of its history
  at      INTEGER NOT NULL,                          -- when
  by      TEXT NOT NULL,                             -- who
  what    TEXT NOT NULL                              -- by what: logs
) STRICT;

CREATE INDEX session_reaches_of ON session_reaches (session);

-- One that is gone keeps its row, so that what is past can be read with its name. The column
-- beside the body becomes the id, so that another can have the name.
ALTER TABLE domains ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;  -- 1 = gone
ALTER TABLE projects ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0; -- 1 = gone
