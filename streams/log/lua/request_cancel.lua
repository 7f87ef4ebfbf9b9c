-- Ask an answer to stop; remembered also when nobody has claimed it yet. The first who asks is on record.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id   ARGV[6] who asks (not empty)   ARGV[7] channel of the workers
-- Reply: OK 1, or 0 if the answer is sealed | GONE

local state, g = settle_answer(ARGV[5])
if not state then
  return {'GONE'}
end
if g.sealed then
  return {'OK', 0}
end
if g.by == '' then
  g.by = ARGV[6]
  save_answer(state, g)
  be_patient(ARGV[5], UNHEARD, false)
end
call('PUBLISH', ARGV[7], 'cancel ' .. ARGV[5])
return {'OK', 1}
