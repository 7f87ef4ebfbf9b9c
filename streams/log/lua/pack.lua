-- Replace the oldest unpacked events by a block, if they are unchanged.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] epoch, ARGV[6] first seq, ARGV[7] last seq of the events,
-- as `packable.lua` returned them   ARGV[8] their bytes   ARGV[9] the block
-- Reply: OK | GONE | LOST: another epoch, or another process has packed or trimmed them

local state = settle('epoch')
if not state then
  return {'GONE'}
end
local first, last = tonumber(ARGV[6]), tonumber(ARGV[7])
if ARGV[5] ~= state.epoch or first ~= state.oldest or last > state.top then
  return {'LOST'}
end
if not state.packed then
  call('DEL', PACKED)
end
local since = call('XRANGE', LOG, ARGV[7] .. '-0', ARGV[7] .. '-0')[1][2][4]
call('XADD', PACKED, ARGV[7] .. '-0', 'z', ARGV[9], 'n', whole(last - first + 1), 'b', ARGV[8], 't',
  since)
local packed = state.packed or {first = first, bytes = 0, since = tonumber(since)}
packed.last, packed.bytes = last, packed.bytes + #ARGV[9]
state.packed, state.oldest, state.bytes = packed, last + 1, state.bytes - tonumber(ARGV[8])
call('XTRIM', LOG, 'MINID', whole(state.oldest) .. '-0')
local left = call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
state.since = left and tonumber(left[2][4]) or state.since
save_packed(state)
save(state, 'epoch', state.epoch)
return {'OK'}
