#!lua flags=no-writes
-- Tells where channels stand.
--
-- KEYS  for each channel: meta, document
-- Reply for each channel: epoch or '' if nothing is known of it, top, document's number
local reply = {}
for i = 1, #KEYS, 2 do
  local m = redis.call('HMGET', KEYS[i], 'e', 's')
  local at = m[1] and tonumber(redis.call('HGET', KEYS[i + 1], 'o') or '0') or 0
  reply[#reply + 1] = m[1] or ''
  reply[#reply + 1] = m[1] and tonumber(m[2] or '0') or 0
  reply[#reply + 1] = at
end
return reply
