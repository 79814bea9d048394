#!lua
-- Renews a node's lease, by Redis' clock, and tells who has one. Leases that are over are taken away and told to whoever
-- comes first.
--
-- KEYS  leases, nodes
-- ARGV  1 node  2 lease in ms  3 what it says of itself  4 '1': it has no lease yet
-- Reply {'ok', {node, info, …}, {node that has gone, …}} | {'lost'}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expiry = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0')
if ARGV[4] ~= '1' and expiry <= now then return {'lost'} end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
for _, node in ipairs(gone) do
  redis.call('ZREM', KEYS[1], node)
  redis.call('HDEL', KEYS[2], node)
end
local there = {}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')) do
  there[#there + 1] = node
  there[#there + 1] = redis.call('HGET', KEYS[2], node) or '{}'
end
return {'ok', there, gone}
