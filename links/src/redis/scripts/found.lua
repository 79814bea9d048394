#!lua
-- Tells where channels stand, and keeps that for longer; one of which nothing is known begins with the epoch that is given.
--
-- KEYS  for each channel: meta, log, document
-- ARGV  for each channel: candidate epoch, meta's life in ms; then [bytes of the records of the last append, at most]
-- Reply for each channel: epoch, or '!' if it is not of this version; top; document's number; number of the last healing, 0: none;
--       with the last of ARGV also: the records that end there, or '' if there are none or they are longer
local reply, max = {}, tonumber(ARGV[#KEYS / 3 * 2 + 1] or '-1')
for i = 1, #KEYS, 3 do
  local meta, log, document, arg = KEYS[i], KEYS[i + 1], KEYS[i + 2], (i - 1) / 3 * 2 + 1
  local m, at = redis.pcall('HMGET', meta, 'e', 's', 'g'), '0'
  if m[1] then at = redis.pcall('HGET', document, 'o') or '0' end
  -- One that is broken must not hide the others.
  local broken = m.err or type(at) == 'table' and at.err
  if broken and not string.find(broken, 'WRONGTYPE', 1, true) then return redis.error_reply(broken) end
  local epoch, top = m[1], m[1] and tonumber(m[2] or '')
  broken = broken or epoch and (#epoch ~= 10 or not top) or not tonumber(at)
  if not broken then
    if not epoch then
      epoch, top = ARGV[arg], 0
      -- What may lie there is of an epoch that is gone.
      redis.call('DEL', log, document)
      redis.call('HSET', meta, 'e', epoch, 's', '0')
    end
    redis.call('PEXPIRE', meta, ARGV[arg + 1])
    redis.call('PEXPIRE', document, ARGV[arg + 1])
  end
  reply[#reply + 1] = broken and '!' or epoch
  reply[#reply + 1] = not broken and top or 0
  reply[#reply + 1] = broken and 0 or tonumber(at)
  reply[#reply + 1] = not broken and tonumber(m[3] or '0') or 0
  if max >= 0 then
    local entry = m[1] and not broken and redis.pcall('XRANGE', log, m[2], m[2])
    local fields = entry and entry[1] and entry[1][2] or {}
    reply[#reply + 1] = #fields == 2 and #fields[2] <= max and fields[2] or ''
  end
end
return reply
