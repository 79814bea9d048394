#!lua
-- Tells all nodes something, and keeps it for those that are away. An entry's field is the time, by Redis' clock, until
-- which it is kept.
--
-- KEYS  control
-- ARGV  1 pub/sub channel  2 command  3 how long it is kept, in ms
-- Reply {'ok', id, listeners} | {'full'}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 32)
local over = 0
while over < #oldest and (tonumber(oldest[over + 1][2][1]) or 0) <= now do over = over + 1 end
if redis.call('XLEN', KEYS[1]) - over >= 100000 then return {'full'} end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local before = newest[1] and newest[1][1] or '0-0'
local life = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[3]))
local id = redis.call('XADD', KEYS[1], '*', string.format('%.0f', now + ARGV[3]), ARGV[2])
for i = 1, over do redis.call('XDEL', KEYS[1], oldest[i][1]) end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', life))
return {'ok', id, redis.call('SPUBLISH', ARGV[1], 'C' .. before .. ':' .. id .. ':' .. ARGV[2])}
