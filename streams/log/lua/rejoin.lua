-- After LOST, for an attempt that SQL confirms as current: continue in a forked epoch that still
-- has everything that was acknowledged.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id   ARGV[6] epoch of the claim   ARGV[7] attempt
-- ARGV[8] index of the next batch   ARGV[9] lease in ms
-- ARGV[10] seq in that epoch up to which everything must be there: no index covers events of ADOPT
-- Reply: OK epoch (batches continue with ARGV[8], which may be in the log already)
--        | GONE | LOST: adopt | FENCED | SEALED

local state, g = settle_answer(ARGV[5])
if not state then
  return {'GONE'}
end
local attempt, index = tonumber(ARGV[7]), tonumber(ARGV[8])
if attempt < g.attempt then
  return {'FENCED'}
end
-- The record of the claim and the log were lost or kept together, so the index shows how much of
-- the attempt is left.
local there = (shared(state, ARGV[6]) or 0) >= tonumber(ARGV[10])
local mine = there and attempt == g.attempt
  and (g.epoch == state.epoch or (g.epoch == ARGV[6] and shared(state, g.epoch)))
if not mine or (index ~= g.index and index ~= g.index - 1) then
  return {g.sealed and 'SEALED' or 'LOST'}
end
g.epoch = state.epoch
if not g.sealed then
  g.lease = now + tonumber(ARGV[9])
end
save_answer(state, g)
return {'OK', state.epoch}
