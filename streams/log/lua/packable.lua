-- The oldest unpacked events that no running answer needs, for `pack.lua`.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] most events
-- ARGV[6] most bytes of events (at least one event is returned)
-- Reply: OK epoch first event... | GONE

local state = settle('epoch')
if not state then
  return {'GONE'}
end
local reply = {'OK', state.epoch, state.oldest}
local lowest = call('ZRANGE', FLOORS, 0, 0, 'WITHSCORES')
local highest = lowest[2] and math.min(tonumber(lowest[2]), state.top) or state.top
if state.oldest > highest then
  return reply
end
local room = tonumber(ARGV[6])
for at, entry in ipairs(call('XRANGE', LOG, '-', whole(highest) .. '-0', 'COUNT', ARGV[5])) do
  room = room - #entry[2][2]
  if room < 0 and at > 1 then
    return reply
  end
  reply[#reply + 1] = entry[2][2]
end
return reply
