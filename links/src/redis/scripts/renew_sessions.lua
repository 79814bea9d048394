#!lua
-- Keeps sessions for longer, unless somebody has claimed them since.
--
-- KEYS  sessions
-- ARGV  1 holder, then for each session: number of the holder's claim, how long it is kept, in ms
-- Reply for each session: 1, 0 if it is somebody else's or has ended, -1 if nothing is known of it
local reply = {}
for i = 1, #KEYS do
  local s = redis.call('HMGET', KEYS[i], 'f', 'h')
  if not s[1] then
    reply[i] = -1
  elseif tonumber(s[1]) == tonumber(ARGV[2 * i]) and s[2] == ARGV[1] then
    redis.call('PEXPIRE', KEYS[i], ARGV[2 * i + 1])
    reply[i] = 1
  else
    reply[i] = 0
  end
end
return reply
