-- Release the lease of an attempt. No effect unless the attempt is the current one.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] message id   ARGV[6] attempt
-- Reply: OK

local state, g = settle_answer(ARGV[5])
if state and g.attempt == tonumber(ARGV[6]) then
  g.lease = 0
  call('HSET', STATE, g.field, as_text(g))
end
return {'OK'}
