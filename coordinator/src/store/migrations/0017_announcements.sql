-- What everybody is to read.
CREATE TABLE announcements (
  id   TEXT PRIMARY KEY,
  body TEXT NOT NULL
) STRICT;
