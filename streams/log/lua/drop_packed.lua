-- Drop what is packed, because a block of it cannot be read: the log begins behind it, and rows hold all of it.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] epoch of the log that was read   ARGV[6] last seq of the block, as it was read
-- Reply: OK | GONE | LOST: it is not there any more

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
