-- Vaults: what stands around them, and what they hold, encrypted for its place.
CREATE TABLE vaults (
  id TEXT PRIMARY KEY,
  body TEXT NOT NULL,
  content BLOB,
  -- Which save the content is of; a part of what its encryption is bound to.
  content_version INTEGER
) STRICT;
