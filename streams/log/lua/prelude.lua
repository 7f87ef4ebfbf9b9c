-- Stands in front of every script of the log (streams/log/redis.py joins them). It names keys and arguments that all scripts share,
-- settles the epoch and holds the helpers that more than one script needs.
--
-- KEYS[1] tw2:{id}:log     stream  entry `<seq>-0`: e = the stamped event, t = ms when it was appended
-- KEYS[2] tw2:{id}:state   hash    epoch, run and history (of the server that began it, see `identity`), top (last seq given out),
--                                 forks ("epoch earlier:seq earlier:seq ...": up to which seq an earlier epoch's log is this one's),
--                                 oldest (lowest seq held, top + 1 when none is), bytes (of all events held),
--                                 since (ms: append time of the oldest event held);
--                                 g:<message id>: an answer, see `answer`; a:<row id>: "rev epoch seq" of an announced row;
--                                 c:<message id>: a cancel that is not carried out yet, see `Patience`;
--                                 packed: what KEYS[5] holds, see `packed_part`. `oldest`, `bytes` and `since` speak of KEYS[1] alone
-- KEYS[3] tw2:{id}:floors  zset    message id of each running answer -> the seq that SQL's checkpoint includes
-- KEYS[4] tw2:{id}:gone    string  tombstone of a deleted conversation
-- KEYS[5] tw2:{id}:packed  stream  entry `<last seq>-0`: z = a block of the events right before those of KEYS[1] (streams/packing.py),
--                                 n = how many, b = their bytes, t = ms when the last of them was appended
-- Channels: tw2:{id} (events as `<epoch>:<seq>:<json>`, or the word `gone`), tw2:control (`cancel <message id>`),
--           tw2:changes (the conversation's id, after what changes how it looks in a list)
--
-- ARGV[1] name of the new epoch, should one begin here
-- ARGV[2] ms for which the keys live after the last write; also the age at which events are trimmed
-- ARGV[3] most events held   ARGV[4] most bytes held
--
-- Every reply is an array that begins with a word: OK, or a refusal (GONE LOST FENCED SEALED CANCELLED BUSY), which wrote nothing.

local LOG, STATE, FLOORS, GONE, PACKED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local CHANNEL = string.sub(LOG, 1, -5)
local LIFETIME, MAX_EVENTS, MAX_BYTES = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local LONGEST_LEASE = 60000
-- Patience with whoever holds the lease of an answer that is to be cancelled: so long after the request; so long after the request if it
-- was told; so long after it took it over to end it. Then it is taken for frozen.
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

-- Whose memory this is, '' where a script may not ask for it (then only lost keys are noticed). `run` is another one in another
-- process; `history` also in a process that was a replica in between, and has another's data.
local function identity()
  local text = info('server', 'replication')
  if text == '' then -- before Redis 7 a call tells of one section
    text = info('server') .. info('replication')
  end
  return {run = string.match(text, 'run_id:(%w+)') or '', history = string.match(text, 'master_replid:(%w+)') or ''}
end

local function refresh_expiry(state)
  call('PEXPIRE', LOG, LIFETIME)
  call('PEXPIRE', STATE, LIFETIME)
  call('PEXPIRE', FLOORS, LIFETIME)
  if state.packed then
    call('PEXPIRE', PACKED, LIFETIME)
  end
end

-- No log: nobody's cursor means anything any more. What is known of answers stays: it can only make the fence stricter.
local function begin_epoch(server)
  call('DEL', LOG, FLOORS, PACKED)
  call('HDEL', STATE, 'forks', 'packed')
  call('HSET', STATE, 'epoch', ARGV[1], 'run', server.run, 'history', server.history, 'top', 0, 'oldest', 1, 'bytes', 0,
       'since', whole(now))
  call('PEXPIRE', STATE, LIFETIME)
  return {epoch = ARGV[1], top = 0, oldest = 1, bytes = 0, since = now, forks = ''}
end

local function save_packed(state)
  local packed = state.packed
  if packed then
    call('HSET', STATE, 'packed', table.concat({state.epoch, whole(packed.first), whole(packed.last), whole(packed.bytes),
                                                whole(packed.since)}, ' '))
  else
    call('DEL', PACKED)
    call('HDEL', STATE, 'packed')
  end
end

-- Another server with the log: it may lack the end of it, and only that. What it has goes on under another name, and is remembered as
-- what both have in common (as Kafka's leader epochs, KIP-101).
local function fork(state, server)
  local forks = {ARGV[1], state.epoch .. ':' .. whole(state.top)}
  for name, seq in string.gmatch(state.forks, '(%w+):(%d+)') do
    if #forks <= MAX_FORKS then
      forks[#forks + 1] = name .. ':' .. whole(math.min(tonumber(seq), state.top))
    end
  end
  state.epoch, state.forks = ARGV[1], table.concat(forks, ' ')
  call('HSET', STATE, 'epoch', state.epoch, 'run', server.run, 'history', server.history, 'forks', state.forks)
  save_packed(state)
  return state
end

-- Up to which seq the log of `epoch` is this one's; nil: nothing is known of it.
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

-- What is packed: events first..last, in so many bytes; `since`: when the last event of the first block was appended. Kept as one string
-- behind the epoch that it was written in. nil: nothing is. Blocks that do not end where LOG begins, because a process of an earlier
-- version, which does not know them, has trimmed LOG or begun it again, are no part of the log; the next ones replace them.
local function packed_part(state, text)
  local epoch, first, last, bytes, since = string.match(text or '', '^(%w+) (%d+) (%d+) (%d+) (%d+)$')
  local reaches = epoch and shared(state, epoch)
  if not reaches or tonumber(last) > reaches or tonumber(last) ~= state.oldest - 1 or call('EXISTS', PACKED) == 0 then
    return nil
  end
  return {first = tonumber(first), last = tonumber(last), bytes = tonumber(bytes), since = tonumber(since)}
end

-- Seq of the oldest event held, packed or not.
local function oldest(state)
  return state.packed and state.packed.first or state.oldest
end

local function seq_of(page)
  return page[1] and tonumber(string.match(page[1][1], '^%d+'))
end

-- Whether the stream ends where the state says that it does.
local function agrees(state)
  return state.oldest > state.top or seq_of(call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)) == state.top
end

-- The state of the log, or nil when the conversation was deleted; beside it the value of one more field of the state hash.
local function settle(field)
  if call('EXISTS', GONE) == 1 then
    return nil
  end
  local server = identity()
  local values = call('HMGET', STATE, 'epoch', 'run', 'history', 'forks', 'top', 'oldest', 'bytes', 'since', 'packed', field)
  local state = {epoch = values[1], forks = values[4] or '', top = tonumber(values[5]), oldest = tonumber(values[6]),
                 bytes = tonumber(values[7]), since = tonumber(values[8])}
  -- Forks that name another epoch are older than it: a process of an earlier version, which does not know them, began it.
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

-- An answer is kept as one string: attempt, epoch of its claim (`-`: never claimed), next batch index, first and last seq of
-- the last batch, lease (ms until), sealed (0 or 1), floor, and who asked to cancel (empty: nobody).
local UNCLAIMED = '0 - 0 0 0 0 0 0 '

local function answer(text)
  local attempt, epoch, index, first, last, lease, sealed, floor, by =
    string.match(text, '^(%d+) (%S+) (%d+) (%d+) (%d+) (%d+) ([01]) (%d+) (.*)$')
  return {attempt = tonumber(attempt), epoch = epoch, index = tonumber(index), first = tonumber(first), last = tonumber(last),
          lease = tonumber(lease), sealed = sealed == '1', floor = tonumber(floor), by = by}
end

-- Whether a lease stands. One that ends later than any that is given out was given before the clock was set back.
local function leased(g)
  return g.lease > now and g.lease - now <= LONGEST_LEASE
end

-- Wait for the holder of an answer from now on: c:<message id> is "<ms from when it is not waited for> <1 if it knows>".
local function be_patient(message_id, patience, knows)
  call('HSET', STATE, 'c:' .. message_id, whole(now + patience) .. (knows and ' 1' or ' 0'))
end

-- The holder is told that it is to stop; it is waited for a little longer, once.
local function told_to_stop(message_id)
  local due, knows = string.match(call('HGET', STATE, 'c:' .. message_id) or '', '^(%d+) ([01])$')
  if not due then
    be_patient(message_id, HEARD, true)
  elseif knows == '0' then
    be_patient(message_id, tonumber(due) - now + HEARD - UNHEARD, true)
  end
end

-- Whether the holder had the time to stop, and has not.
local function disobeys(message_id)
  local due = tonumber(string.match(call('HGET', STATE, 'c:' .. message_id) or '', '^%d+'))
  return due and (now >= due or due - now > ENDING)
end

local function as_text(g)
  return table.concat({whole(g.attempt), g.epoch, whole(g.index), whole(g.first), whole(g.last), whole(g.lease),
                       g.sealed and '1' or '0', whole(g.floor), g.by}, ' ')
end

-- How a script about one answer begins: the settled state and the answer, which was never claimed where nothing is known of it.
-- nil: the conversation was deleted.
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

-- Whether the holder of an attempt may act: nil, or the refusal. `state` is settled, `believed` the epoch that the caller knows.
local function fence(state, g, believed, attempt)
  if believed ~= state.epoch or g.epoch ~= state.epoch then
    return {'LOST'}
  end
  if attempt < g.attempt then
    return {'FENCED'}
  end
  return attempt > g.attempt and {'LOST'} or nil
end

-- For whoever shows a list of conversations: this one has got a row, a title or an end, or was deleted.
local function tell_lists()
  call('PUBLISH', 'tw2:changes', string.match(LOG, '{(.*)}'))
end

-- Append ARGV[first .. #ARGV], events without a seq, and publish each. Gives the seq of the first.
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

-- Over the limit of events; over one of the others.
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

-- The block that holds an event, or follows it where it is missing; nil: none that pack.lua wrote.
local function block_of(seq)
  local page = call('XRANGE', PACKED, whole(seq) .. '-0', '+', 'COUNT', 1)
  local fields = page[1] and page[1][2] or {}
  local last, count, bytes, since = seq_of(page), tonumber(fields[4]), tonumber(fields[6]), tonumber(fields[8])
  if not (last and count and bytes and since) then
    return nil
  end
  return {first = last - count + 1, last = last, data = fields[2], bytes = bytes, since = since}
end

-- Drop packed blocks, the oldest first: whole ones, unless too few events would be left. What is packed lies below every floor. All of
-- them go where a block cannot be read.
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
    local page = call('XRANGE', LOG, whole(state.oldest) .. '-0', whole(highest) .. '-0', 'COUNT', 64)
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
  call('HSET', STATE, 'top', whole(state.top), 'oldest', whole(state.oldest), 'bytes', whole(state.bytes),
       'since', whole(state.since), field, value)
  refresh_expiry(state)
end

-- How such a script ends that has changed anything.
local function save_answer(state, g)
  save(state, g.field, as_text(g))
end

-- Forget what long conversations no longer need: sealed answers and announced rows, the oldest half of them.
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
