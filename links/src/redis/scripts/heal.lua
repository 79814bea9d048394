#!lua
-- Puts back what was lost.
--
-- KEYS  meta, log, document
-- ARGV  1 epoch found or '': nothing   2 offset found   3 epoch from now on   4 offset from now on
--       5 messages to keep   6 log's life in ms   7 meta's life in ms
--       8 document's number, 0: none   9 document   10 live channel
--       11 id of the message of the offset from now on, or ''   12 number of the healing
--       then for each entry: its last number, messages in it, records, writer or '', number of the append
-- Reply {'ok'} | {'moved'} | {'moved', epoch, top}
local meta, log, document = KEYS[1], KEYS[2], KEYS[3]
local to, keep = tonumber(ARGV[4]), tonumber(ARGV[5])
local m = redis.call('HMGET', meta, 'e', 's')
local epoch, top = m[1], tonumber(m[2] or '0')
if epoch and (#epoch ~= 10 or not top) then return redis.error_reply('ERR not a channel of this version') end
if not epoch and ARGV[1] ~= '' then return {'moved'} end
if epoch and (epoch ~= ARGV[1] or top ~= tonumber(ARGV[2]) or epoch == ARGV[3] and top > to) then
  return {'moved', epoch, top}
end
local at = tonumber(redis.call('HGET', document, 'o') or '0') or 0

local same = epoch == ARGV[3]
if not same then
  redis.call('DEL', meta, log)
  top = 0
end
if keep > 0 then
  local oldest, fresh = math.max(to - keep + 1, 1), false
  for _ = 1, 2 do
    local refused
    for i = 13, #ARGV, 5 do
      local last = tonumber(ARGV[i])
      if last >= oldest and (fresh or last > top) then
        local added = redis.pcall('XADD', log, 'MINID', string.format('%.0f', oldest), ARGV[i], ARGV[i + 1], ARGV[i + 2])
        if type(added) == 'table' and added.err then
          refused = added
          break
        end
      end
    end
    if not refused then break end
    if fresh or not string.find(refused.err, 'smaller', 1, true) then return refused end
    -- Ahead of the numbers: left by a step that broke off before anybody was told.
    redis.call('DEL', log)
    fresh = true
  end
  redis.call('PEXPIRE', log, ARGV[6])
end
redis.call('HSET', meta, 'e', ARGV[3], 's', ARGV[4], 'h', ARGV[4], 'g', ARGV[12])
for i = 13, #ARGV, 5 do
  local writer = ARGV[i + 3]
  if writer ~= '' then
    local made = string.match(redis.call('HGET', meta, writer) or '', '^(%d+):')
    if not made or tonumber(made) < tonumber(ARGV[i + 4]) then
      local first = string.format('%.0f', tonumber(ARGV[i]) - tonumber(ARGV[i + 1]) + 1)
      redis.call('HSET', meta, writer, ARGV[i + 4] .. ':' .. first)
    end
  end
end
redis.call('PEXPIRE', meta, ARGV[7])
local given = tonumber(ARGV[8])
if given > 0 and (given > at or at > to) then
  redis.call('HSET', document, 'o', ARGV[8], 'v', ARGV[9])
elseif at > to then
  redis.call('DEL', document)
end
redis.call('PEXPIRE', document, ARGV[7])
redis.call('SPUBLISH', ARGV[10], 'H' .. ARGV[3] .. ':' .. ARGV[4] .. ':' .. ARGV[12] .. ':' .. ARGV[11])
return {'ok'}
