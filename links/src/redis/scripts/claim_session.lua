#!lua
-- Gives a session to whoever claims it, if it is that user's, and takes it from whoever had it. Each claim has a number higher
-- than the one before: by a lower one nobody changes anything any more.
--
-- KEYS  session
-- ARGV  1 holder  2 its user, behind a '=', or ''  3 for how much longer than it waits for its client it is kept, in ms
-- Reply {'unknown'} | {'other'}: it is another user's | {'ok', number of the claim, who had it, when it began in ms, what is to be known of it}
local s = redis.call('HMGET', KEYS[1], 'f', 'h', 'u', 'w', 'b', 'r')
-- One that has ended has no holder.
if not s[1] or not s[2] or s[2] == '' or not s[3] then return {'unknown'} end
if s[3] ~= ARGV[2] then return {'other'} end
local claim, wait, begun = tonumber(s[1]), tonumber(s[4] or ''), tonumber(s[5] or '')
if not claim or not wait or not begun or not s[6] then
  return redis.error_reply('ERR not a session of this version')
end
redis.call('HSET', KEYS[1], 'f', string.format('%.0f', claim + 1), 'h', ARGV[1], 'a', '1')
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', wait + ARGV[3]))
return {'ok', claim + 1, s[2], begun, s[6]}
