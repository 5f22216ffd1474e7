-- One decision over all bandwidths of a key, by the server's clock. The same arithmetic as the machine's
-- slots, in doubles: all numbers stay below 2^53, so they are whole.
--
-- KEYS[1]  the key: "unit seen level before" of each bandwidth, with spaces between
-- ARGV     what (t ake, p eek, f orce, g ive back), permits, the least that is worth taking, and of each
--          bandwidth: unit, length, gain, most, ceiling, step. A negative unit is a sliding window.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local what, permits, least = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local held = {}
local text = redis.call('GET', KEYS[1])
if text then
    for number in string.gmatch(text, '%-?%d+') do held[#held + 1] = tonumber(number) end
end

local bands, free, stepped = {}, permits, false
for at = 0, (#ARGV - 3) / 6 - 1 do
    local function number(n) return tonumber(ARGV[at * 6 + 3 + n]) end
    local unit, length, gain, most, step = number(1), number(2), number(3), number(4), number(6)
    local was, seen, level, before =
        held[at * 4 + 1] or unit, held[at * 4 + 2] or 0, held[at * 4 + 3] or 0, held[at * 4 + 4] or 0
    if was ~= unit then
        if was > 0 and unit > 0 then
            level, before = math.min(math.ceil(level * unit / was), number(5)), 0
        else
            seen, level, before = 0, 0, 0
        end
    end
    local left
    if unit > 0 then
        if now >= seen then
            local steps = ((now - now % length) - (seen - seen % length)) / length
            level, seen = math.max(0, level - steps * gain), now
        elseif seen - now > step then
            seen, stepped = now, true
        end
        before = 0
        left = math.floor(math.max(0, most - level) / unit)
    else
        local window = (now - now % length) / length
        if window == seen + 1 then
            seen, level, before = window, 0, level
        elseif window > seen then
            seen, level, before = window, 0, 0
        elseif seen - window > step then
            seen, stepped = window, true
        end
        local elapsed = math.max(0, now - seen * length)
        left = math.max(0, math.floor((most * length - before * (length - elapsed)) / length) - level)
    end
    free = math.min(free, left)
    bands[at + 1] = { unit = unit, seen = seen, level = level, before = before, ceiling = number(5) }
end

local granted = 0
if what == 't' then
    granted = free >= least and free or 0
elseif what == 'f' then
    granted = permits
end
local reply, parts = { granted, now }, {}
for _, band in ipairs(bands) do
    local cost = math.max(band.unit, 1)
    if what == 'g' then
        band.level = math.max(0, band.level - permits * cost)
    else
        band.level = math.min(band.ceiling, band.level + granted * cost)
    end
    for _, number in ipairs({ band.unit, band.seen, band.level, band.before }) do
        reply[#reply + 1] = number
        parts[#parts + 1] = string.format('%.0f', number)
    end
end
-- Another clock that is behind: from now on it is the one that counts, so that is kept as well.
if granted > 0 or what == 'g' or (stepped and what ~= 'p') then
    local life = 1000
    for at, band in ipairs(bands) do
        local length, gain = tonumber(ARGV[at * 6 - 1]), tonumber(ARGV[at * 6])
        local micros
        if band.unit > 0 then
            micros = math.ceil(band.level / gain) * length
        else
            micros = 2 * length
        end
        life = math.max(life, 1000 + math.ceil(micros / 1000))
    end
    redis.call('SET', KEYS[1], table.concat(parts, ' '), 'PX', string.format('%.0f', life))
end
return reply
