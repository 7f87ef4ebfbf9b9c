-- Append a `message` or `title` event, once per row and rev.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] row id   ARGV[6] rev   ARGV[7] the event
-- Reply: OK epoch top | GONE

local field = 'a:' .. ARGV[5]
local state, text = settle(field)
if not state then
  return {'GONE'}
end
local rev = tonumber(ARGV[6])
local announced, epoch = string.match(text or '', '^(%d+) (%S+)')
-- An announcement of another epoch is no longer in the log. Readers who resynced have the row.
if announced and tonumber(announced) >= rev then
  return {'OK', state.epoch, state.top}
end
write(state, 7)
tell_lists()
trim(state)
save(state, field, whole(rev) .. ' ' .. state.epoch .. ' ' .. whole(state.top))
forget(state)
return {'OK', state.epoch, state.top}
