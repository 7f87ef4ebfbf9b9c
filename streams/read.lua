-- One consistent look at the log.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] epoch (empty: the current one)   ARGV[6] seq to read after   ARGV[7] most events
-- Reply: OK epoch oldest top floor (empty: nothing runs) event... | GONE

local state = settle('epoch')
if not state then
  return {'GONE'}
end
local lowest = call('ZRANGE', FLOORS, 0, 0, 'WITHSCORES')
local reply = {'OK', state.epoch, state.oldest, state.top, lowest[2] and whole(tonumber(lowest[2])) or ''}
local after, limit = tonumber(ARGV[6]), tonumber(ARGV[7])
local served = (ARGV[5] == '' or ARGV[5] == state.epoch) and after >= state.oldest - 1 and after < state.top
if served and limit > 0 then
  for _, entry in ipairs(call('XRANGE', LOG, whole(after + 1) .. '-0', '+', 'COUNT', limit)) do
    reply[#reply + 1] = entry[2][2]
  end
end
return reply
