-- The configuration that was in force last, as keyed digests by key: a start tells what is other
-- than before. No value can be read from it.
CREATE TABLE loaded (
  id   INTEGER PRIMARY KEY CHECK (id = 1),         -- one row
  body TEXT NOT NULL                               -- as JSON
) STRICT;
