-- One token bucket that is refilled evenly, by the server's clock: what most limits are, without the loops
-- of decide.lua. It keeps the same text, so each reads what the other wrote.
--
-- KEYS[1]  the key: "unit seen level before"
-- ARGV     unit, gain, most, ceiling, step, permits, the least that is worth taking
-- Gives    how many were granted, what is owed, and by how much the clock is behind what was seen
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local unit, gain = tonumber(ARGV[1]), tonumber(ARGV[2])
local seen, level, stepped = now, 0, false
local text = redis.call('GET', KEYS[1])
if text then
    local was, moment, owed = string.match(text, '^(%-?%d+) (%d+) (%d+)')
    was = tonumber(was or 0)
    if was > 0 then
        seen, level = tonumber(moment), tonumber(owed)
        if was ~= unit then
            level = math.min(math.ceil(level * unit / was), tonumber(ARGV[4]))
        end
        if now >= seen then
            level = level - (now - seen) * gain
            if level < 0 then level = 0 end
            seen = now
        elseif seen - now > tonumber(ARGV[5]) then
            -- Another clock that is behind: from now on it is the one that counts.
            seen, stepped = now, true
        end
    end
end
local granted = math.floor((ARGV[3] - level) / unit)
local permits = tonumber(ARGV[6])
if granted > permits then granted = permits end
if granted < tonumber(ARGV[7]) then granted = 0 end
if granted > 0 or stepped then
    level = level + granted * unit
    local life = 1000 + math.ceil(math.ceil(level / gain) / 1000)
    redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f 0', unit, seen, level), 'PX', life)
end
return { granted, level, seen - now }
