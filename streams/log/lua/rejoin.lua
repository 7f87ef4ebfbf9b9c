-- After LOST, for an attempt that SQL confirms as current: go on in an epoch that forked, where all that was acknowledged is still there.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id   ARGV[6] epoch of the claim   ARGV[7] attempt   ARGV[8] index of the next batch
-- ARGV[9] lease in ms   ARGV[10] seq in that epoch up to which all must be there: the index does not tell of what ADOPT wrote
-- Reply: OK epoch (batches count on from ARGV[8], which may have landed already) | GONE | LOST: adopt | FENCED | SEALED

local state, g = settle_answer(ARGV[5])
if not state then
  return {'GONE'}
end
local attempt, index = tonumber(ARGV[7]), tonumber(ARGV[8])
if attempt < g.attempt then
  return {'FENCED'}
end
-- The record of the claim and the log were lost or kept together: the index tells how much of the attempt is left.
local there = (shared(state, ARGV[6]) or 0) >= tonumber(ARGV[10])
local mine = there and attempt == g.attempt and (g.epoch == state.epoch or (g.epoch == ARGV[6] and shared(state, g.epoch)))
if not mine or (index ~= g.index and index ~= g.index - 1) then
  return {g.sealed and 'SEALED' or 'LOST'}
end
g.epoch = state.epoch
if not g.sealed then
  g.lease = now + tonumber(ARGV[9])
end
save_answer(state, g)
return {'OK', state.epoch}
