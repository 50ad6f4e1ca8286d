-- A link to somebody who has an account names the account, not the address alone.
UPDATE invitations SET body = json_set(body, '$.user', (
  SELECT id FROM users
  WHERE lower(users.email) = lower(json_extract(invitations.body, '$.email'))
))
WHERE json_extract(body, '$.purpose') IN ('verification', 'reset')
  AND json_extract(body, '$.user') IS NULL;
