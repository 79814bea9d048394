-- What Redis gives its scripts, as far as the model has it. `host.invoke` is set before each run: it executes a command
-- and returns whether that failed, and what it answered.
local host, redis = {}, {}

function redis.call(...)
  local failed, reply = host.invoke(...)
  if failed then error(reply, 0) end
  return reply
end

function redis.pcall(...)
  local _, reply = host.invoke(...)
  return reply
end

function redis.error_reply(text)
  if string.sub(text, 1, 1) == '-' then text = string.sub(text, 2) end
  if not string.find(text, ' ', 1, true) then text = 'ERR ' .. text end
  return {err = text}
end

function redis.status_reply(text)
  return {ok = text}
end

host.redis = redis
host.run = pcall

-- What is not there is an error, and nothing can be left behind.
local globals = _G
globals.redis = redis
for _, name in ipairs({'print', 'dofile', 'loadfile', 'require', 'module', 'package', 'collectgarbage'}) do
  globals[name] = nil
end
setmetatable(globals, {
  __index = function(_, name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
  end,
  __newindex = function()
    error('Attempt to modify a readonly table', 2)
  end,
})
return host
