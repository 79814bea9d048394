#!lua
-- Begins a new epoch, whose numbers go on from those of the old one, and tells all who follow the channel. Appends of the
-- old one are forgotten: one that is repeated is made again.
--
-- KEYS  meta, log, document
-- ARGV  1 epoch found or '': nothing   2 offset found   3 new epoch   4 pub/sub channel   5 meta's life in ms if it has none
-- Reply {'ok'} | {'moved'} | {'moved', epoch, top}
local meta, log, document = KEYS[1], KEYS[2], KEYS[3]
local m = redis.call('HMGET', meta, 'e', 's')
local epoch, top = m[1], tonumber(m[2] or '0')
if epoch and (#epoch ~= 10 or not top) then return redis.error_reply('ERR not a channel of this version') end
if not epoch and ARGV[1] ~= '' then return {'moved'} end
if epoch and (epoch ~= ARGV[1] or top ~= tonumber(ARGV[2])) then return {'moved', epoch, top} end
local life = redis.call('PTTL', meta)
if life <= 0 then life = ARGV[5] end
if not epoch then redis.call('DEL', document) end
redis.call('DEL', meta, log)
local offset = string.format('%.0f', top)
redis.call('HSET', meta, 'e', ARGV[3], 's', offset)
redis.call('PEXPIRE', meta, life)
redis.call('SPUBLISH', ARGV[4], 'E' .. ARGV[3] .. ':' .. offset)
return {'ok'}
