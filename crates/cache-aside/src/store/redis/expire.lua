-- KEYS: entry, token. An entry begins with its life and the part of it that is fresh, in ms, as two big-endian
-- numbers of eight bytes: what is left when it turns stale is the difference.
redis.call('DEL', KEYS[2])
local head = redis.call('GETRANGE', KEYS[1], 0, 15)
if #head < 16 then
  redis.call('DEL', KEYS[1])
  return 0
end
local life, fresh = struct.unpack('>I8I8', head)
local stale = math.floor(life - fresh)
if stale <= 0 then
  redis.call('DEL', KEYS[1])
elseif redis.call('PTTL', KEYS[1]) > stale then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', stale))
end
return 1
