-- Times are unix milliseconds. A key is never deleted: one that was revoked still says that keys
-- are asked for.
CREATE TABLE keys (
  id TEXT PRIMARY KEY,
  hash BLOB NOT NULL UNIQUE,
  name TEXT NOT NULL,
  tenant TEXT NOT NULL,
  is_gateway INTEGER NOT NULL,
  max_sessions INTEGER,
  rate INTEGER,
  session_minutes INTEGER,
  budget INTEGER,
  created INTEGER NOT NULL,
  revoked INTEGER
) STRICT, WITHOUT ROWID;
