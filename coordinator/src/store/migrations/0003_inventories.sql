-- What a node has is large and seldom differs; the node's own row is stored at each start
-- of a container. So they are kept apart.
CREATE TABLE inventories (
  agent TEXT PRIMARY KEY NOT NULL REFERENCES agents (id), -- whose
  body  TEXT NOT NULL                                     -- devices, slots and facts as JSON
) STRICT;

INSERT INTO inventories (agent, body)
  SELECT id, json_extract(body, '$.inventory') FROM agents
  WHERE json_type(body, '$.inventory') = 'object';

UPDATE agents SET body = json_remove(body, '$.inventory');
