-- Who is told at all, as the configuration said it last. No secrets.
CREATE TABLE notify_settings (
  id   INTEGER PRIMARY KEY CHECK (id = 1),         -- one row
  body TEXT NOT NULL
) STRICT;

-- What people chose to be told of.
CREATE TABLE notify_choices (
  user TEXT PRIMARY KEY,
  body TEXT NOT NULL
) STRICT;

-- What somebody is told: stored with what it is about, and sent from here. A number is never
-- given out again: receivers know by it what they have had.
CREATE TABLE notes (
  id        INTEGER PRIMARY KEY AUTOINCREMENT,
  channel   TEXT NOT NULL,                         -- mail, own, hook
  recipient TEXT NOT NULL,                         -- id of a person, or name of a webhook
  at        INTEGER NOT NULL,
  body      TEXT NOT NULL,
  state     TEXT NOT NULL DEFAULT 'waiting',
  tries     INTEGER NOT NULL DEFAULT 0,
  next_at   INTEGER,                               -- of those that wait
  ended_at  INTEGER,
  error     TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX notes_waiting ON notes (next_at) WHERE state = 'waiting';
CREATE INDEX notes_of ON notes (recipient, id);
CREATE INDEX notes_ended ON notes (ended_at) WHERE state <> 'waiting';
