#!lua
-- A node is gone.
--
-- KEYS  leases, nodes
-- ARGV  1 node
-- Reply 1, or 0 if it had no lease
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])
