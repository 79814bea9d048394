#!lua
-- Tells all who follow the channel, and keeps nothing. A script and not the bare command, which a replica or a full Redis
-- would take and lose.
--
-- KEYS  meta (names the slot)
-- ARGV  1 pub/sub channel  2 messages in it  3 records
-- Reply listeners
return redis.call('SPUBLISH', ARGV[1], 'X' .. ARGV[2] .. ':' .. ARGV[3])
