#!lua
-- Tells all nodes something that matters now only.
--
-- KEYS  control (names the slot)
-- ARGV  1 pub/sub channel  2 message
-- Reply listeners
return redis.call('SPUBLISH', ARGV[1], 'T' .. ARGV[2])
