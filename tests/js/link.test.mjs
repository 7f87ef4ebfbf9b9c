/**
 * tokenwire.js frame by frame: the test plays the server, so that each rule about time and order is
 * met alone.
 */

import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Subscription, Transcript } from "../../web/page/static/tokenwire.js";
import { chunk } from "./events.mjs";

const ROW = {
  id: "m1",
  ordinal: 2,
  role: "assistant",
  content: "",
  status: "streaming",
  seq: 4,
  rev: 1,
};
const EVENT = (seq, offset = seq - 5, content = "x") => chunk(seq, offset, content);
const HOUR = 3600;

/**
 * Everything a subscription touches. Its log stands at e1:4; `sockets` are the connections it has
 * made, in order.
 */
class Rig {
  sockets = [];
  states = [];
  loads = 0;
  grants = 0;
  refused = 0; // of the next grants so many fail
  given = 0;

  constructor(options = {}) {
    const rig = this;
    class Socket {
      readyState = 0;
      sent = [];
      constructor() {
        rig.sockets.push(this);
      }
      /** The server accepts; what the client subscribes with. */
      open() {
        this.readyState = 1;
        this.onopen();
        return this.sent[0];
      }
      say(frame) {
        this.onmessage?.({ data: JSON.stringify(frame) });
      }
      send(text) {
        this.sent.push(JSON.parse(text));
      }
      drop(code = 1006) {
        this.readyState = 3;
        this.onclose?.({ code });
      }
      close() {
        this.closed = true;
      }
    }
    this.watch = new Subscription({
      WebSocket: Socket,
      random: () => 1,
      onstate: (state) => this.states.push(state),
      load: async () => (
        this.loads++,
        {
          conversation: { id: "c1", rev: 1 },
          messages: [{ ...ROW, ...options.row }],
          next: null,
          cursor: "e1:4",
        }
      ),
      grant: async () => {
        if (this.refused-- > 0)
          throw Object.assign(new Error("no"), { status: 503, retryAfter: 7 });
        return {
          url: "ws://here/",
          token: `t${++this.grants}`,
          expires_in: options.expires_in ?? 600,
        };
      },
    });
  }

  get text() {
    return this.watch.messages[0].content;
  }

  /** A connection that is at the tip. */
  async live({ seq = 4, heartbeat_seconds = HOUR } = {}) {
    const socket = await this.dialled();
    socket.open();
    socket.say({ type: "subscribed", epoch: "e1", seq, heartbeat_seconds, version: 1 });
    socket.say({ type: "live", epoch: "e1", seq });
    return socket;
  }

  /** The connection that was not given out yet, however long it is waited for. */
  async dialled(most = 60_000) {
    for (let waited = 0; this.sockets.length <= this.given; waited += 10) {
      assert.ok(waited <= most, "it did not dial");
      await pass(10);
    }
    this.given = this.sockets.length;
    return this.sockets.at(-1);
  }
}

/** What is promised has been kept. */
async function settle() {
  for (let turn = 0; turn < 20; turn++) await null;
}

async function pass(ms) {
  for (let left = ms; left > 0; left -= 10) {
    mock.timers.tick(Math.min(10, left));
    await settle();
  }
}

function inMockedTime(name, use) {
  test(name, async () => {
    mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_700_000_000_000 });
    try {
      await use();
    } finally {
      mock.timers.reset();
    }
  });
}

inMockedTime(
  "how long a silence may be is the server's to say, as soon as it has said so",
  async () => {
    const rig = new Rig();
    const socket = await rig.dialled();
    socket.open();
    socket.say({ type: "subscribed", epoch: "e1", seq: 4, heartbeat_seconds: 60, version: 1 });
    await pass(59_000);
    assert.equal(socket.closed, undefined);
    await pass(2000);
    assert.equal(socket.closed, true);
    rig.watch.close();
  },
);

inMockedTime(
  "a client waits a second for a missing event, then reconnects with its cursor",
  async () => {
    const rig = new Rig();
    const socket = await rig.live();
    socket.say(EVENT(6));
    await pass(900);
    assert.equal(socket.closed, undefined, "patience");
    await pass(200);
    assert.equal(socket.closed, true, "with an end");
    const next = await rig.dialled();
    assert.equal(next.open().after, "e1:4");
    rig.watch.close();
  },
);

inMockedTime("an event that is only late costs nothing", async () => {
  const rig = new Rig();
  const socket = await rig.live();
  socket.say(EVENT(6));
  await pass(500);
  socket.say(EVENT(5));
  assert.equal(rig.text, "xx");
  await pass(5000);
  assert.equal(socket.closed, undefined, "the hole is filled: nobody waits for it any more");
  rig.watch.close();
});

inMockedTime(
  "patience is counted from the first event that waits, whatever comes behind it",
  async () => {
    const rig = new Rig();
    const socket = await rig.live();
    for (const seq of [6, 7, 8]) (socket.say(EVENT(seq)), await pass(400));
    assert.equal(socket.closed, true);
    rig.watch.close();
  },
);

inMockedTime("a second hole has a patience of its own", async () => {
  const rig = new Rig();
  const socket = await rig.live();
  socket.say(EVENT(6));
  await pass(600);
  socket.say(EVENT(5));
  await pass(200);
  socket.say(EVENT(8));
  await pass(700);
  assert.equal(socket.closed, undefined);
  await pass(400);
  assert.equal(socket.closed, true);
  rig.watch.close();
});

inMockedTime("more than can wait ends the connection at once", async () => {
  const rig = new Rig();
  const socket = await rig.live();
  for (let seq = 6; seq < 6 + 512; seq++) socket.say(EVENT(seq));
  assert.equal(socket.closed, undefined);
  socket.say(EVENT(6 + 512));
  assert.equal(socket.closed, true);
  rig.watch.close();
});

inMockedTime(
  "a client leaves a server that does not accept, or says nothing, after 15 s",
  async () => {
    for (const accepts of [true, false]) {
      const rig = new Rig();
      const socket = await rig.dialled();
      if (accepts) socket.open();
      await pass(14_800);
      assert.equal(socket.closed, undefined);
      await pass(400);
      assert.equal(socket.closed, true);
      rig.watch.close();
    }
  },
);

inMockedTime(
  "a log that forked has another name, and later events of rows mean nothing in it",
  async () => {
    const rig = new Rig({ row: { seq: 9 } });
    const socket = await rig.dialled();
    socket.open();
    socket.say({ type: "subscribed", epoch: "e2", seq: 4, heartbeat_seconds: HOUR, version: 1 });
    socket.say({ type: "live", epoch: "e2", seq: 4 });
    assert.equal(socket.closed, undefined);
    assert.equal(rig.loads, 1);
    assert.ok(rig.watch.transcript.messages.every(({ seq }) => seq <= 4));
    socket.drop();
    assert.equal((await rig.dialled()).open().after, "e2:4");
    rig.watch.close();
  },
);

inMockedTime("a cursor that cannot be served is read again", async () => {
  const rig = new Rig();
  const socket = await rig.dialled();
  socket.open();
  socket.say({ type: "resync", reason: "epoch" });
  assert.equal(socket.closed, true);
  await rig.dialled();
  assert.equal(rig.loads, 2);
  rig.watch.close();
});

inMockedTime("`live` with something missing before it is not believed", async () => {
  const rig = new Rig();
  const socket = await rig.live({ seq: 7 });
  assert.equal(socket.closed, true);
  await settle();
  assert.ok(!rig.states.some(({ name }) => name === "live"));
  rig.watch.close();
});

for (const wrong of [
  { epoch: "e1", seq: 5 },
  { epoch: "e2", seq: 4 },
]) {
  inMockedTime(
    `a heartbeat at ${wrong.epoch}:${wrong.seq} where e1:4 is held ends the connection`,
    async () => {
      const rig = new Rig();
      const socket = await rig.live();
      socket.say({ type: "heartbeat", epoch: "e1", seq: 4 });
      assert.equal(socket.closed, undefined);
      socket.say({ type: "heartbeat", ...wrong });
      assert.equal(socket.closed, true);
      rig.watch.close();
    },
  );
}

inMockedTime("failures count until an event comes", async () => {
  const rig = new Rig();
  const delays = async (times) => {
    for (; times > 0; times--) ((await rig.dialled()).drop(), await settle());
    return rig.states.at(-1).delay_ms;
  };
  assert.equal(await delays(1), 500);
  assert.equal(await delays(3), 4000);
  const socket = await rig.live();
  socket.say(EVENT(5));
  assert.equal(rig.text, "x");
  socket.drop();
  await settle();
  assert.equal(rig.states.at(-1).delay_ms, 500);
  rig.watch.close();
});

inMockedTime(
  "failures count until a connection was live for five seconds, and a shorter one is one more",
  async () => {
    const rig = new Rig();
    for (let times = 0; times < 3; times++) ((await rig.dialled()).drop(), await settle());
    let socket = await rig.live();
    await pass(4000);
    socket.drop();
    await settle();
    assert.equal(rig.states.at(-1).delay_ms, 4000);
    socket = await rig.live();
    await pass(5500);
    socket.drop();
    await settle();
    assert.equal(rig.states.at(-1).delay_ms, 500);
    rig.watch.close();
  },
);

inMockedTime(
  "a token is renewed on the open connection when four fifths of its time are over",
  async () => {
    const rig = new Rig({ expires_in: 130 }); // 100 s, and 30 s in hand
    const socket = await rig.live();
    await pass(79_000);
    assert.equal(socket.sent.length, 1);
    await pass(2000);
    assert.deepEqual(socket.sent[1], { type: "refresh", token: "t2" });
    socket.say({ type: "refreshed", expires_in: 100 });
    await pass(82_000);
    assert.deepEqual(socket.sent[2], { type: "refresh", token: "t3" });
    assert.equal(socket.closed, undefined);
    rig.watch.close();
  },
);

inMockedTime("a renewal that failed is tried again after ten seconds", async () => {
  const rig = new Rig({ expires_in: 130 });
  const socket = await rig.live();
  rig.refused = 1;
  await pass(85_000);
  assert.equal(socket.sent.length, 1);
  await pass(10_000);
  assert.deepEqual(socket.sent[1], { type: "refresh", token: "t2" });
  rig.watch.close();
});

inMockedTime("a token that has run out is not presented again", async () => {
  const rig = new Rig({ expires_in: 31 }); // 1 s, and 30 s in hand
  const socket = await rig.live();
  rig.refused = 1;
  await pass(2000);
  socket.drop();
  rig.refused = 0;
  assert.equal((await rig.dialled()).open().token, "t2");
  rig.watch.close();
});

inMockedTime("a server that says when to come back is not asked before", async () => {
  const rig = new Rig();
  rig.refused = 1;
  await pass(100);
  assert.deepEqual(rig.states.at(-1), { name: "reconnecting", code: 503, delay_ms: 7000 });
  await pass(6500);
  assert.equal(rig.sockets.length, 0);
  await rig.dialled(1000);
  rig.watch.close();
});

inMockedTime(
  "text that was shown stays until `live`, and then gives way to what the log says",
  async () => {
    const rig = new Rig();
    let socket = await rig.live();
    socket.say(EVENT(5, 0, "Hello you"));
    socket.say({ type: "resync", reason: "epoch" });
    socket = await rig.dialled();
    assert.equal(rig.loads, 2);
    assert.equal(rig.text, "Hello you", "the row that was read holds nothing yet");
    socket.open();
    socket.say({ type: "subscribed", epoch: "e1", seq: 5, heartbeat_seconds: HOUR, version: 1 });
    socket.say(EVENT(5, 0, "Hello"));
    assert.equal(rig.text, "Hello you");
    socket.say({ type: "live", epoch: "e1", seq: 5 });
    assert.equal(rig.text, "Hello");
    rig.watch.close();
  },
);

inMockedTime("text with a hole in it is read again", async () => {
  const rig = new Rig();
  const socket = await rig.live();
  socket.say(EVENT(5, 7));
  assert.equal(socket.closed, true);
  await settle();
  assert.equal(rig.states.at(-1).code, 4410);
  await rig.dialled();
  assert.equal(rig.loads, 2);
  rig.watch.close();
});

test("an earlier page does not bring back the state that a row had when the page was read", () => {
  const held = new Transcript();
  held.load({ conversation: { id: "c1", rev: 1 }, messages: [{ ...ROW, seq: 0 }], next: 2 });
  held.apply({ ...EVENT(1, 0, "Hello"), seq: 1 });
  held.prepend({
    messages: [
      { ...ROW, id: "m0", ordinal: 1 },
      { ...ROW, seq: 0 },
    ],
    next: null,
  });
  assert.deepEqual(
    held.messages.map(({ id, content }) => [id, content]),
    [
      ["m0", ""],
      ["m1", "Hello"],
    ],
  );
  assert.equal(held.get("m1").content, "Hello");
});
