-- Ask a generation to stop; remembered also when nobody has claimed it yet. The first who asks is on record.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id   ARGV[6] who asks (not empty)   ARGV[7] channel of the workers
-- Reply: OK 1, or 0 if the generation is sealed | GONE

local field = 'g:' .. ARGV[5]
local state, text = settle(field)
if not state then
  return {'GONE'}
end
local g = generation(text) or unclaimed()
if g.sealed then
  return {'OK', 0}
end
if g.by == '' then
  g.by = ARGV[6]
  save(state, field, as_text(g))
  be_patient(ARGV[5], UNHEARD)
end
call('PUBLISH', ARGV[7], 'cancel ' .. ARGV[5])
return {'OK', 1}
