-- Whether an attempt of an answer holds a live lease.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id
-- Reply: OK 1 or 0 | GONE

local state, g = settle_answer(ARGV[5])
if not state then
  return {'GONE'}
end
return {'OK', leased(g) and 1 or 0}
