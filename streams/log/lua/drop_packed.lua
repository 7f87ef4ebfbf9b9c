-- Drop all packed events, because a block cannot be read. The log then begins behind them, and the
-- rows hold their text.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] epoch of the log as it was read
-- ARGV[6] last seq of the block as it was read
-- Reply: OK | GONE | LOST: the block is gone

local state = settle('epoch')
if not state then
  return {'GONE'}
end
local last = tonumber(ARGV[6])
if ARGV[5] ~= state.epoch or not state.packed or last < state.packed.first then
  return {'LOST'}
end
state.packed = nil
save_packed(state)
return {'OK'}
