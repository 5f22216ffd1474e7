-- KEYS: entry, token. ARGV: the token, or '' for a write that needs none; the record; its life in ms.
if ARGV[1] ~= '' then
  local held = redis.call('GET', KEYS[2])
  if not held or string.sub(held, 1, 16) ~= ARGV[1] then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
