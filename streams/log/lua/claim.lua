-- Take an answer for a new attempt.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id   ARGV[6] attempt in SQL   ARGV[7] lease in ms
-- ARGV[8] 1: end a cancelled answer if its holder has not stopped in time; else 0
-- Reply: OK epoch attempt | GONE | SEALED | BUSY

local state, g = settle_answer(ARGV[5])
if not state then
  return {'GONE'}
end
if g.sealed then
  return {'SEALED'}
end
if leased(g) and not (ARGV[8] == '1' and disobeys(ARGV[5])) then
  return {'BUSY'}
end
if g.by ~= '' then
  if ARGV[8] == '1' or disobeys(ARGV[5]) then
    be_patient(ARGV[5], ENDING, true)
  else
    told_to_stop(ARGV[5])
  end
end
g.attempt = math.max(g.attempt, tonumber(ARGV[6])) + 1
-- `last` stays: adopt.lua compares it with what its caller has read. It is ignored in a log that
-- began again.
g.last = shared(state, g.epoch) and g.last or 0
g.index, g.first, g.lease = 0, 0, now + tonumber(ARGV[7])
-- A recorded floor belongs to an earlier attempt of this answer: SQL does not hold its text yet.
local floor = call('ZSCORE', FLOORS, ARGV[5])
g.epoch, g.floor = state.epoch, tonumber(floor or state.top)
call('ZADD', FLOORS, whole(g.floor), ARGV[5])
save_answer(state, g)
forget(state)
return {'OK', state.epoch, g.attempt}
