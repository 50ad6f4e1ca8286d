-- Tasks of arrays. Of a session's id the lower 40 bits are its number; the upper ones are 0,
-- or the index plus 1 for a task of the array with that number. In order of `place` a task
-- stands behind its array, by index.

ALTER TABLE sessions ADD COLUMN place INTEGER NOT NULL
  GENERATED ALWAYS AS (((id & 1099511627775) << 24) | (id >> 40)) VIRTUAL;

DROP INDEX sessions_live;
DROP INDEX sessions_by_owner;

-- What a start reads; past sessions cost it nothing.
CREATE INDEX sessions_live ON sessions (place) WHERE settled = 0;
CREATE INDEX sessions_by_place ON sessions (place);
CREATE INDEX sessions_by_owner ON sessions (owner, place);
