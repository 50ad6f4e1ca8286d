-- What people, groups and rights became: a status in place of a flag, memberships with
-- where they come from, logins, links that work once, groups, access rules, failed logins.

UPDATE users SET body = json_set(
  json_remove(body, '$.active'),
  '$.status', CASE json_extract(body, '$.active') WHEN 0 THEN 'inactive' ELSE 'active' END,
  '$.version', 1,
  '$.updated_at', json_extract(body, '$.created_at'),
  '$.projects', json((
    SELECT json_group_array(json_object('project', value))
    FROM json_each(coalesce(json_extract(users.body, '$.projects'), '[]'))
  ))
);

UPDATE keypairs SET body = json_set(
  json_remove(body, '$.active'),
  '$.state', CASE json_extract(body, '$.active') WHEN 0 THEN 'inactive' ELSE 'active' END
);

CREATE TABLE logins (
  id    TEXT PRIMARY KEY NOT NULL,                  -- log_…
  owner TEXT NOT NULL REFERENCES users (id),        -- who logged in
  body  TEXT NOT NULL                               -- the login as JSON; of the token only its hash
) STRICT;

CREATE TABLE invitations (
  id    TEXT PRIMARY KEY NOT NULL,                  -- inv_…
  body  TEXT NOT NULL                               -- the link as JSON; of the token only its hash
) STRICT;

CREATE TABLE user_groups (
  id    TEXT PRIMARY KEY NOT NULL,                  -- grp_…; a built-in one stands here once it was changed
  name  TEXT NOT NULL,                              -- unique without regard to case
  body  TEXT NOT NULL                               -- the group with its members as JSON
) STRICT;

CREATE TABLE access_rules (
  id    TEXT PRIMARY KEY NOT NULL,                  -- acr_…
  body  TEXT NOT NULL                               -- the rule as JSON
) STRICT;

CREATE TABLE throttle (
  key   TEXT PRIMARY KEY NOT NULL,                  -- what a counter of failed logins is about
  body  TEXT NOT NULL                               -- the counter as JSON
) STRICT;

-- The rule every installation begins with, for one that has begun already.
INSERT INTO access_rules (id, body)
SELECT 'acr_aaaaaaaaaaaaaaaaaaaaaaaaab', json_object(
  'rule', json_object(
    'id', 'acr_aaaaaaaaaaaaaaaaaaaaaaaaab',
    'resource', json_object('type', '*'),
    'level', 'rw',
    'subjects', json_array('grp_aaaaaaaaaaaaaaaaaaaaaaaaab'),
    'default', json('true')
  ),
  'version', 1,
  'created_at', (SELECT json_extract(body, '$.created_at') FROM users ORDER BY created_at LIMIT 1)
)
WHERE EXISTS (SELECT 1 FROM users);
