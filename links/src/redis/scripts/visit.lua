#!lua
-- Changes which connections a user has. A field's value is the moment at which it was put, by Redis' clock in milliseconds,
-- a ';' and what is to be known of the connection.
--
-- KEYS  user
-- ARGV  1 connections at most or ''  2 '1': take away those that do not count in any case  3 nodes that count, with a ','
--       before and behind each  4 how long those of other nodes count, in ms  5 how long all is kept, in ms
--       6 how many are gone, then their names; then name and info of each that is there
-- Reply {entered: 1 or 0, connections}
local user, max, alive, grace = KEYS[1], tonumber(ARGV[1]), ARGV[3], tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local come = 7 + ARGV[6]
for i = 7, come - 1 do redis.call('HDEL', user, ARGV[i]) end

local function sweep()
  local fields = redis.call('HGETALL', user)
  for i = 1, #fields, 2 do
    local node, since = string.match(fields[i], '^[^.]*'), tonumber(string.match(fields[i + 1], '^%d+') or '0')
    if not string.find(alive, ',' .. node .. ',', 1, true) and since + grace <= now then
      redis.call('HDEL', user, fields[i])
    end
  end
end
local function after()
  local count = redis.call('HLEN', user)
  for i = come, #ARGV, 2 do count = count + 1 - redis.call('HEXISTS', user, ARGV[i]) end
  return count
end

if ARGV[2] == '1' then sweep() end
local entered = 1
if come <= #ARGV and max then
  if after() > max and ARGV[2] ~= '1' then sweep() end
  if after() > max then entered = 0 end
end
if entered == 1 then
  local put = string.format('%.0f', now) .. ';'
  for i = come, #ARGV, 2 do redis.call('HSET', user, ARGV[i], put .. ARGV[i + 1]) end
end
redis.call('PEXPIRE', user, ARGV[5])
return {entered, redis.call('HLEN', user)}
