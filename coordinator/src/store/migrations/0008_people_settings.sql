-- What the configuration says about people, as it was in force last: who stood in the list of
-- fixed users and does no longer is switched off.
CREATE TABLE people_settings (
  id   INTEGER PRIMARY KEY CHECK (id = 1),         -- one row
  body TEXT NOT NULL                               -- as JSON
) STRICT;
