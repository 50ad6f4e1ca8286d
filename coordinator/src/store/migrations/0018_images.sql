-- What administrators say of images.
CREATE TABLE images (
  reference TEXT PRIMARY KEY NOT NULL,             -- canonical; never changes
  id        TEXT NOT NULL UNIQUE,                  -- img_…
  body      TEXT NOT NULL                          -- all of it as JSON
) STRICT;
