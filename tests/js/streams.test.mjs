/**
 * feed.js and resumable-fetch.js: when they come back and what they ask for then, how long they
 * wait, and that a good time is remembered.
 */

import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Feed } from "../../web/page/static/feed.js";
import { resumableFetch } from "../../web/page/static/resumable-fetch.js";

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
  Object.assign(globalThis, {
    EventSource: Source,
    document: { hidden: false, addEventListener() {} },
    addEventListener() {},
  });
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

const block = (id, data) => `id: e:${id}\ndata: ${data}\n\n`;
const bytes = (text) => new TextEncoder().encode(text);
const stream = (body, status = 200) =>
  new Response(body, { status, headers: { "content-type": "text/event-stream" } });

/** A body that brings these pieces and then breaks. */
const breaking = (...pieces) =>
  new ReadableStream({
    pull: (controller) =>
      pieces.length
        ? controller.enqueue(pieces.shift())
        : controller.error(new TypeError("no network")),
  });

/** A resumable fetch whose requests get these answers, and what it asked for. */
function answering(...answers) {
  const asked = [];
  const fetch = async (url, init) => {
    asked.push({ url, ...init, headers: Object.fromEntries(new Headers(init.headers)) });
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    if (answer === undefined) throw Object.assign(new Error("asked too often"), { final: true });
    return typeof answer === "function" ? answer(init) : answer;
  };
  return { asked, fetch: resumableFetch({ fetch, tries: 3, pause: () => 0 }) };
}

const POST = {
  method: "POST",
  body: '{"id":"a/b"}',
  headers: { Authorization: "Bearer x" },
  credentials: "include",
};

test("after a break the wrapper asks for the stream after the last whole event", async () => {
  const whole = `${block(1, "{}")}data: {"nameless":1}\n\n`;
  const { asked, fetch } = answering(
    stream(breaking(bytes(`${whole}id: e:2\ndata: {"ha`)), 202),
    stream(block(2, '{"half":1}')),
    stream(block(3, "[DONE]")),
  );
  const response = await fetch("/api/chat?model=demo", POST);
  assert.equal(response.status, 202);
  assert.equal(await response.text(), whole + block(2, '{"half":1}') + block(3, "[DONE]"));
  assert.deepEqual(
    asked.map(({ method, url }) => `${method} ${url}`),
    ["POST /api/chat?model=demo", ...Array(2).fill("GET /api/chat/a%2Fb/stream?model=demo")],
  );
  assert.deepEqual(
    asked.map(({ headers }) => headers["last-event-id"]),
    [undefined, "e:1", "e:2"],
  );
  for (const { headers, credentials } of asked)
    assert.deepEqual([headers.authorization, credentials], ["Bearer x", "include"]);
});

test("after a break before the first event, it asks for the stream from the start", async () => {
  const { asked, fetch } = answering(stream(breaking(bytes("id: e:"))), stream(block(1, "[DONE]")));
  assert.equal(await (await fetch("/api/chat", POST)).text(), block(1, "[DONE]"));
  assert.equal(asked[1].url, "/api/chat/a%2Fb/stream");
  assert.ok(!("last-event-id" in asked[1].headers));
});

test("a stream that was resumed by the page itself goes on at its own address", async () => {
  const address = "http://h/api/chat/c/stream";
  for (const input of [address, new URL(address), new Request(address)]) {
    const { asked, fetch } = answering(stream(block(1, "{}")), stream(block(2, "[DONE]")));
    await (await fetch(input)).text();
    assert.equal(asked[1].url, address);
  }
});

test("a character in two pieces is put together; half of one is dropped", async () => {
  const [text, cut] = [bytes(block(1, "é")), bytes(block(1, "é")).indexOf(0xc3) + 1];
  const { fetch } = answering(
    stream(breaking(text.slice(0, cut), text.slice(cut), text.slice(0, cut))),
    stream(block(2, "ü") + block(3, "[DONE]")),
  );
  assert.equal(
    await (await fetch("/api/chat", POST)).text(),
    block(1, "é") + block(2, "ü") + block(3, "[DONE]"),
  );
});

test("an answer that has ended meanwhile ends the stream, without a second request", async () => {
  const { asked, fetch } = answering(stream(block(1, "{}")), new Response(null, { status: 204 }));
  assert.equal(await (await fetch("/api/chat", POST)).text(), block(1, "{}"));
  assert.equal(asked.length, 2);
});

test("what is no stream is handed on as it came", async () => {
  const page = new Response("<p>", { headers: { "content-type": "text/html" } });
  for (const answer of [stream('{"code":"busy"}', 409), page, new Response(null), stream(null)]) {
    const { asked, fetch } = answering(answer);
    assert.equal(await fetch("/api/chat", POST), answer);
    assert.equal(asked.length, 1);
  }
});

test("a server that is away is asked a few times, one that refuses only once", async () => {
  const away = () => new Response("away", { status: 500 });
  const patient = answering(
    stream(block(1, "{}")),
    new TypeError("no network"),
    away(),
    stream(block(2, "[DONE]")),
  );
  assert.equal(
    await (await patient.fetch("/api/chat", POST)).text(),
    block(1, "{}") + block(2, "[DONE]"),
  );
  for (const [answers, times] of [
    [[away(), away(), away(), away()], 3],
    [[new Response("no", { status: 403 }), away()], 1],
  ]) {
    const { asked, fetch } = answering(stream(block(1, "{}")), ...answers);
    await assert.rejects(async () => (await fetch("/api/chat", POST)).text(), {
      message: times === 1 ? "no" : "away",
    });
    assert.equal(asked.length, 1 + times);
  }
  for (const broken of [() => stream(breaking(bytes("id: e"))), () => stream("")]) {
    const { asked, fetch } = answering(...Array.from({ length: 9 }, broken));
    await assert.rejects(async () => (await fetch("/api/chat", POST)).text());
    assert.equal(asked.length, 4, "what is no whole event is no progress");
  }
});

test("waits grow from an eighth of a second to eight seconds, and end with the tenth", async () => {
  const waits = [];
  const timer = mock.method(
    globalThis,
    "setTimeout",
    (act, ms) => (waits.push(ms), setImmediate(act)),
  );
  const chance = mock.method(Math, "random", () => 0.5);
  const answers = [stream("")];
  const fetch = resumableFetch({
    fetch: async () =>
      answers.shift() ?? new Response("away", { status: waits.length > 20 ? 400 : 503 }),
  });
  await assert.rejects(async () => (await fetch("/api/chat", POST)).text());
  assert.deepEqual(
    waits,
    [0.25, 0.5, 1, 2, 4, 8, 8, 8, 8, 8].map((seconds) => seconds * 750),
  );
  timer.mock.restore();
  chance.mock.restore();
});

test("what the page aborts stays aborted, what it cancels is cancelled at the server", async () => {
  const abort = new AbortController();
  const body = new ReadableStream({
    start: (controller) =>
      abort.signal.addEventListener("abort", () => controller.error(abort.signal.reason)),
  });
  const aborted = answering(stream(body), stream(block(1, "[DONE]")));
  const reading = aborted
    .fetch("/api/chat", { ...POST, signal: abort.signal })
    .then((response) => response.text());
  setImmediate(() => abort.abort());
  await assert.rejects(reading, { name: "AbortError" });
  assert.equal(aborted.asked.length, 1);

  const later = new AbortController();
  const refuse = ({ signal }) => (later.abort(), Promise.reject(signal.reason));
  const resumed = answering(stream(block(1, "{}")), refuse, stream(block(2, "[DONE]")));
  const again = resumed
    .fetch("/api/chat", { ...POST, signal: later.signal })
    .then((response) => response.text());
  await assert.rejects(again, { name: "AbortError" });
  assert.equal(resumed.asked.length, 2);

  let left;
  const open = answering(stream(new ReadableStream({ cancel: (reason) => (left = reason) })));
  await (await open.fetch("/api/chat", POST)).body.cancel("enough");
  assert.equal(left, "enough");
});

test("breaks of a stream count only while they follow one another", async () => {
  const bodies = Array.from({ length: 6 }, (_, n) => block(n, `{"n":${n}}`)).concat(
    block(9, "[DONE]"),
  );
  const pauses = [];
  const fetch = resumableFetch({
    fetch: async () => stream(bodies.shift()),
    tries: 3,
    pause: (failures) => (pauses.push(failures), 0),
  });
  const text = await (await fetch("/api/chat/c/stream")).text();
  assert.match(text, /\[DONE\]/);
  assert.deepEqual(pauses, [0, 0, 0, 0, 0, 0]);
});
