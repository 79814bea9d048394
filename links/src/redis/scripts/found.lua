#!lua
-- Tells where channels stand; one of which nothing is known begins with the epoch that is given.
--
-- KEYS  for each channel: meta, log, document
-- ARGV  for each channel: candidate epoch, meta's life in ms
-- Reply for each channel: epoch, top, document's number
local reply = {}
for i = 1, #KEYS, 3 do
  local m = redis.call('HMGET', KEYS[i], 'e', 's')
  local epoch, top, at = m[1], tonumber(m[2] or '0') or 0, 0
  if epoch then
    at = tonumber(redis.call('HGET', KEYS[i + 2], 'o') or '0') or 0
  else
    local arg = (i - 1) / 3 * 2 + 1
    epoch, top = ARGV[arg], 0
    -- What may lie there is of an epoch that is gone.
    redis.call('DEL', KEYS[i + 1], KEYS[i + 2])
    redis.call('HSET', KEYS[i], 'e', epoch, 's', '0')
    redis.call('PEXPIRE', KEYS[i], ARGV[arg + 1])
  end
  reply[#reply + 1] = epoch
  reply[#reply + 1] = top
  reply[#reply + 1] = at
end
return reply
