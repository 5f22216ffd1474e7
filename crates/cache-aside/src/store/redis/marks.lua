-- KEYS: the marks of a space, a sorted set. ARGV: the longest life of an entry in ms, a random number, then what
-- to do: 'read', 'all' or 'tags'; then tags.
-- Its members: 'e' the epoch, 's' the last sequence, 'f' the floor, 't' and a tag: the tag's mark. Sequences
-- are the server's microseconds where those grow, so that marks older than any entry can be cut off.
-- Answer: epoch, sequence, floor, and for 'read' the mark of each tag.
local set, longest, what = KEYS[1], tonumber(ARGV[1]), ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local number = function(member)
  return tonumber(redis.call('ZSCORE', set, member) or nil)
end
local epoch, last, floor = number('e'), number('s'), number('f')
local begins = not (epoch and last and floor)
if begins then
  epoch, last, floor = tonumber(ARGV[2]), now, now
end
local answer = {}
local text = function(value)
  return string.format('%.0f', value)
end
local keep = function()
  redis.call('ZADD', set, text(epoch), 'e', text(last), 's', text(floor), 'f')
end
if what == 'read' then
  if begins then
    redis.call('DEL', set)
    keep()
  end
  answer = {text(epoch), text(last), text(floor)}
  for at = 4, #ARGV do
    answer[at] = text(number('t' .. ARGV[at]) or 0)
  end
else
  last = math.max(now, last + 1)
  if what == 'all' or begins then
    redis.call('DEL', set)
    floor = last
  else
    -- What is cut off is remembered by the floor: a slow loader may fill what it began before such a mark only now.
    local old = text(now - longest * 1000)
    local last_cut = redis.call('ZREVRANGEBYSCORE', set, old, '-inf', 'WITHSCORES', 'LIMIT', 0, 4)
    for at = 1, #last_cut, 2 do
      if string.sub(last_cut[at], 1, 1) == 't' then
        floor = math.max(floor, tonumber(last_cut[at + 1]))
      end
    end
    redis.call('ZREMRANGEBYSCORE', set, '-inf', old)
  end
  keep()
  for at = 4, #ARGV do
    redis.call('ZADD', set, text(last), 't' .. ARGV[at])
  end
  answer = {text(epoch), text(last), text(floor)}
end
redis.call('PEXPIRE', set, text(longest * 2))
return answer
