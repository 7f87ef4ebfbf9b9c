/** feed.js and resumable-fetch.js: how long they wait before they come back, and that a good time is remembered. */

import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Feed } from "../../web/static/feed.js";
import { resumableFetch } from "../../web/static/resumable-fetch.js";

test("refusals of a feed count only while they follow one another", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const sources = [];
  class Source {
    static CLOSED = 2;
    constructor() {
      sources.push(this);
    }
    refuse() {
      this.readyState = Source.CLOSED;
      this.onerror();
    }
    close() {}
  }
  Object.assign(globalThis, { EventSource: Source, document: { hidden: false, addEventListener() {} }, addEventListener() {} });
  const feed = new Feed({ onevent() {}, onstate() {} });
  for (let refused = 0; refused < 5; refused++) {
    sources.at(-1).refuse();
    mock.timers.tick(60_000);
  }
  assert.equal(sources.length, 6);
  sources.at(-1).onmessage({ data: '{"type":"snapshot"}' });
  assert.equal(feed.live, true);
  sources.at(-1).refuse();
  mock.timers.tick(5_000); // the first pause again, not the sixth
  assert.equal(sources.length, 7);
  mock.timers.reset();
});

test("breaks of a stream count only while they follow one another", async () => {
  const block = (id, data) => `id: e:${id}\ndata: ${data}\n\n`;
  const bodies = Array.from({ length: 6 }, (_, n) => block(n, `{"n":${n}}`)).concat(block(9, "[DONE]"));
  const pauses = [];
  const fetch = resumableFetch({
    fetch: async () => new Response(bodies.shift(), { headers: { "content-type": "text/event-stream" } }),
    tries: 3,
    pause: (failures) => (pauses.push(failures), 0),
  });
  const text = await (await fetch("/api/chat/c/stream")).text();
  assert.match(text, /\[DONE\]/);
  assert.deepEqual(pauses, [0, 0, 0, 0, 0, 0]);
});
