#!lua flags=no-writes
-- Tells who is in a channel.
--
-- KEYS  presence
-- ARGV  1 epoch and  2 number of the last change that is known, or ''  3 nodes that count, with a ',' before and behind each
--       4 how long those of other nodes count, in ms  5 bytes at most, but one member
-- Reply {} | {epoch, number, '1' if members were refused} | the same with '1' if some do not count, '1' if there are more,
--       and name, node, what is to be known of each, in the order of names
local m = redis.call('HMGET', KEYS[1], 'e', 's', 'x')
local epoch, number = m[1], tonumber(m[2] or '')
if not (epoch and #epoch == 10 and number) then return {} end
local reply = {epoch, number, m[3] and '1' or '0'}
if epoch == ARGV[1] and m[2] == ARGV[2] then return reply end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fields, names, nodes, infos = redis.call('HGETALL', KEYS[1]), {}, {}, {}
reply[4], reply[5] = '0', '0'
for i = 1, #fields, 2 do
  local name = fields[i]
  if #name == 36 then
    local node, since, info = string.match(fields[i + 1], '^(%x+);(%d+);(.*)$')
    if node and (string.find(ARGV[3], ',' .. node .. ',', 1, true) or tonumber(since) + ARGV[4] > now) then
      names[#names + 1] = name
      nodes[name], infos[name] = node, info
    else
      reply[4] = '1'
    end
  end
end
table.sort(names)
local left = tonumber(ARGV[5])
for i, name in ipairs(names) do
  left = left - #infos[name] - 52
  if left < 0 and i > 1 then
    reply[5] = '1'
    break
  end
  reply[#reply + 1] = name
  reply[#reply + 1] = nodes[name]
  reply[#reply + 1] = infos[name]
end
return reply
