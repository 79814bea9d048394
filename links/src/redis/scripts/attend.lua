#!lua
-- Changes who is in a channel, and tells all who follow it what has changed. A member's field is its name; the value the
-- node whose it is, the moment at which it was put, by Redis' clock in milliseconds, with the time for which it is held, and
-- what is to be known of it, with ';' between. A change has the moment of it for its number, and the one before with it, so that
-- whoever misses one sees that it has, also if Redis has lost some and others have come since.
--
-- KEYS  presence
-- ARGV  1 pub/sub channel  2 node of those that come  3 epoch if nothing is known  4 members at most  5 '1': take away those
--       that do not count in any case  6 nodes that count, with a ',' before and behind each  7 how long those of other nodes
--       count, in ms  8 how long all is kept, in ms  9 how many are gone, then name, node, why of each; then name, for
--       how long it is held in ms, and what is to be known of each that has come
-- Reply {epoch, number, members, name of one that was refused, …}
local key, own, max = KEYS[1], ARGV[2], tonumber(ARGV[4])
local alive, grace = ARGV[6], tonumber(ARGV[7])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local m = redis.call('HMGET', key, 'e', 's', 'x')
local epoch, number, full = m[1], tonumber(m[2] or ''), m[3]
local found = not (epoch and #epoch == 10 and number)
if found then
  redis.call('DEL', key)
  epoch, number, full = ARGV[3], 0, false
end
local count = redis.call('HLEN', key) - (found and 0 or 2) - (full and 1 or 0)
local news, size, swept = {}, 0, false

local function tell(what)
  news[#news + 1] = what
  size = size + #what
end
local function take_away(name, why)
  redis.call('HDEL', key, name)
  count = count - 1
  tell('-' .. name .. why)
end
local function sweep()
  swept = true
  local fields, dead = redis.call('HGETALL', key), {}
  for i = 1, #fields, 2 do
    if #fields[i] == 36 then
      local node, since = string.match(fields[i + 1], '^(%x+);(%d+);')
      local counts = node and (node == own or string.find(alive, ',' .. node .. ',', 1, true) or tonumber(since) + grace > now)
      if not counts then dead[#dead + 1] = fields[i] end
    end
  end
  table.sort(dead)
  for _, name in ipairs(dead) do take_away(name, 'n') end
end

local come = 10 + 3 * ARGV[9]
for i = 10, come - 1, 3 do
  local value = redis.call('HGET', key, ARGV[i])
  if value and string.sub(value, 1, 17) == ARGV[i + 1] .. ';' then take_away(ARGV[i], ARGV[i + 2]) end
end
if ARGV[5] == '1' then sweep() end
local refused = {}
for i = come, #ARGV, 3 do
  local name, info = ARGV[i], ARGV[i + 2]
  local value = redis.call('HGET', key, name)
  if not value and count >= max and not swept then sweep() end
  if not value and count >= max then
    refused[#refused + 1] = name
  else
    local node, known = string.match(value or '', '^(%x+);%d+;(.*)$')
    if node ~= own or known ~= info then
      redis.call('HSET', key, name, own .. ';' .. string.format('%.0f', now + ARGV[i + 1]) .. ';' .. info)
      if not value then count = count + 1 end
      tell('+' .. name .. own .. string.format('%.0f', #info) .. ':' .. info)
    end
  end
end
local is_full = #refused > 0 or full and count >= max
if found or #news > 0 or is_full ~= (full and true) then
  local before = number
  number = math.max(number + 1, now)
  redis.call('HSET', key, 'e', epoch, 's', string.format('%.0f', number))
  if is_full then redis.call('HSET', key, 'x', '1') else redis.call('HDEL', key, 'x') end
  local body = size <= 262144 and table.concat(news) or '!'
  local head = 'M' .. epoch .. ':' .. string.format('%.0f:%.0f', before, number) .. ':' .. (is_full and '1' or '0') .. ':'
  redis.call('SPUBLISH', ARGV[1], head .. body)
end
redis.call('PEXPIRE', key, ARGV[8])
local reply = {epoch, number, count}
for _, name in ipairs(refused) do reply[#reply + 1] = name end
return reply
