#!lua flags=no-writes
-- Reads what is kept of a channel.
--
-- KEYS  meta, log, document
-- ARGV  1 number behind which to begin  2 bytes of records at most, but one entry
-- Reply {} | {epoch, top, document's number, number of the last healing or 0, document or '',
--       '1' if there is more, last, count, records, last, …}
local m = redis.call('HMGET', KEYS[1], 'e', 's', 'g')
local epoch, top = m[1], tonumber(m[2] or '0')
if not epoch then return {} end
if #epoch ~= 10 or not top then return redis.error_reply('ERR not a channel of this version') end
local d = redis.call('HMGET', KEYS[3], 'o', 'v')
local reply = {epoch, top, tonumber(d[1] or '0') or 0, tonumber(m[3] or '0') or 0, d[2] or '', '0'}
local after, left = tonumber(ARGV[1]), tonumber(ARGV[2])
while after < top do
  -- What is beyond the top was left by a step that broke off, and told to nobody.
  local entries = redis.call('XRANGE', KEYS[2], string.format('%.0f', after + 1), string.format('%.0f', top), 'COUNT', 16)
  for _, entry in ipairs(entries) do
    local last, fields = tonumber(string.match(entry[1], '^%d+')), entry[2]
    local count = #fields == 2 and string.match(fields[1], '^%d+$') and tonumber(fields[1]) or 0
    after = last
    if count >= 1 and count <= last and count <= 4294967295 then
      left = left - #fields[2]
      if left < 0 and #reply > 6 then
        reply[6] = '1'
        return reply
      end
      reply[#reply + 1] = last
      reply[#reply + 1] = count
      reply[#reply + 1] = fields[2]
    end
  end
  if #entries < 16 then break end
end
return reply
