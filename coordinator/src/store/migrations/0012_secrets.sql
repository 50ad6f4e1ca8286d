-- Secrets, encrypted: what stands in the object that they belong to is everything but them. What
-- earlier releases kept in the clear is moved here when the file is opened, for that needs the
-- master key.
CREATE TABLE secrets (
  kind    TEXT NOT NULL,                            -- table and column of the object, such as users.totp
  id      TEXT NOT NULL,                            -- which object
  version INTEGER NOT NULL,                         -- counts the saves, from 1
  value   BLOB NOT NULL,                            -- the value, encrypted for this place and version
  PRIMARY KEY (kind, id)
) STRICT;
