-- KEYS: token, lease. ARGV: the fill token, the holder, the term in ms, the life of tokens in ms.
-- A lease is the fill token and its holder; a holder of zeros says that nobody waits.
-- Answer: -1 ours, -2 the token does not stand, -3 open, else how many ms of another's term are left.
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 1, 16) ~= ARGV[1] then
  return -2
end
local mine = ARGV[1] .. ARGV[2]
local lease = redis.call('GET', KEYS[2])
if lease and lease ~= mine and string.sub(lease, 1, 16) == ARGV[1] then
  if string.sub(lease, 17) == string.rep('\0', 16) then
    return -3
  end
  return math.max(1, redis.call('PTTL', KEYS[2]))
end
redis.call('SET', KEYS[2], mine, 'PX', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return -1
