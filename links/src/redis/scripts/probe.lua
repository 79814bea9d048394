#!lua
-- Proves that this connection's Redis takes writes and delivers live messages to it.
--
-- KEYS  probe
-- ARGV  1 pub/sub channel of the own link  2 token
-- Reply listeners
redis.call('SET', KEYS[1], ARGV[2], 'PX', 60000)
return redis.call('SPUBLISH', ARGV[1], 'P' .. ARGV[2])
