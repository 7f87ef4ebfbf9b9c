-- Append one batch of an attempt: fence, seq, XADD, floor, trim, PUBLISH in one step.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id   ARGV[6] epoch of the claim
-- ARGV[7] attempt   ARGV[8] batch index   ARGV[9] seq of SQL's committed checkpoint
-- ARGV[10] 1 for a terminal event, else 0
-- ARGV[11...] events, JSON objects without a seq
-- Reply: OK epoch first last | GONE | LOST | FENCED | SEALED | CANCELLED by

local state, g = settle_answer(ARGV[5])
if not state then
  return {'GONE'}
end
local refusal = fence(state, g, ARGV[6], tonumber(ARGV[7]))
if refusal then
  return refusal
end
local index, terminal = tonumber(ARGV[8]), ARGV[10] == '1'
if index == g.index - 1 then
  return {'OK', state.epoch, g.first, g.last}
end
if index ~= g.index then
  return {'LOST'}
end
if g.sealed then
  return {'SEALED'}
end
if g.by ~= '' and not terminal then
  told_to_stop(ARGV[5])
  return {'CANCELLED', g.by}
end
g.first = write(state, 11)
g.last, g.index = state.top, index + 1
local covered = math.min(tonumber(ARGV[9]), state.top)
if terminal then
  g.sealed, g.lease = true, 0
  tell_lists()
  call('ZREM', FLOORS, ARGV[5])
  call('HDEL', STATE, 'c:' .. ARGV[5])
elseif covered > g.floor then
  g.floor = covered
  call('ZADD', FLOORS, whole(covered), ARGV[5])
end
trim(state)
save_answer(state, g)
return {'OK', state.epoch, g.first, g.last}
