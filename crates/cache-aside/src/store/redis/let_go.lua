-- KEYS: lease. ARGV: the fill token, the holder, for how many ms nobody is to wait; zero hands it on.
if redis.call('GET', KEYS[1]) ~= ARGV[1] .. ARGV[2] then
  return 0
end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1] .. string.rep('\0', 16), 'PX', ARGV[3])
end
return 1
