#!lua flags=no-writes
-- Reads what all nodes were told, in its order.
--
-- KEYS  control
-- ARGV  1 id behind which to begin, '0-0': at the beginning  2 entries at most
-- Reply {newest id or '0-0', '1' if there is more, id, command, id, …}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local reply, after, left = {newest[1] and newest[1][1] or '0-0', '0'}, ARGV[1], tonumber(ARGV[2])
while true do
  local entries = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', 64)
  for _, entry in ipairs(entries) do
    local id, fields = entry[1], entry[2]
    if #fields == 2 and (tonumber(fields[1]) or 0) > now then
      if left == 0 then
        reply[2] = '1'
        return reply
      end
      left = left - 1
      reply[#reply + 1] = id
      reply[#reply + 1] = fields[2]
    end
    after = id
  end
  if #entries < 64 then return reply end
end
