-- After LOST: record an attempt that SQL confirms as current, and append the text that its worker holds.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id   ARGV[6] epoch of the lost claim   ARGV[7] attempt   ARGV[8] lease in ms
-- ARGV[9...] events: `reset` keep 0 and the text so far
-- Reply: OK epoch first last | GONE | FENCED | SEALED

local field = 'g:' .. ARGV[5]
local state, text = settle(field)
if not state then
  return {'GONE'}
end
local g = generation(text) or unclaimed()
local attempt = tonumber(ARGV[7])
if attempt < g.attempt then
  return {'FENCED'}
end
if g.sealed then
  return {'SEALED'}
end
-- A late copy of a call that was answered: the attempt has gone on since, its text must not be taken back.
if ARGV[6] ~= state.epoch and g.epoch == state.epoch and g.attempt == attempt and g.index > 0 then
  return {'OK', state.epoch, g.first, g.last}
end
g.attempt, g.epoch, g.index, g.lease = attempt, state.epoch, 0, now + tonumber(ARGV[8])
g.floor = state.top
call('ZADD', FLOORS, whole(g.floor), ARGV[5])
g.first = write(state, 9)
g.last = state.top
trim(state)
save(state, field, as_text(g))
return {'OK', state.epoch, g.first, g.last}
