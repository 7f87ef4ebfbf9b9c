-- Give the lease of an attempt up. No effect unless it is the current one.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id   ARGV[6] attempt
-- Reply: OK

local field = 'g:' .. ARGV[5]
local state, text = settle(field)
local g = state and generation(text)
if g and g.attempt == tonumber(ARGV[6]) then
  g.lease = 0
  call('HSET', STATE, field, as_text(g))
end
return {'OK'}
