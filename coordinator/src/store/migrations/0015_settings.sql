-- Settings that administrators stored: they stand over the files of the configuration. No secrets.
CREATE TABLE settings (
  id   INTEGER PRIMARY KEY CHECK (id = 1),         -- one row
  body TEXT NOT NULL                               -- version and values by key, as JSON
) STRICT;
