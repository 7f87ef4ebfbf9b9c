/**
 * tokenwire.js: the pure rules by example, then the whole client against a hostile server, in
 * mocked time.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mock, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import zlib from "node:zlib";

import {
  Order,
  Subscription,
  Transcript,
  afterClose,
  crc32,
  parseCursor,
  subscribe,
} from "../../web/page/static/tokenwire.js";
import { chunk, piece } from "./events.mjs";
import { Conversation, answer, dice, hostileSocket, passTime } from "./hostile.mjs";

const ROW = {
  id: "m1",
  ordinal: 2,
  role: "assistant",
  content: "",
  status: "queued",
  seq: 0,
  rev: 1,
};

function transcript(row = {}, more = {}) {
  const held = new Transcript();
  held.load({
    conversation: { id: "c1", title: null, rev: 1 },
    messages: [{ ...ROW, ...row }],
    next: null,
    ...more,
  });
  return held;
}

/** The row of a message as an event brings it. */
const posted = (seq, fields) => ({ seq, type: "message", message: { ...ROW, ...fields } });
const SAID = {
  id: "u1",
  role: "user",
  content: "Hi",
  status: "complete",
  ordinal: 1,
  parent_id: null,
};
const ids = (held) => held.messages.map(({ id }) => id);
const ending = (
  seq,
  content,
  type = "complete",
  parts = content ? [["text", content.length]] : [],
) => ({
  seq,
  type,
  message_id: "m1",
  attempt: 1,
  length: content.length,
  crc32: crc32(content),
  parts: parts.length,
  parts_crc32: crc32(parts.map((part) => `${part.join("\0")}\0`).join("")),
});

test("it stays small: under 7 kB gzipped, with no import", () => {
  const source = readFileSync(new URL("../../web/page/static/tokenwire.js", import.meta.url));
  assert.ok(zlib.gzipSync(source, { level: 9 }).length < 7000);
  assert.doesNotMatch(source.toString(), /^import |\bimport\(/m);
});

test("crc32 is zlib's of the UTF-8 text", () => {
  assert.equal(crc32("123456789"), 0xcbf43926);
  assert.equal(crc32(""), 0);
  if (zlib.crc32) assert.equal(crc32("žluť 👩‍👩‍👧"), zlib.crc32("žluť 👩‍👩‍👧"));
});

test("a cursor is epoch:seq and nothing else", () => {
  assert.deepEqual(parseCursor("k3f9:57"), { epoch: "k3f9", seq: 57 });
  for (const wrong of [
    null,
    undefined,
    "",
    "57",
    "k:-1",
    "k:01",
    "k:1e3",
    "a b:1",
    "k:99999999999999999",
  ])
    assert.equal(parseCursor(wrong), null);
});

test("events leave in the order of seq whatever the order they come in, each once", () => {
  const random = dice(7);
  for (let round = 0; round < 50; round++) {
    const order = new Order({ epoch: "e", seq: 0 });
    const come = Array.from({ length: 40 }, (_, n) => ({ seq: n + 1 })).flatMap((event) =>
      random() < 0.3 ? [event, event] : [event],
    );
    come.sort(() => random() - 0.5);
    assert.deepEqual(
      come.flatMap((event) => order.push(event)).map((event) => event.seq),
      Array.from({ length: 40 }, (_, n) => n + 1),
    );
    assert.equal(order.waiting, false);
  }
});

test("a missing event holds back what follows, and the cursor stays before it", () => {
  const order = new Order({ epoch: "e", seq: 4 });
  assert.deepEqual(order.push({ seq: 6 }), []);
  assert.equal(order.waiting, true);
  assert.equal(order.cursor, "e:4");
  assert.deepEqual(order.push({ seq: 5 }), [{ seq: 5 }, { seq: 6 }]);
});

test("an event that waits and comes again takes no second place", () => {
  const order = new Order({ epoch: "e", seq: 4 });
  for (let times = 0; times < 600; times++) order.push({ seq: 6 });
  assert.equal(order.overfull, false);
  assert.deepEqual(order.push({ seq: 5 }), [{ seq: 5 }, { seq: 6 }]);
});

test("what waits when the log forks is dropped: it may be no part of what follows", () => {
  const order = new Order({ epoch: "e", seq: 4 });
  order.push({ seq: 6, content: "lost" });
  order.fork("f");
  assert.equal(order.cursor, "f:4");
  assert.equal(order.waiting, false);
  assert.deepEqual(order.push({ seq: 5 }), [{ seq: 5 }]);
  assert.deepEqual(order.push({ seq: 6, content: "new" }), [{ seq: 6, content: "new" }]);
});

test("a merged chunk stands for all the events from from_seq on", () => {
  const order = new Order({ epoch: "e", seq: 4 });
  assert.deepEqual(order.push({ seq: 9, from_seq: 6 }), []);
  assert.equal(order.push({ seq: 5 }).length, 2);
  assert.equal(order.seq, 9);
  assert.equal(
    order.push({ seq: 12, from_seq: 8 }).length,
    1,
    "one that overlaps what is held still brings something",
  );
});

test("what a merged chunk has brought is not brought again by what waited", () => {
  const order = new Order({ epoch: "e", seq: 1 });
  assert.deepEqual(order.push({ seq: 4 }), []);
  assert.deepEqual(order.push({ seq: 5, from_seq: 2 }), [{ seq: 5, from_seq: 2 }]);
  assert.deepEqual([order.seq, order.waiting], [5, false]);
});

test("a snapshot is held: the conversation, the rows' parts, whether an answer runs", () => {
  const conversation = { id: "c1", title: "Tides", model: "demo", rev: 3 };
  const call = { type: "tool_call", id: "t1", name: "f", input: "{}", state: "proposed" };
  const parts = [
    { type: "reasoning", length: 3 },
    { ...call, length: 2 },
  ];
  const held = transcript({ reasoning: "Hm.", parts }, { conversation });
  assert.deepEqual(held.conversation, conversation);
  assert.equal(held.get("m1").reasoning, "Hm.");
  assert.deepEqual(held.get("m1").parts, [{ type: "reasoning", text: "Hm." }, call]);
  assert.equal(held.running, true);
  held.apply({ seq: 1, type: "title", title: "Storms", rev: 4 });
  held.apply({ seq: 2, type: "title", title: "Tides again", rev: 3 });
  assert.deepEqual([held.conversation.title, held.conversation.rev], ["Storms", 4]);
  assert.equal(conversation.title, "Tides");
  const texts = [
    ["reasoning", "Hm."],
    ["tool_call", "{}"],
  ];
  assert.equal(held.apply(ending(3, "", "complete", texts)), true);
  assert.equal(held.running, false);
});

test("reasoning grows beside the text, each by its own offsets", () => {
  const held = transcript();
  assert.equal(held.apply({ ...chunk(1, 0, "Hm"), type: "reasoning" }), true);
  assert.equal(held.apply({ ...chunk(2, 0, "Yes"), part: 1 }), true);
  assert.equal(held.apply({ ...chunk(3, 2, "."), type: "reasoning", part: 2 }), true);
  assert.deepEqual([held.get("m1").reasoning, held.get("m1").content], ["Hm.", "Yes"]);
});

test("a call holds what went in, in pieces, and what came out", () => {
  const held = transcript();
  const about = (seq, type, fields) =>
    held.apply({ seq, type, message_id: "m1", attempt: 1, part: 0, ...fields });
  about(1, "part", { value: { type: "tool_call", id: "t1", name: "f", state: "streaming" } });
  about(2, "tool_input", { offset: 0, content: '{"port":' });
  about(3, "tool_input", { offset: 8, content: '"Brest"}' });
  const call = { type: "tool_call", id: "t1", name: "f", input: '{"port":"Brest"}' };
  assert.deepEqual(held.get("m1").parts, [{ ...call, state: "streaming" }]);
  about(4, "part", { value: { type: "tool_call", state: "done", result: { high: "05:12" } } });
  assert.deepEqual(held.get("m1").parts, [{ ...call, state: "done", result: { high: "05:12" } }]);
});

test("events at or below the row's seq are already in the row", () => {
  const held = transcript({ content: "Hello", status: "streaming", seq: 5 });
  assert.equal(
    held.apply({
      seq: 5,
      type: "reset",
      message_id: "m1",
      keep: 0,
      keep_reasoning: 0,
      keep_parts: 0,
    }),
    true,
  );
  assert.equal(held.apply(chunk(6, 5, " you")), true);
  assert.equal(held.get("m1").content, "Hello you");
});

test("of a chunk that begins below the length held the overlap is dropped", () => {
  const held = transcript({ content: "Hello", status: "streaming" });
  held.apply(chunk(1, 3, "lo wor"));
  held.apply(chunk(2, 0, "He"));
  assert.equal(held.get("m1").content, "Hello wor");
});

test("offsets count UTF-16 units", () => {
  const held = transcript();
  held.apply(chunk(1, 0, "a👍"));
  assert.equal(held.apply(chunk(2, 3, "b")), true);
  assert.equal(held.get("m1").content, "a👍b");
});

test("a chunk beyond the length held is a hole", () => {
  assert.equal(transcript().apply(chunk(1, 1, "x")), false);
});

test("what is no chunk is a hole, not text", () => {
  for (const [offset, content] of [
    [-1, "x"],
    ["0", 5],
    [NaN, "x"],
    [0, null],
    [0, undefined],
    [undefined, "x"],
  ]) {
    const held = transcript();
    assert.equal(held.apply(chunk(1, offset, content)), false);
    assert.equal(held.get("m1").content, "");
  }
});

test("a reset says what remains; more than there is is a hole", () => {
  const held = transcript();
  const reset = { type: "reset", message_id: "m1", attempt: 2, keep_reasoning: 0 };
  const value = { type: "source", url: "https://a.example/", at: 5 };
  held.apply(chunk(1, 0, "Hello"));
  held.apply({ seq: 2, type: "part", message_id: "m1", attempt: 1, part: 1, value });
  assert.equal(held.get("m1").parts.length, 2);
  assert.equal(held.apply({ ...reset, seq: 3, keep: 2, keep_parts: 1 }), true);
  assert.deepEqual(held.get("m1").parts, [{ type: "text", text: "He" }]);
  assert.equal(held.get("m1").content, "He");
  assert.equal(held.apply({ ...reset, seq: 4, keep: 9, keep_parts: 1 }), false);
  assert.equal(held.apply({ ...reset, seq: 5, keep: 2, keep_parts: 2 }), false);
});

test("a retry says when, and the next event of the attempt ends it", () => {
  const held = transcript();
  held.apply({
    seq: 1,
    type: "retry",
    message_id: "m1",
    attempt: 1,
    code: "rate_limited",
    delay_ms: 900,
    try: 1,
    max_tries: 3,
  });
  assert.equal(held.get("m1").status, "retrying");
  assert.deepEqual(held.get("m1").retry, {
    code: "rate_limited",
    delay_ms: 900,
    try: 1,
    max_tries: 3,
  });
  held.apply({ seq: 2, type: "start", message_id: "m1", attempt: 2, model: "demo" });
  assert.equal(held.get("m1").status, "streaming");
  assert.equal(held.get("m1").retry, null);
});

test("a terminal event proves the text; one that does not fit asks to read again, once", () => {
  const held = transcript();
  held.apply(chunk(1, 0, "Hello"));
  assert.equal(held.apply(ending(2, "Hello")), true);
  assert.equal(held.get("m1").status, "complete");
  assert.equal(held.get("m1").proven, true);
  const wrong = transcript();
  wrong.apply(chunk(1, 0, "Jello"));
  assert.equal(wrong.apply(ending(2, "Hello")), false);
  wrong.load({
    conversation: {},
    messages: [{ ...ROW, content: "Jello", status: "streaming", seq: 1 }],
    next: null,
  });
  assert.equal(wrong.apply(ending(2, "Hello")), true, "no endless reading");
  assert.equal(wrong.get("m1").proven, false);
});

test("an ended message changes no more, and a second terminal event is no second end", () => {
  const held = transcript({ content: "Hello", status: "complete", finish_reason: "stop" });
  assert.equal(held.apply(chunk(1, 5, " more")), true);
  assert.equal(held.apply(ending(2, "Hello", "error")), true);
  assert.equal(held.get("m1").content, "Hello");
  assert.equal(held.get("m1").status, "complete");
});

test("a message event never replaces the text of an answer, and only a higher rev counts", () => {
  const held = transcript({ content: "Hello", status: "streaming", rev: 2 });
  held.apply(posted(1, { content: "old", rev: 3, status: "complete", model: "demo" }));
  assert.equal(held.get("m1").content, "Hello");
  assert.equal(held.get("m1").status, "streaming", "its end is a terminal event");
  assert.equal(held.get("m1").model, "demo");
  held.apply(posted(2, { rev: 3, model: "other" }));
  assert.equal(held.get("m1").model, "demo");
});

test("a higher rev replaces a user's message; a new message takes its place in order", () => {
  const held = transcript({ ordinal: 5 });
  held.apply(posted(1, { ...SAID, ordinal: 4, content: "Hi", rev: 1 }));
  held.apply(posted(2, { ...SAID, ordinal: 4, content: "Ho", rev: 2 }));
  assert.deepEqual(
    held.messages.map((message) => message.content),
    ["Ho", ""],
  );
});

test("a message event's row may have another epoch's seq: it hides no later event", () => {
  const held = transcript();
  held.apply(posted(7, { id: "m2", ordinal: 3, content: "Hel", status: "streaming", seq: 9000 }));
  held.apply({ ...chunk(8, 3, "lo"), message_id: "m2" });
  assert.equal(held.get("m2").content, "Hello");
});

test("a new answer replaces the old one and all after it; their events are ignored", () => {
  const held = transcript(SAID);
  held.admit({ ...ROW, id: "a1", ordinal: 2, parent_id: "u1" });
  held.admit({ ...ROW, id: "u2", role: "user", ordinal: 3, parent_id: "a1" });
  held.admit({ ...ROW, id: "a2", ordinal: 4, parent_id: "u2" });
  held.apply(posted(5, { id: "a3", ordinal: 5, parent_id: "u1" }));
  assert.deepEqual(ids(held), ["u1", "a3"]);
  assert.equal(held.apply({ ...chunk(6, 0, "late"), message_id: "a1" }), true);
  assert.equal(
    held.apply({ ...ending(7, "late", "cancelled"), message_id: "a2", by: "superseded" }),
    true,
  );
  held.apply(posted(8, { id: "u2", role: "user", ordinal: 3, parent_id: "a1", rev: 9 }));
  assert.deepEqual(ids(held), ["u1", "a3"]);
});

test("events older than the rows do not bring back a message that was replaced before them", () => {
  const held = transcript(SAID);
  held.admit({ ...ROW, id: "a3", ordinal: 5, parent_id: "u1" });
  held.apply(posted(1, { id: "a1", ordinal: 2, parent_id: "u1" }));
  held.apply({ ...chunk(2, 0, "old"), message_id: "a1" });
  held.apply(posted(3, { id: "a3", ordinal: 5, parent_id: "u1" }));
  held.apply({ ...ending(4, "old", "cancelled"), message_id: "a1" });
  assert.deepEqual(ids(held), ["u1", "a3"]);
});

test("a source that comes twice, and with its row, is one source", () => {
  const held = transcript();
  const value = { type: "source", url: "https://a.example/", title: "A" };
  const source = { type: "part", message_id: "m1", attempt: 1, part: 0, value };
  held.apply({ ...source, seq: 1 });
  held.apply({ ...source, seq: 2 });
  assert.deepEqual(held.get("m1").parts, [value]);
  held.load({ conversation: {}, messages: [{ ...ROW, status: "streaming", parts: [value] }] });
  held.apply({ ...source, seq: 3 });
  assert.deepEqual(held.get("m1").parts, [value]);
});

test("names of fields and types that mean something to JavaScript mean nothing here", () => {
  const held = transcript();
  const value = JSON.parse('{"type":"constructor","__proto__":{"at":1},"toString":null}');
  const event = { type: "part", message_id: "m1", attempt: 1, value };
  assert.equal(held.apply({ ...event, seq: 1, part: 0 }), true);
  assert.equal(held.apply({ ...event, seq: 2, part: "length" }), false);
  assert.equal(held.apply({ ...event, seq: 3, part: "__proto__" }), false);
  const [part] = held.get("m1").parts;
  assert.deepEqual(Object.getOwnPropertyNames(part), ["type", "__proto__"]);
  assert.equal(Object.getPrototypeOf(part), Object.prototype);
  held.load({ conversation: {}, messages: [{ ...ROW, parts: [value], content: "x" }] });
  assert.equal(held.get("m1").content, "x");
});

test("an edited first message takes the place of everything", () => {
  const held = transcript(SAID);
  held.admit({ ...ROW, id: "a1", ordinal: 2, parent_id: "u1" });
  held.admit({ ...ROW, id: "u2", role: "user", content: "Ho", ordinal: 3, parent_id: null });
  held.admit({ ...ROW, id: "a2", ordinal: 4, parent_id: "u2" });
  assert.deepEqual(ids(held), ["u2", "a2"]);
});

test("a row whose parent is on a page that is not here takes nobody's place", () => {
  const held = transcript({ ordinal: 8, parent_id: "u7" }, { next: 8 });
  held.admit({ ...ROW, id: "u9", role: "user", ordinal: 9, parent_id: "elsewhere" });
  assert.deepEqual(ids(held), ["m1", "u9"]);
});

test("posts that were made at once both stay, whichever is heard of first", () => {
  const rows = [
    { ...ROW, id: "u1", role: "user", ordinal: 1, parent_id: null },
    { ...ROW, id: "a1", ordinal: 2, parent_id: "u1" },
    { ...ROW, id: "u2", role: "user", ordinal: 3, parent_id: "a1" },
    { ...ROW, id: "a2", ordinal: 4, parent_id: "u2" },
  ];
  for (const order of [
    [0, 1, 2, 3],
    [2, 3, 0, 1],
    [3, 2, 1, 0],
    [1, 3, 0, 2],
  ]) {
    const held = new Transcript();
    held.load({ conversation: {}, messages: [] });
    for (const n of order) held.admit(rows[n]);
    assert.deepEqual(ids(held), ["u1", "a1", "u2", "a2"]);
  }
});

test("events of a message that is not held belong to one replaced before loading", () => {
  const held = transcript({ status: "complete" });
  assert.equal(held.apply({ ...chunk(1, 7, "late"), message_id: "old" }), true);
  assert.equal(
    held.apply({ ...ending(2, "something late", "cancelled"), message_id: "old" }),
    true,
  );
  assert.deepEqual(ids(held), ["m1"]);
});

test("an answer that nobody told of begins with a start, and its row gives it its place", () => {
  const held = transcript({ ordinal: 9, status: "complete" });
  held.apply({ ...chunk(1, 0, "late"), message_id: "m3" });
  held.apply({ seq: 2, type: "start", message_id: "m2", attempt: 1, model: "demo" });
  held.apply({ ...chunk(3, 0, "early"), message_id: "m2" });
  held.apply(posted(4, { id: "m2", ordinal: 3 }));
  assert.deepEqual(
    held.messages.map((message) => [message.id, message.content]),
    [
      ["m2", "early"],
      ["m1", ""],
    ],
  );
});

test("until live, text already shown stays while the row read again is a beginning of it", () => {
  const held = transcript();
  held.apply(chunk(1, 0, "Hello you"));
  held.load({
    conversation: {},
    messages: [{ ...ROW, content: "Hello", status: "streaming" }],
    next: null,
  });
  assert.equal(held.get("m1").content, "Hello you");
  held.apply(chunk(1, 5, " y"));
  assert.equal(held.get("m1").content, "Hello you");
  held.release();
  assert.equal(held.get("m1").content, "Hello y");
});

test("text that diverges from what was shown is shown at once", () => {
  const held = transcript();
  held.apply(chunk(1, 0, "Hello you"));
  held.load({
    conversation: {},
    messages: [{ ...ROW, content: "Help", status: "streaming" }],
    next: null,
  });
  assert.equal(held.get("m1").content, "Help");
});

test("unknown types, unknown fields and poisonous names change nothing", () => {
  const held = transcript();
  for (const type of ["later", "constructor", "__proto__", "toString", "hasOwnProperty"])
    assert.equal(held.apply({ seq: 1, type, message_id: "m1" }), true);
  held.apply(
    JSON.parse(
      '{"seq":2,"type":"message","message":{"id":"__proto__","ordinal":1,"role":"user",' +
        '"content":"x","rev":1,"__proto__":{"polluted":true}}}',
    ),
  );
  assert.equal({}.polluted, undefined);
  assert.deepEqual([held.get("__proto__").content, held.get("__proto__").seq], ["x", 0]);
});

test("earlier pages stay when the newest is read again", () => {
  const held = transcript({ id: "m5", ordinal: 5 }, { next: "5" });
  held.prepend({ messages: [{ ...ROW, id: "m4", ordinal: 4 }], next: null });
  held.load({
    conversation: {},
    messages: [
      { ...ROW, id: "m5", ordinal: 5 },
      { ...ROW, id: "m6", ordinal: 6 },
    ],
    next: "5",
  });
  assert.deepEqual(ids(held), ["m4", "m5", "m6"]);
  assert.equal(held.next, null);
});

test("close codes decide as the protocol's table says", () => {
  for (const code of [4400, 4403, 4404, 401, 403, 404])
    assert.equal(afterClose(code, 0).then, "stop");
  assert.deepEqual(afterClose(4401, 0), { then: "token", delay_ms: 0 });
  assert.deepEqual(
    afterClose(4410, 0, () => 0.5),
    { then: "resync", delay_ms: 1000 },
  );
  assert.deepEqual(
    afterClose(1012, 0, () => 0.5),
    { then: "reconnect", delay_ms: 1500 },
  );
  assert.deepEqual(
    afterClose(1006, 3, () => 1),
    { then: "reconnect", delay_ms: 4000 },
  );
  for (const code of [0, 1001, 1006, 1013, 4401, 4408, 4410, 4429, 503]) {
    assert.ok(afterClose(code, 50, () => 1).delay_ms <= 30_000);
    assert.ok(afterClose(code, 50, () => 1).delay_ms >= 10_000, `${code} backs off in the end`);
  }
});

/** Run `use(timers)` in mocked time. */
async function inMockedTime(use) {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_700_000_000_000 });
  try {
    await use(mock.timers);
  } finally {
    mock.timers.reset();
  }
}

const FAULTS = {
  calm: {},
  reordered: { reorder: 0.4 },
  repeated: { repeat: 0.5 },
  dropped: { drop: 0.05 },
  cut: { cut: 0.05 },
  everything: { reorder: 0.2, repeat: 0.2, drop: 0.03, cut: 0.03, refuse: 0.2 },
};

for (const [name, faults] of Object.entries(FAULTS)) {
  test(`every reader ends with the text of the row: ${name}`, async () => {
    for (let seed = 1; seed <= 8; seed++) {
      await inMockedTime(async (timers) => {
        const random = dice(seed);
        const conversation = new Conversation();
        const row = conversation.row({ id: "m1" });
        const { events, content } = answer("m1", random);
        const seen = [];
        const watch = new Subscription({
          load: conversation.load,
          grant: conversation.grant,
          random,
          WebSocket: hostileSocket(conversation, random, faults),
          onchange: (message, event) => event && seen.push(event.seq),
        });
        const script = [...events];
        const writing = setInterval(() => script.length && conversation.append(script.shift()), 20);
        await passTime(timers, () => watch.messages[0]?.status === "complete");
        clearInterval(writing);
        watch.close();
        assert.equal(watch.messages[0].content, content, `seed ${seed}`);
        assert.equal(watch.messages[0].proven, true);
        assert.deepEqual(
          seen,
          events.map((_, n) => n + 1),
          "each event once, in order",
        );
        assert.equal(conversation.loads, 1, "resumed by cursor, never read again");
        assert.equal(row.status, "queued");
      });
    }
  });
}

test("a lost log is read again, and the text on show never shrinks before live", async () => {
  await inMockedTime(async (timers) => {
    const conversation = new Conversation();
    const row = conversation.row({ id: "m1" });
    const shown = [];
    const watch = new Subscription({
      ...conversation,
      WebSocket: hostileSocket(conversation, dice(1)),
      onchange: () => shown.push(watch.messages[0].content),
    });
    await passTime(timers, () => watch.state.name === "live");
    conversation.append(chunk(1, 0, "Hello "));
    conversation.checkpoint(row, "Hello ");
    conversation.append(chunk(2, 6, "you"));
    await passTime(timers, () => watch.messages[0].content === "Hello you");
    conversation.newEpoch();
    conversation.floor = 0;
    conversation.append(chunk(1, 6, "you two"));
    await passTime(
      timers,
      () => watch.messages[0].content === "Hello you two" && watch.state.name === "live",
    );
    watch.close();
    assert.equal(conversation.loads, 2);
    assert.deepEqual(
      shown.filter((text, n) => n && text.length < shown[n - 1].length),
      [],
    );
  });
});

test("a snapshot ahead of its cursor is not counted twice", async () => {
  await inMockedTime(async (timers) => {
    const conversation = new Conversation();
    const row = conversation.row({ id: "m1" });
    conversation.append({ type: "start", message_id: "m1", attempt: 1, model: "demo" });
    conversation.append(piece(0, "Hello"));
    conversation.checkpoint(row, "Hello");
    conversation.floor = 0;
    conversation.append(piece(5, " you"));
    const watch = new Subscription({
      ...conversation,
      WebSocket: hostileSocket(conversation, dice(1)),
    });
    await passTime(timers, () => watch.state.name === "live");
    watch.close();
    assert.equal(watch.messages[0].content, "Hello you");
  });
});

test("silence is a dead connection, and a heartbeat ahead of what came asks again", async () => {
  await inMockedTime(async (timers) => {
    const conversation = new Conversation();
    conversation.row({ id: "m1" });
    const states = [];
    const watch = new Subscription({
      ...conversation,
      WebSocket: hostileSocket(conversation, dice(1)),
      onstate: ({ name }) => states.push(name),
    });
    await passTime(timers, () => watch.state.name === "live");
    conversation.events.push(chunk(1, 0, "unheard"));
    await passTime(
      timers,
      () => watch.messages[0].content === "unheard" && watch.state.name === "live",
    );
    for (const socket of conversation.sockets) clearInterval(socket.beat);
    states.length = 0;
    await passTime(timers, () => states.includes("reconnecting"));
    await passTime(timers, () => watch.state.name === "live");
    watch.close();
  });
});

test("a deleted conversation and a refusal stop for good; a server error does not", async () => {
  for (const [status, then] of [
    [404, "stopped"],
    [403, "stopped"],
    [401, "stopped"],
    [503, "reconnecting"],
  ]) {
    await inMockedTime(async (timers) => {
      const load = async () => Promise.reject(Object.assign(new Error("no"), { status }));
      const watch = new Subscription({ load, grant: load, WebSocket: class {} });
      await passTime(timers, () => watch.state.name === then);
      assert.equal(watch.state.code, status);
      watch.close();
    });
  }
});

test("a bad token is renewed and the cursor kept", async () => {
  await inMockedTime(async (timers) => {
    const conversation = new Conversation();
    conversation.row({ id: "m1" });
    let grants = 0;
    const grant = async () => ({ ...(await conversation.grant()), token: `t${++grants}` });
    const watch = new Subscription({
      load: conversation.load,
      grant,
      WebSocket: hostileSocket(conversation, dice(1)),
    });
    await passTime(timers, () => watch.state.name === "live");
    for (const socket of [...conversation.sockets]) socket.cut(4401);
    await passTime(timers, () => watch.state.name === "live" && grants === 2);
    assert.equal(conversation.loads, 1);
    watch.close();
  });
});

test("authorisation is renewed in place before it runs out", async () => {
  await inMockedTime(async (timers) => {
    const conversation = new Conversation();
    conversation.row({ id: "m1" });
    let grants = 0;
    const states = [];
    const grant = async () => ({ ...(await conversation.grant()), token: `t${++grants}` });
    const watch = new Subscription({
      load: conversation.load,
      grant,
      WebSocket: hostileSocket(conversation, dice(1)),
      onstate: ({ name }) => states.push(name),
    });
    await passTime(timers, () => grants === 3, { step: 500 });
    assert.ok(!states.includes("reconnecting"));
    watch.close();
  });
});

test("garbage on the socket ends the connection, not the page", async () => {
  await inMockedTime(async (timers) => {
    const conversation = new Conversation();
    conversation.row({ id: "m1" });
    const Socket = hostileSocket(conversation, dice(1));
    const watch = new Subscription({ ...conversation, WebSocket: Socket });
    for (const data of [
      "{",
      "null",
      "7",
      '"x"',
      "[]",
      '{"type":"constructor"}',
      '{"type":"chunk"}',
      '{"seq":1}',
      '{"seq":1.5,"type":"chunk"}',
      '{"seq":-4,"type":"chunk"}',
    ]) {
      await passTime(timers, () => watch.state.name === "live");
      for (const socket of conversation.sockets) socket.onmessage({ data });
    }
    conversation.append(piece(0, "fine"));
    await passTime(timers, () => watch.messages[0].content === "fine");
    watch.close();
  });
});

test("after close nothing is called any more and nothing is left running", async () => {
  await inMockedTime(async (timers) => {
    const conversation = new Conversation();
    conversation.row({ id: "m1" });
    let calls = 0;
    const watch = new Subscription({
      ...conversation,
      WebSocket: hostileSocket(conversation, dice(1)),
      onstate: () => calls++,
      onchange: () => calls++,
    });
    await passTime(timers, () => watch.state.name === "live");
    watch.close();
    calls = 0;
    conversation.append(piece(0, "late"));
    timers.tick(120_000);
    await null;
    assert.equal(calls, 0);
    assert.equal(conversation.sockets.size, 0);
  });
});

test("closed while the conversation is read, it shows nothing of it", async () => {
  let read;
  const loading = new Promise((resolve) => (read = resolve));
  const told = [];
  const conversation = new Conversation();
  conversation.row({ id: "m1" });
  const snapshot = await conversation.load();
  const watch = new Subscription({
    load: () => loading,
    grant: conversation.grant,
    WebSocket: class {},
    onchange: () => told.push("change"),
    onstate: () => told.push("state"),
  });
  await null;
  watch.close();
  read(snapshot);
  await new Promise(setImmediate);
  assert.deepEqual([told, watch.messages, watch.cursor], [[], [], null]);
});

test("subscribe reads the conversation, asks for a grant and connects where it says", async () => {
  const asked = [];
  const fetch = async (url, { method, headers }) => {
    asked.push(`${method} ${url} ${headers.Authorization}`);
    const grant = { url: "ws://there/", token: "t1", expires_in: 600 };
    return Response.json(
      method === "POST"
        ? grant
        : { conversation: { id: "c", rev: 1 }, messages: [ROW], next: 7, cursor: "e1:4" },
    );
  };
  let socket = null;
  class Socket {
    readyState = 1;
    constructor(url) {
      socket = Object.assign(this, { url });
    }
    send(text) {
      this.sent = JSON.parse(text);
    }
    close() {}
  }
  const watch = subscribe("c", {
    base: "http://h",
    headers: { Authorization: "Bearer x" },
    fetch,
    WebSocket: Socket,
  });
  for (let turn = 0; turn < 100; turn++) await null;
  watch.close();
  assert.ok(socket, "it did not connect");
  assert.deepEqual(asked, [
    "GET http://h/api/conversations/c Bearer x",
    "POST http://h/api/conversations/c/subscription Bearer x",
  ]);
  assert.equal(socket.url, "ws://there/");
  assert.deepEqual([watch.messages[0].id, watch.transcript.next, watch.cursor], ["m1", 7, "e1:4"]);
});

test("subscribe asks the API and carries its refusals on", async () => {
  const asked = [];
  const fetch = async (url, { method, headers }) => {
    asked.push(`${method} ${url} ${headers.Authorization}`);
    return new Response("{}", { status: 404 });
  };
  const watch = subscribe("a/b", {
    base: "http://h",
    headers: () => ({ Authorization: "Bearer x" }),
    fetch,
    WebSocket: class {},
  });
  while (watch.state.name !== "stopped") await new Promise(setImmediate);
  assert.deepEqual(asked, ["GET http://h/api/conversations/a%2Fb Bearer x"]);
  watch.close();
});

test("iterated over, it gives every change once and in order, and ends with close", async () => {
  await inMockedTime(async (timers) => {
    const random = dice(3);
    const conversation = new Conversation();
    conversation.row({ id: "m1" });
    const { events, content } = answer("m1", random);
    const watch = new Subscription({
      ...conversation,
      random,
      WebSocket: hostileSocket(conversation, random, FAULTS.everything),
    });
    const seen = [];
    let empty = 0;
    const reading = (async () => {
      for await (const { message, event } of watch) {
        if (event) seen.push(event.seq);
        else empty++;
        if (event) assert.equal(message, watch.transcript.get("m1"));
        if (event?.type === "complete") watch.close();
      }
    })();
    const script = [...events];
    const writing = setInterval(() => script.length && conversation.append(script.shift()), 20);
    await passTime(timers, () => watch.messages[0]?.status === "complete");
    clearInterval(writing);
    await reading;
    assert.deepEqual(
      seen,
      events.map((_, n) => n + 1),
    );
    assert.ok(empty >= 2, "once at first, once when the rows were read");
    assert.equal(watch.messages[0].content, content);
  });
});

test("two iterators do not take from each other, and leaving one loop closes nothing", async () => {
  await inMockedTime(async (timers) => {
    const conversation = new Conversation();
    conversation.row({ id: "m1" });
    const watch = new Subscription({
      ...conversation,
      WebSocket: hostileSocket(conversation, dice(1)),
    });
    const until = async (seq) => {
      for await (const { event } of watch) if (event?.seq === seq) return seq;
    };
    const readings = Promise.all([until(1), until(2)]);
    await passTime(timers, () => watch.state.name === "live");
    conversation.append(piece(0, "a"));
    conversation.append(piece(1, "b"));
    await passTime(timers, () => watch.messages[0].content === "ab");
    assert.deepEqual(await readings, [1, 2]);
    assert.equal(watch.state.name, "live");
    watch.close();
  });
});

test("a loop that is far behind gets one change that stands for all", async () => {
  await inMockedTime(async (timers) => {
    const conversation = new Conversation();
    conversation.row({ id: "m1" });
    const watch = new Subscription({
      ...conversation,
      WebSocket: hostileSocket(conversation, dice(1)),
    });
    const loop = watch[Symbol.asyncIterator]();
    assert.deepEqual((await loop.next()).value, {});
    await passTime(timers, () => watch.state.name === "live");
    for (let n = 0; n < 9000; n++) conversation.append(piece(n, "x"));
    await passTime(timers, () => watch.messages[0].content.length === 9000);
    let left = 0;
    for (let last = false; !last; left++) last = (await loop.next()).value.event?.seq === 9000;
    assert.ok(left < 4200, `${left} changes were kept`);
    watch.close();
    assert.equal((await loop.next()).done, true);
  });
});

test("a loop over a subscription that stops for good ends", async () => {
  const load = async () => Promise.reject(Object.assign(new Error("no"), { status: 404 }));
  const watch = new Subscription({ load, grant: load, WebSocket: class {} });
  for await (const change of watch) assert.deepEqual(change, {});
  assert.deepEqual(watch.state, { name: "stopped", code: 404 });
});

test("a loop that was left keeps nothing of what follows", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  await inMockedTime(async (timers) => {
    const conversation = new Conversation();
    conversation.row({ id: "m1" });
    const seen = [];
    const onchange = (message, event) => event && seen.push(new WeakRef(event));
    const watch = new Subscription({
      ...conversation,
      onchange,
      WebSocket: hostileSocket(conversation, dice(1)),
    });
    for await (const change of watch) if (change) break;
    await passTime(timers, () => watch.state.name === "live");
    for (let n = 0; n < 10; n++) conversation.append(piece(n, "x"));
    await passTime(timers, () => watch.messages[0].content.length === 10);
    // The target of a WeakRef lives at least as long as the job that created the reference.
    await new Promise(setImmediate);
    collect();
    assert.ok(seen.filter((event) => event.deref()).length < 10);
    watch.close();
  });
});

test(
  "closed while it waits for another attempt, it waits no longer",
  { timeout: 30_000 },
  async () => {
    const load = async () =>
      Promise.reject(Object.assign(new Error("away"), { status: 503, retryAfter: 60 }));
    const watch = new Subscription({ load, grant: load, WebSocket: class {} });
    while (watch.state.name !== "reconnecting") await new Promise(setImmediate);
    watch.close();
    assert.equal(process.getActiveResourcesInfo().filter((name) => name === "Timeout").length, 0);
  },
);

test("where there is no WebSocket it says so at once", () => {
  assert.throws(() => new Subscription({ load() {}, grant() {}, WebSocket: undefined }), TypeError);
});

test("tokenwire.d.ts names what there is, no more and no less", async () => {
  const declared = readFileSync(
    new URL("../../web/page/static/tokenwire.d.ts", import.meta.url),
    "utf8",
  ).replace(/\/\*\*[\s\S]*?\*\//g, "");
  const names = [...declared.matchAll(/^export (?:class|function|const) (\w+)/gm)].map(
    ([, name]) => name,
  );
  const module = await import("../../web/page/static/tokenwire.js");
  assert.deepEqual(names.sort(), Object.keys(module).sort());
  for (const [, name, body] of declared.matchAll(/^export class (\w+)[^{]*\{\n([\s\S]*?)^\}/gm)) {
    const members = [...body.matchAll(/^ {2}(?:readonly )?(?:\[(Symbol\.\w+)\]|(\w+))[(:?]/gm)].map(
      ([, symbol, plain]) => symbol ?? plain,
    );
    const type = module[name];
    const held =
      name === "Order"
        ? new type({ epoch: "e", seq: 0 })
        : name === "Transcript"
          ? new type()
          : Object.create(type.prototype);
    const own = Reflect.ownKeys(type.prototype)
      .filter((key) => key !== "constructor" || members.includes(key))
      .map((key) => (typeof key === "symbol" ? key.description : key));
    const fields = name === "Subscription" ? ["state", "transcript"] : Object.keys(held);
    assert.deepEqual(members.sort(), [...own, ...fields].sort(), name);
  }
});

test("a callback that throws is told to its owner, and no event is lost by it", async () => {
  await inMockedTime(async (timers) => {
    const conversation = new Conversation();
    conversation.row({ id: "m1" });
    const thrown = [];
    const catching = mock.method(globalThis, "queueMicrotask", (act) =>
      assert.throws(act, (error) => thrown.push(error.message) > 0),
    );
    const onchange = () => {
      throw new Error("mine");
    };
    const onstate = () => {
      throw new Error("mine too");
    };
    const watch = new Subscription({
      ...conversation,
      WebSocket: hostileSocket(conversation, dice(1)),
      onchange,
      onstate,
    });
    await passTime(timers, () => watch.state.name === "live");
    for (const [offset, content] of [..."abc"].entries())
      conversation.append(piece(offset, content));
    await passTime(timers, () => watch.messages[0].content === "abc");
    watch.close();
    catching.mock.restore();
    assert.equal(conversation.loads, 1);
    assert.ok(thrown.includes("mine") && thrown.includes("mine too"));
  });
});
