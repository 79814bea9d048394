#!lua flags=no-writes
-- Tells which connections a user has.
--
-- KEYS  user
-- ARGV  1 nodes that count, with a ',' before and behind each  2 how long those of other nodes count, in ms  3 so many at most
-- Reply {how many count, name, info, name, …} in the order of names
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fields, infos, names = redis.call('HGETALL', KEYS[1]), {}, {}
for i = 1, #fields, 2 do
  local since, info = string.match(fields[i + 1], '^(%d+);(.*)$')
  local node = string.match(fields[i], '^[^.]*')
  if since and (string.find(ARGV[1], ',' .. node .. ',', 1, true) or tonumber(since) + ARGV[2] > now) then
    names[#names + 1] = fields[i]
    infos[fields[i]] = info
  end
end
table.sort(names)
local reply = {#names}
for i = 1, math.min(#names, tonumber(ARGV[3])) do
  reply[#reply + 1] = names[i]
  reply[#reply + 1] = infos[names[i]]
end
return reply
