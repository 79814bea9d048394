#!lua
-- Ends a session, unless somebody has claimed it since. For a while it is known that it has ended: who had it before, and has
-- not heard of that, does not keep it anew.
--
-- KEYS  session
-- ARGV  1 number of the holder's claim  2 holder  3 how long that is known, in ms
-- Reply {'ok'} | {'lost'}
local s = redis.call('HMGET', KEYS[1], 'f', 'h')
local claim, own = tonumber(s[1] or '0') or 0, tonumber(ARGV[1])
if claim > own or claim == own and s[2] ~= ARGV[2] then return {'lost'} end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'f', string.format('%.0f', own + 1), 'h', '')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'ok'}
