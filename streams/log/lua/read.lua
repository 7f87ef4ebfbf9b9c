-- A consistent read of the log.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] epoch (empty: the current one)
-- ARGV[6] seq to read after   ARGV[7] most events
-- ARGV[8] most bytes of events (at least one event is returned)
-- Reply: OK epoch oldest top floor (empty: nothing runs) forks (see prelude.lua)
--        {first last block}... event... | GONE
-- Packed events come in whole blocks, so there may be more than requested, at both ends. An empty
-- block replaces blocks that cannot be read.

local state = settle('epoch')
if not state then
  return {'GONE'}
end
local lowest = call('ZRANGE', FLOORS, 0, 0, 'WITHSCORES')
local floor = lowest[2] and whole(tonumber(lowest[2])) or ''
local reply = {'OK', state.epoch, oldest(state), state.top, floor, state.forks}
local after, limit = tonumber(ARGV[6]), tonumber(ARGV[7])
local reaches = ARGV[5] == '' and state.top or shared(state, ARGV[5])
local served = reaches and after <= reaches and after >= oldest(state) - 1 and after < state.top
local room, at = tonumber(ARGV[8]), after
while served and limit > 0 and state.packed and at < state.packed.last do
  local block = block_of(at + 1)
  if not block then
    reply[#reply + 1] = {at + 1, state.packed.last, ''}
    return reply
  end
  room = room - block.bytes
  if room < 0 and at > after then
    return reply
  end
  reply[#reply + 1] = {block.first, block.last, block.data}
  limit, at = limit - (block.last - at), block.last
end
-- In small portions: XRANGE has no limit of bytes, and events beyond ours would be read again.
while served and limit > 0 do
  local page = call('XRANGE', LOG, whole(at + 1) .. '-0', '+', 'COUNT', math.min(limit, 32))
  for _, entry in ipairs(page) do
    local data = entry[2][2]
    room = room - #data
    if room < 0 and at > after then
      return reply
    end
    reply[#reply + 1] = data
    at = at + 1
  end
  limit = #page == 32 and limit - 32 or 0
end
return reply
