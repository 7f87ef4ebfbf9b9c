-- Take an answer for a new attempt.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id   ARGV[6] attempt in SQL   ARGV[7] lease in ms
-- ARGV[8] 1: to end a cancelled answer, whose holder is not waited for without end; else 0
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
-- `last` stays: whoever folds the log compares it with what it has seen (adopt.lua). In a log that began again it means nothing.
g.last = shared(state, g.epoch) and g.last or 0
g.index, g.first, g.lease = 0, 0, now + tonumber(ARGV[7])
-- A floor on record belongs to an earlier attempt of this answer, whose text SQL does not hold yet.
local floor = call('ZSCORE', FLOORS, ARGV[5])
g.epoch, g.floor = state.epoch, tonumber(floor or state.top)
call('ZADD', FLOORS, whole(g.floor), ARGV[5])
save_answer(state, g)
forget(state)
return {'OK', state.epoch, g.attempt}
