#!lua
-- Numbers messages, keeps them, and tells all who follow the channel.
--
-- KEYS  meta, log, document [, once] [, owner of a queue, queue]
-- ARGV   1 writer            2 number of the append    3 messages in it       4 records
--        5 candidate epoch   6 messages to keep        7 log's life in ms     8 meta's life in ms
--        9 pub/sub channel  10 known epoch or ''      11 known offset        12 '1': renew lives
--       13 document or ''   14 wanted document's number or ''               15 wanted epoch or ''
--       16 digest           17 life of the key in ms         18 who has taken it from the queue or ''
--       19 which entry it was
--       20 '', or of an append of unknown outcome: the number up to which the writer has seen all messages
--       21 '', or the number of the document that this one was made of, 0: of none            22 its epoch or ''
-- Reply  {'ok', epoch, first, listeners} | {'seen', epoch, first} | {'behind'} | {'behind', epoch, top} |
--        {'healed'} | {'state'} | {'key'} | {'owner'} | {'gone'} |
--        {'other'} | {'other', epoch, number of the document that there is, document}
local meta, log, document, once = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local owner, queue
if ARGV[18] ~= '' then
  owner, queue = KEYS[#KEYS - 1], KEYS[#KEYS]
  if #KEYS == 5 then once = nil end
end
local writer, seq, count, records = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local keep, channel, state = tonumber(ARGV[6]), ARGV[9], ARGV[13]

if once then
  local seen = redis.call('GET', once)
  if seen then
    local digest, epoch, first = string.match(seen, '^(%w+):(%w+):(%d+)$')
    if not digest then return redis.error_reply('ERR not a key of this version') end
    if digest ~= ARGV[16] then return {'key'} end
    return {'seen', epoch, tonumber(first)}
  end
end

local m = redis.call('HMGET', meta, 'e', 's', 'h', writer)
local epoch, top, healed, last = m[1], tonumber(m[2] or '0'), tonumber(m[3] or '0'), m[4]
if epoch and (#epoch ~= 10 or not top) then return redis.error_reply('ERR not a channel of this version') end
if last then
  local made, first = string.match(last, '^(%d+):(%d+)$')
  if not made then return redis.error_reply('ERR not a writer of this version') end
  if seq <= tonumber(made) then return {'seen', epoch, tonumber(first)} end
end
if queue then
  if redis.call('GET', owner) ~= ARGV[18] then return {'owner'} end
  if #redis.call('XRANGE', queue, ARGV[19], ARGV[19]) == 0 then return {'gone'} end
end
if ARGV[10] ~= '' and (epoch ~= ARGV[10] or top < tonumber(ARGV[11])) then
  if not epoch then return {'behind'} end
  return {'behind', epoch, top}
end
-- What is repeated may be among messages that were put back, and then its writer is not known any more.
if ARGV[20] ~= '' and (healed or 0) > tonumber(ARGV[20]) then return {'healed'} end
if ARGV[14] ~= '' or state ~= '' or ARGV[21] ~= '' then
  -- Without numbers there is no document either: what may lie there is of an epoch that is gone.
  local at = epoch and tonumber(redis.call('HGET', document, 'o') or '0') or 0
  if ARGV[14] ~= '' and at ~= tonumber(ARGV[14]) then return {'state'} end
  if ARGV[15] ~= '' and epoch ~= ARGV[15] then return {'state'} end
  if ARGV[21] ~= '' and (at ~= tonumber(ARGV[21]) or at > 0 and epoch ~= ARGV[22]) then
    if at == 0 then return {'other'} end
    return {'other', epoch, at, redis.call('HGET', document, 'v') or '{}'}
  end
end
local new = top + count
if new > 99999999999999 then return redis.error_reply('ERR numbers are used up') end

local found = not epoch
if found then
  epoch = ARGV[5]
  redis.call('DEL', log, document)
end
local first, id = string.format('%.0f', top + 1), string.format('%.0f', new)
if keep > 0 then
  local oldest = string.format('%.0f', math.max(new - keep + 1, 0))
  local added = redis.pcall('XADD', log, 'NOMKSTREAM', 'MINID', oldest, id, ARGV[3], records)
  if type(added) == 'table' and added.err then
    if not string.find(added.err, 'smaller', 1, true) then return added end
    -- Ahead of the numbers: left by a step that broke off before anybody was told.
    redis.call('DEL', log)
    added = false
  end
  if not added then
    redis.call('XADD', log, id, ARGV[3], records)
    redis.call('PEXPIRE', log, ARGV[7])
  end
end
redis.call('HSET', meta, 'e', epoch, 's', id, writer, ARGV[2] .. ':' .. first)
if state ~= '' then
  redis.call('HSET', document, 'o', id, 'v', state)
  redis.call('PEXPIRE', document, ARGV[8])
end
if found or ARGV[12] == '1' then
  redis.call('PEXPIRE', meta, ARGV[8])
  if keep > 0 then redis.call('PEXPIRE', log, ARGV[7]) end
  if state == '' then redis.call('PEXPIRE', document, ARGV[8]) end
end
if queue then redis.call('XDEL', queue, ARGV[19]) end
if once then redis.call('SET', once, ARGV[16] .. ':' .. epoch .. ':' .. first, 'PX', ARGV[17]) end

-- The number of writers is bounded: of more than 256 the 64 go whose last append is the oldest.
if not last and redis.call('HLEN', meta) > 260 then
  local fields, writers = redis.call('HGETALL', meta), {}
  for i = 1, #fields, 2 do
    local at = string.match(fields[i + 1], '^%d+:(%d+)$')
    if #fields[i] > 1 then writers[#writers + 1] = {fields[i], tonumber(at or '0')} end
  end
  table.sort(writers, function(a, b) return a[2] < b[2] or a[2] == b[2] and a[1] < b[1] end)
  for i = 1, 64 do redis.call('HDEL', meta, writers[i][1]) end
end

local head = epoch .. ':' .. first .. ':' .. ARGV[3] .. ':'
local message
if keep > 0 and #records + #state > 262144 then
  message = 'N' .. head
elseif state ~= '' then
  message = 'D' .. head .. #state .. ':' .. state .. records
else
  message = 'A' .. head .. records
end
return {'ok', epoch, top + 1, redis.call('SPUBLISH', channel, message)}
