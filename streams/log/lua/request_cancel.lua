-- Request the cancel of an answer, claimed or not. The first request is recorded.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id   ARGV[6] who requests it (not empty)
-- ARGV[7] channel of the workers
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
