-- KEYS: entry, token. ARGV: 'r' to read the entry where there is one, 'c' for a token whatever is there, 'w' to
-- remove what is there before; a new token; the life of tokens in ms.
-- An entry: {its life left in ms, its bytes, nothing}. Else: {-1, the token, for how many ms it has been out, or -1}.
if ARGV[1] == 'r' then
  local entry = redis.call('GET', KEYS[1])
  if entry then
    return {redis.call('PTTL', KEYS[1]), entry, false}
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] == 'w' then
  redis.call('DEL', KEYS[1], KEYS[2])
end
local held = redis.call('GET', KEYS[2])
if held then
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
  local since = math.max(0, now - tonumber(string.sub(held, 17)))
  return {-1, string.sub(held, 1, 16), since}
end
redis.call('SET', KEYS[2], ARGV[2] .. string.format('%.0f', now), 'PX', ARGV[3])
return {-1, ARGV[2], -1}
