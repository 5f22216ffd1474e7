-- Pins a notice on a page, if it is in time, and reads the page, by the server's clock.
--
-- KEYS[1]  the page: a hash of member to "number pinned life body"; times in microseconds
-- ARGV     nothing, or: member, number, not after (microseconds), life (milliseconds), body, the
--          most members of a page
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local member, number = ARGV[1], tonumber(ARGV[2])
local notices, over, known, members = {}, {}, 0, 0
local held = redis.call('HGETALL', KEYS[1])
for at = 1, #held, 2 do
    local its, pinned, life, start = string.match(held[at + 1], '^(%d+) (%d+) (%d+) ()')
    local age = pinned and now - tonumber(pinned)
    -- One from the future was pinned by another clock: whoever lives pins it anew.
    if not age or age < 0 or age >= tonumber(life) then
        over[#over + 1] = held[at]
    else
        members = members + 1
        if held[at] == member then known = tonumber(its) end
        notices[#notices + 1] = { held[at], age, string.sub(held[at + 1], start) }
    end
end
local taken = 0
if member and now <= tonumber(ARGV[3]) and number > known and (known > 0 or members < tonumber(ARGV[6])) then
    taken = 1
end
for at = 1, #over do redis.call('HDEL', KEYS[1], over[at]) end
if taken == 1 then
    local life = tonumber(ARGV[4])
    if life == 0 then
        redis.call('HDEL', KEYS[1], member)
    else
        local whole = string.format('%.0f %.0f %.0f ', number, now, life * 1000) .. ARGV[5]
        redis.call('HSET', KEYS[1], member, whole)
        if redis.call('PTTL', KEYS[1]) < life then
            redis.call('PEXPIRE', KEYS[1], ARGV[4])
        end
    end
end
return { now, taken, notices }
