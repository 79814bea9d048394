#!lua
-- Keeps a session as its holder has it, unless somebody has claimed it since, or it has ended.
--
-- KEYS  session
-- ARGV  1 number of the holder's claim  2 holder  3 '1': a connection has it  4 its user, behind a '=', or ''  5 how long it
--       waits for its client, in ms  6 when it began, in ms  7 how long it is kept, in ms  8 what is to be known of it
-- Reply {'ok'} | {'lost'}
local s = redis.call('HMGET', KEYS[1], 'f', 'h')
local claim, own = tonumber(s[1] or '0') or 0, tonumber(ARGV[1])
if claim > own or claim == own and s[2] ~= ARGV[2] then return {'lost'} end
redis.call('HSET', KEYS[1], 'f', ARGV[1], 'h', ARGV[2], 'a', ARGV[3], 'u', ARGV[4], 'w', ARGV[5], 'b', ARGV[6], 'r', ARGV[8])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
return {'ok'}
