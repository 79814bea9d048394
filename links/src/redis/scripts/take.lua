#!lua
-- Takes entries out of a queue into which others write what is to be published, if it is this owner's or nobody's, and then
-- it is this owner's. Entries stay until they are done with, so that whoever comes next begins with them.
--
-- KEYS  owner, queue, unfit entries [, list whose elements go into the queue]
-- ARGV  1 who takes  2 for how long it is his, in ms  3 id behind which to begin  4 entries at most  5 bytes at most
--       6 bytes of an entry at most  7 '1': it is nobody's from now on  8 how many are done with, then their ids; then id and
--       cause of each that is unfit
-- Reply {'other', for how long in ms} | {'ok', how many there are, for how long the first in ms, entry, …}; an entry is
--       {id, {field, value, …}}, or {id} if it is too long
local owner, queue, dead, list = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local me, lease, most, room = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])
local now = redis.call('GET', owner)
if now and now ~= me then return {'other', math.max(redis.call('PTTL', owner), 0)} end
-- Looked at first: what follows cannot fail then. A key of another type ends the script here.
local length = redis.call('XLEN', queue)
redis.call('XLEN', dead)
local left = list and redis.call('LLEN', list) or 0
if not now or redis.call('PTTL', owner) < lease * 3 / 4 then redis.call('SET', owner, me, 'PX', ARGV[2]) end

local function weight(fields)
  local sum = 0
  for i = 1, #fields do sum = sum + #fields[i] end
  return sum
end

local first = 9 + ARGV[8]
for i = 9, first - 1 do length = length - redis.call('XDEL', queue, ARGV[i]) end
for i = first, #ARGV, 2 do
  local entry = redis.call('XRANGE', queue, ARGV[i], ARGV[i])[1]
  if entry then
    local kept, cut = {'reason', ARGV[i + 1], 'entry', ARGV[i]}, weight(entry[2]) > 65536
    for at = 1, math.min(#entry[2], 32) do
      kept[#kept + 1] = cut and string.sub(entry[2][at], 1, 1024) or entry[2][at]
    end
    redis.call('XADD', dead, 'MAXLEN', 1000, '*', unpack(kept))
    length = length - redis.call('XDEL', queue, ARGV[i])
  end
end
if ARGV[7] == '1' then
  redis.call('DEL', owner)
  most = 0
end

-- Elements of the list get names, a few at a time and not too many, so that a step stays short.
local moved = 0
while most > 0 and left > 0 and length < 256 and moved < room do
  local elements = redis.call('LRANGE', list, -8, -1)
  for i = #elements, 1, -1 do
    redis.call('XADD', queue, '*', 'v', elements[i])
    moved = moved + #elements[i]
  end
  redis.call('LTRIM', list, 0, -#elements - 1)
  left, length = left - #elements, length + #elements
end

local time = redis.call('TIME')
local oldest, lag = redis.call('XRANGE', queue, '-', '+', 'COUNT', 1)[1], 0
if oldest then
  local since = tonumber(string.match(oldest[1], '^%d+'))
  lag = math.min(math.max(time[1] * 1000 + math.floor(time[2] / 1000) - since, 0), 99999999999999)
end
local reply, after, taken = {'ok', length + left, lag}, ARGV[3], 0
while most > 0 and room > 0 do
  local count = math.min(most, 8)
  local entries = redis.call('XRANGE', queue, '(' .. after, '+', 'COUNT', count)
  for _, entry in ipairs(entries) do
    local bytes = weight(entry[2])
    if bytes > tonumber(ARGV[6]) then
      reply[#reply + 1] = {entry[1]}
    else
      reply[#reply + 1] = entry
      room = room - bytes
    end
    after, most = entry[1], most - 1
  end
  if #entries < count then break end
end
return reply
