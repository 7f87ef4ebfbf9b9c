-- After LOST: record an attempt that SQL confirms as current, and append what its readers lack.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id   ARGV[6] attempt   ARGV[7] lease in ms
-- ARGV[8] epoch, ARGV[9] seq: the end of the log as the caller read it   ARGV[10...] events, if any
-- Reply: OK epoch first last (first = last + 1: nothing was appended)
--        | GONE | LOST: read again | FENCED | SEALED

local state, g = settle_answer(ARGV[5])
if not state then
  return {'GONE'}
end
local attempt = tonumber(ARGV[6])
if attempt < g.attempt then
  return {'FENCED'}
end
if g.sealed then
  return {'SEALED'}
end
-- `last` outlives claims, and counts in every epoch that shares events with this log.
g.last = shared(state, g.epoch) and g.last or 0
if ARGV[8] ~= state.epoch or g.last > tonumber(ARGV[9]) then
  return {'LOST'}
end
g.attempt, g.epoch, g.index, g.lease = attempt, state.epoch, 0, now + tonumber(ARGV[7])
g.floor = tonumber(call('ZSCORE', FLOORS, ARGV[5]) or state.top)
call('ZADD', FLOORS, whole(g.floor), ARGV[5])
local first = write(state, 10)
if first <= state.top then
  g.first, g.last = first, state.top
end
trim(state)
save_answer(state, g)
return {'OK', state.epoch, first, state.top}
