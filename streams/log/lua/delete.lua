-- Drop a conversation's log, leave a tombstone, notify readers.
-- KEYS, ARGV[1..4]: prelude.lua   ARGV[5] ms for which the tombstone stands
-- Reply: OK

call('DEL', LOG, STATE, FLOORS, PACKED)
call('SET', GONE, '1', 'PX', ARGV[5])
call('PUBLISH', CHANNEL, 'gone')
tell_lists()
return {'OK'}
