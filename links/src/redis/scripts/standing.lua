#!lua flags=no-writes
-- Tells where channels stand.
--
-- KEYS  for each channel: meta, document; with ARGV also: log
-- ARGV  [1 bytes of the records of the last append, at most]
-- Reply for each channel: epoch, '' if nothing is known of it, or '!' if it is not of this version; top; document's number; number of the last healing, 0: none;
--       with ARGV also: the records that end there, or '' if there are none or they are longer
local reply, max = {}, tonumber(ARGV[1] or '-1')
for i = 1, #KEYS, max < 0 and 2 or 3 do
  local m, at = redis.pcall('HMGET', KEYS[i], 'e', 's', 'g'), '0'
  if m[1] then at = redis.pcall('HGET', KEYS[i + 1], 'o') or '0' end
  -- One that is broken must not hide the others.
  local broken = m.err or type(at) == 'table' and at.err
  if broken and not string.find(broken, 'WRONGTYPE', 1, true) then return redis.error_reply(broken) end
  local top = m[1] and tonumber(m[2] or '')
  broken = broken or m[1] and (#m[1] ~= 10 or not top) or not tonumber(at)
  reply[#reply + 1] = broken and '!' or m[1] or ''
  reply[#reply + 1] = not broken and top or 0
  reply[#reply + 1] = broken and 0 or tonumber(at)
  reply[#reply + 1] = not broken and tonumber(m[3] or '0') or 0
  if max >= 0 then
    local entry = top and not broken and redis.pcall('XRANGE', KEYS[i + 2], m[2], m[2])
    local fields = entry and entry[1] and entry[1][2] or {}
    reply[#reply + 1] = #fields == 2 and #fields[2] <= max and fields[2] or ''
  end
end
return reply
