-- The beginning of every script of the log (streams/log/redis.py joins them). It names the keys and
-- arguments that all scripts share, settles the epoch, and defines shared helpers.
--
-- KEYS[1] tw2:{id}:log     stream  entry `<seq>-0`: e = the stamped event, t = ms of its append
-- KEYS[2] tw2:{id}:state   hash
--           epoch; run and history of the server that began it (`identity`); top: last assigned seq
--           forks: "epoch earlier:seq earlier:seq ...", the last seq shared with each earlier epoch
--           oldest: lowest seq in KEYS[1] (top + 1 if there is none)
--           bytes: of all events in KEYS[1]; since: when the oldest of them was appended (ms)
--           g:<message id>: an answer, see `answer`
--           a:<row id>: "rev epoch seq" of an announced row
--           c:<message id>: a cancel that is not carried out yet, see `Patience`
--           packed: the contents of KEYS[5], see `packed_part`
-- KEYS[3] tw2:{id}:floors  zset    message id of each running answer -> seq of SQL's checkpoint
-- KEYS[4] tw2:{id}:gone    string  tombstone of a deleted conversation
-- KEYS[5] tw2:{id}:packed  stream  entry `<last seq>-0`: z = a block of events before KEYS[1]
--           (streams/log/packing.py), n = their number, b = their bytes, t = ms of the last append
-- Channels: tw2:{id} (events as `<epoch>:<seq>:<json>`, or the word `gone`)
--           tw2:control (`cancel <message id>`)
--           tw2:changes (the conversation's id, after a change that lists of conversations show)
--
-- ARGV[1] name of a new epoch, if one begins now
-- ARGV[2] life of the keys after the last write in ms; also the age at which events are trimmed
-- ARGV[3] most events held   ARGV[4] most bytes held
--
-- Every reply is an array. It begins with OK, or with a refusal, which wrote nothing: GONE, LOST,
-- FENCED, SEALED, CANCELLED, BUSY.

local LOG, STATE, FLOORS, GONE, PACKED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local CHANNEL = string.sub(LOG, 1, -5)
local LIFETIME, MAX_EVENTS, MAX_BYTES = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local LONGEST_LEASE = 60000
-- Patience with the holder of an answer that is to be cancelled: after the request; after the
-- request if the holder knows of it; after a claim that is to end the answer. Then it is frozen.
local UNHEARD, HEARD, ENDING = 400, 700, 2000
local MAX_FIELDS = 512 + 9
local MAX_FORKS = 16
local call = redis.call

local function whole(number)
  return string.format('%.0f', number)
end

local function clock()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local now = clock()

local function info(...)
  local text = redis.pcall('INFO', ...)
  return type(text) == 'string' and text or ''
end

-- The identity of the server. It is '' if a script may not ask for it; then only lost keys are
-- noticed. `run` differs in every process. `history` also differs in a process that was a replica
-- in between, and has another server's data.
local function identity()
  local text = info('server', 'replication')
  if text == '' then -- before Redis 7 a call tells of one section
    text = info('server') .. info('replication')
  end
  return {
    run = string.match(text, 'run_id:(%w+)') or '',
    history = string.match(text, 'master_replid:(%w+)') or ''}
end

local function refresh_expiry(state)
  call('PEXPIRE', LOG, LIFETIME)
  call('PEXPIRE', STATE, LIFETIME)
  call('PEXPIRE', FLOORS, LIFETIME)
  if state.packed then
    call('PEXPIRE', PACKED, LIFETIME)
  end
end

-- There is no log, so no cursor is valid any more. What is known of answers stays: it can only make
-- the fence stricter.
local function begin_epoch(server)
  call('DEL', LOG, FLOORS, PACKED)
  call('HDEL', STATE, 'forks', 'packed')
  call('HSET', STATE, 'epoch', ARGV[1], 'run', server.run, 'history', server.history, 'top', 0,
    'oldest', 1, 'bytes', 0,
       'since', whole(now))
  call('PEXPIRE', STATE, LIFETIME)
  return {epoch = ARGV[1], top = 0, oldest = 1, bytes = 0, since = now, forks = ''}
end

local function save_packed(state)
  local packed = state.packed
  if packed then
    call('HSET', STATE, 'packed', table.concat({state.epoch, whole(packed.first),
      whole(packed.last), whole(packed.bytes),
                                                whole(packed.since)}, ' '))
  else
    call('DEL', PACKED)
    call('HDEL', STATE, 'packed')
  end
end

-- Another server has the log. It may lack the end of the log, and nothing else. The log continues
-- in a new epoch, which remembers the last seq that both share (as in Kafka's KIP-101).
local function fork(state, server)
  local forks = {ARGV[1], state.epoch .. ':' .. whole(state.top)}
  for name, seq in string.gmatch(state.forks, '(%w+):(%d+)') do
    if #forks <= MAX_FORKS then
      forks[#forks + 1] = name .. ':' .. whole(math.min(tonumber(seq), state.top))
    end
  end
  state.epoch, state.forks = ARGV[1], table.concat(forks, ' ')
  call('HSET', STATE, 'epoch', state.epoch, 'run', server.run, 'history', server.history, 'forks',
    state.forks)
  save_packed(state)
  return state
end

-- The last seq that this log shares with that of `epoch`; nil: unknown epoch.
local function shared(state, epoch)
  if epoch == state.epoch then
    return state.top
  end
  for name, seq in string.gmatch(state.forks, '(%w+):(%d+)') do
    if name == epoch then
      return tonumber(seq)
    end
  end
  return nil
end

-- The packed events: first, last, bytes, and `since`: when the last event of the first block was
-- appended. Stored as one string, behind its epoch. nil: nothing is packed. Blocks that do not end
-- where LOG begins do not belong to the log, and the next ones replace them: a process of an
-- earlier version, which does not know blocks, has trimmed LOG or begun it again.
local function packed_part(state, text)
  local epoch, first, last, bytes, since = string.match(text or '',
    '^(%w+) (%d+) (%d+) (%d+) (%d+)$')
  local reaches = epoch and shared(state, epoch)
  if not reaches or tonumber(last) > reaches or tonumber(last) ~= state.oldest - 1
    or call('EXISTS', PACKED) == 0 then
    return nil
  end
  return {first = tonumber(first), last = tonumber(last), bytes = tonumber(bytes),
    since = tonumber(since)}
end

-- The seq of the oldest event, packed or not.
local function oldest(state)
  return state.packed and state.packed.first or state.oldest
end

local function seq_of(page)
  return page[1] and tonumber(string.match(page[1][1], '^%d+'))
end

-- Whether the stream ends at the top that the state has.
local function agrees(state)
  return state.oldest > state.top
    or seq_of(call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)) == state.top
end

-- The state of the log, and the value of one more field of its hash. nil: deleted conversation.
local function settle(field)
  if call('EXISTS', GONE) == 1 then
    return nil
  end
  local server = identity()
  local values = call('HMGET', STATE, 'epoch', 'run', 'history', 'forks', 'top', 'oldest', 'bytes',
    'since', 'packed', field)
  local state = {epoch = values[1], forks = values[4] or '', top = tonumber(values[5]),
    oldest = tonumber(values[6]),
                 bytes = tonumber(values[7]), since = tonumber(values[8])}
  -- Forks that name another epoch are out of date: a process of an earlier version, which does not
  -- know forks, began this epoch.
  if string.match(state.forks, '^%w*') ~= state.epoch then
    state.forks = ''
  end
  if not state.epoch or (state.oldest <= state.top and call('EXISTS', LOG) == 0) then
    return begin_epoch(server), values[10]
  end
  state.packed = packed_part(state, values[9])
  if values[2] ~= server.run or (values[3] and values[3] ~= server.history) then
    state = agrees(state) and fork(state, server) or begin_epoch(server)
  elseif not values[3] then
    call('HSET', STATE, 'history', server.history)
  end
  return state, values[10]
end

-- An answer is stored as one string: attempt, epoch of its claim (`-`: never claimed), next batch
-- index, first and last seq of the last batch, lease (ms until), sealed (0 or 1), floor, and who
-- requested a cancel (empty: nobody).
local UNCLAIMED = '0 - 0 0 0 0 0 0 '

local function answer(text)
  local attempt, epoch, index, first, last, lease, sealed, floor, by =
    string.match(text, '^(%d+) (%S+) (%d+) (%d+) (%d+) (%d+) ([01]) (%d+) (.*)$')
  return {attempt = tonumber(attempt), epoch = epoch, index = tonumber(index),
    first = tonumber(first), last = tonumber(last),
          lease = tonumber(lease), sealed = sealed == '1', floor = tonumber(floor), by = by}
end

-- Whether a lease is alive. A lease that ends too late was given before the clock was set back.
local function leased(g)
  return g.lease > now and g.lease - now <= LONGEST_LEASE
end

-- Wait for the holder of an answer from now on. c:<message id> is "<ms until> <1 if it knows>".
local function be_patient(message_id, patience, knows)
  call('HSET', STATE, 'c:' .. message_id, whole(now + patience) .. (knows and ' 1' or ' 0'))
end

-- The holder learns that it must stop, and gets a little more time, once.
local function told_to_stop(message_id)
  local due, knows = string.match(call('HGET', STATE, 'c:' .. message_id) or '', '^(%d+) ([01])$')
  if not due then
    be_patient(message_id, HEARD, true)
  elseif knows == '0' then
    be_patient(message_id, tonumber(due) - now + HEARD - UNHEARD, true)
  end
end

-- Whether the holder had the time to stop, but did not.
local function disobeys(message_id)
  local due = tonumber(string.match(call('HGET', STATE, 'c:' .. message_id) or '', '^%d+'))
  return due and (now >= due or due - now > ENDING)
end

local function as_text(g)
  return table.concat({whole(g.attempt), g.epoch, whole(g.index), whole(g.first), whole(g.last),
    whole(g.lease),
                       g.sealed and '1' or '0', whole(g.floor), g.by}, ' ')
end

-- The beginning of a script about one answer: the settled state, and the answer. An unknown answer
-- counts as never claimed. nil: the conversation was deleted.
local function settle_answer(message_id)
  local field = 'g:' .. message_id
  local state, text = settle(field)
  if not state then
    return nil
  end
  local g = answer(text or UNCLAIMED)
  g.field = field
  return state, g
end

-- Whether the holder of an attempt may act: nil, or the refusal. `state` is settled; `believed` is
-- the epoch that the caller knows.
local function fence(state, g, believed, attempt)
  if believed ~= state.epoch or g.epoch ~= state.epoch then
    return {'LOST'}
  end
  if attempt < g.attempt then
    return {'FENCED'}
  end
  return attempt > g.attempt and {'LOST'} or nil
end

-- Notify lists of conversations: this one has a new row, title or end, or was deleted.
local function tell_lists()
  call('PUBLISH', 'tw2:changes', string.match(LOG, '{(.*)}'))
end

-- Append ARGV[first .. #ARGV], events without a seq, and publish each. Returns the first seq.
local function write(state, first)
  if state.oldest > state.top then
    state.since = now
  end
  for i = first, #ARGV do
    state.top = state.top + 1
    local seq = whole(state.top)
    local data = '{"seq":' .. seq .. ',' .. string.sub(ARGV[i], 2)
    call('XADD', LOG, seq .. '-0', 'e', data, 't', whole(now))
    call('PUBLISH', CHANNEL, state.epoch .. ':' .. seq .. ':' .. data)
    state.bytes = state.bytes + #data
  end
  return state.top - (#ARGV - first)
end

-- Whether the log is over the limit of events; whether it is over another limit.
local function too_many(state, slack)
  return state.top - oldest(state) + 1 > MAX_EVENTS * slack
end

local function too_much(state, slack, since)
  local bytes = state.bytes + (state.packed and state.packed.bytes or 0)
  return bytes > MAX_BYTES * slack or now - since > LIFETIME * slack
end

local function over(state, slack, since)
  return too_many(state, slack) or too_much(state, slack, since)
end

-- The block with an event, or the next block if the event is missing; nil: no block of pack.lua.
local function block_of(seq)
  local page = call('XRANGE', PACKED, whole(seq) .. '-0', '+', 'COUNT', 1)
  local fields = page[1] and page[1][2] or {}
  local last, count, bytes, since = seq_of(page), tonumber(fields[4]), tonumber(fields[6]),
    tonumber(fields[8])
  if not (last and count and bytes and since) then
    return nil
  end
  return {first = last - count + 1, last = last, data = fields[2], bytes = bytes, since = since}
end

-- Drop whole packed blocks, the oldest first, unless too few events would be left. Packed events
-- are below every floor. If a block cannot be read, all blocks are dropped.
local function trim_packed(state)
  local packed = state.packed
  while state.packed and packed.first <= packed.last do
    local block = block_of(packed.first)
    if not block then
      state.packed = nil
    else
      packed.since = block.since
      if state.top - block.last < MAX_EVENTS and not too_much(state, 1, packed.since) then
        break
      end
      packed.first, packed.bytes = block.last + 1, packed.bytes - #block.data
    end
  end
  if packed.first > packed.last then
    state.packed = nil
  elseif state.packed then
    call('XTRIM', PACKED, 'MINID', whole(packed.first) .. '-0')
  end
  save_packed(state)
end

-- Cut the log to its window, in steps of a sixteenth, never above the lowest floor.
local function trim(state)
  local since = state.packed and state.packed.since or state.since
  if oldest(state) > state.top or not over(state, 17 / 16, since) then
    return
  end
  if state.packed then
    trim_packed(state)
  end
  local lowest = call('ZRANGE', FLOORS, 0, 0, 'WITHSCORES')
  local highest = lowest[2] and math.min(tonumber(lowest[2]), state.top) or state.top
  local before, cutting = state.oldest, not state.packed and state.oldest <= highest
  while cutting do
    local from, to = whole(state.oldest) .. '-0', whole(highest) .. '-0'
    local page = call('XRANGE', LOG, from, to, 'COUNT', 64)
    cutting = #page == 64
    for _, entry in ipairs(page) do
      state.since = tonumber(entry[2][4])
      if not over(state, 1, state.since) then
        cutting = false
        break
      end
      state.oldest = state.oldest + 1
      state.bytes = state.bytes - #entry[2][2]
    end
  end
  if state.oldest > before then
    call('XTRIM', LOG, 'MINID', whole(state.oldest) .. '-0')
  end
end

local function save(state, field, value)
  call('HSET', STATE, 'top', whole(state.top), 'oldest', whole(state.oldest), 'bytes',
    whole(state.bytes),
       'since', whole(state.since), field, value)
  refresh_expiry(state)
end

-- The end of such a script if it has changed anything.
local function save_answer(state, g)
  save(state, g.field, as_text(g))
end

-- Forget the oldest half of the sealed answers and announced rows of a long conversation.
local function forget(state)
  if call('HLEN', STATE) <= MAX_FIELDS then
    return
  end
  local all, ended = call('HGETALL', STATE), {}
  for i = 1, #all, 2 do
    local kind = string.sub(all[i], 1, 2)
    local epoch, seq
    if kind == 'a:' then
      epoch, seq = string.match(all[i + 1], '^%d+ (%S+) (%d+)$')
    elseif kind == 'g:' then
      local g = answer(all[i + 1])
      if g.sealed then
        epoch, seq = g.epoch, g.last
      end
    end
    if epoch then
      ended[#ended + 1] = {all[i], shared(state, epoch) and tonumber(seq) or 0}
    end
  end
  table.sort(ended, function(a, b) return a[2] < b[2] end)
  for i = 1, math.floor(#ended / 2) do
    call('HDEL', STATE, ended[i][1])
  end
end
