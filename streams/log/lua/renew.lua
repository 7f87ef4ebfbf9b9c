-- Prolong the lease of an attempt.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id   ARGV[6] epoch of the claim   ARGV[7] attempt
-- ARGV[8] lease in ms
-- Reply: OK by (empty: nobody asked to cancel) | GONE | LOST | FENCED | SEALED

local state, g = settle_answer(ARGV[5])
if not state then
  return {'GONE'}
end
local refusal = fence(state, g, ARGV[6], tonumber(ARGV[7]))
if refusal then
  return refusal
end
if g.sealed then
  return {'SEALED'}
end
g.lease = now + tonumber(ARGV[8])
save_answer(state, g)
if g.by ~= '' then
  told_to_stop(ARGV[5])
end
return {'OK', g.by}
