/**
 * The page's parts that need no browser, in Node: what it asks the server for, how it says what
 * state things are in, and small helpers over a document of a few lines.
 */

import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { isLink } from "../../web/page/static/addresses.js";
import { ApiError, api, ask, newKey } from "../../web/page/static/api.js";
import { keep, make, recall } from "../../web/page/static/dom.js";
import { Link } from "../../web/page/static/link.js";
import { describe } from "../../web/page/static/message_views.js";
import { takenIn } from "../../web/page/static/messages.js";
import { seenOf } from "../../web/page/static/part_views.js";

/** As much of an element as the helpers use. */
class Element {
  attributes = {};
  children = [];
  dataset = {};
  textContent = "";

  constructor(tag) {
    this.tag = tag;
  }

  setAttribute(name, value) {
    this.attributes[name] = String(value);
  }

  append(...children) {
    this.children.push(...children);
  }
}

const announced = new Element("p");
const page = new Element("body");
globalThis.document = {
  body: page,
  createElement: (tag) => new Element(tag),
  getElementById: (id) => ({ announce: announced })[id],
};
const navigator = { onLine: true };
Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });

test("an element gets its attributes, handlers and children; false is no attribute", () => {
  const act = () => {};
  const element = make(
    "button",
    {
      type: "button",
      hidden: true,
      open: false,
      title: null,
      lang: undefined,
      tabindex: 0,
      onclick: act,
    },
    "Go",
    "!",
  );
  assert.deepEqual(element.attributes, { type: "button", hidden: "", tabindex: "0" });
  assert.equal(element.onclick, act);
  assert.deepEqual([element.tag, ...element.children], ["button", "Go", "!"]);
  assert.deepEqual(make("p").children, []);
});

test("what is kept is recalled, and where nothing may be kept the page works without", () => {
  const held = new Map();
  globalThis.localStorage = {
    getItem: (name) => held.get(name) ?? null,
    setItem: (name, value) => held.set(name, value),
  };
  assert.equal(recall("model"), null);
  keep("model", ["demo", null]);
  assert.deepEqual([...held], [["tokenwire.model", '["demo",null]']]);
  assert.deepEqual(recall("model"), ["demo", null]);
  held.set("tokenwire.model", "{");
  assert.equal(recall("model"), null);
  delete globalThis.localStorage;
  keep("model", "other");
  assert.equal(recall("model"), null);
});

/**
 * The page's indicator, in mocked time: `said()` is what it says, and whether it can be hurried.
 */
function indicator(use) {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_700_000_000_000 });
  try {
    const element = new Element("span");
    let hurried = 0;
    const link = new Link({ element, onhurry: () => hurried++ });
    const said = () => [
      element.dataset.state,
      link.words.textContent,
      link.now.hidden ? "" : "Try now",
    ];
    use({ link, element, said, hurried: () => hurried });
  } finally {
    navigator.onLine = true;
    mock.timers.reset();
  }
}

test("each state has a word, and the page around it knows the state", () => {
  indicator(({ link, element, said }) => {
    assert.deepEqual(element.children, [link.words, link.now]);
    const words = {
      connecting: "Connecting",
      replaying: "Catching up",
      live: "Live",
      stopped: "Disconnected",
      none: "",
      reconnecting: "Reconnecting",
    };
    for (const [name, word] of Object.entries(words)) {
      link.show({ name });
      assert.deepEqual(said(), [name, word, ""]);
      assert.equal(page.dataset.link, name);
    }
  });
});

test("a long wait is counted down to its end, a short one only named", () => {
  indicator(({ link, said }) => {
    link.show({ name: "reconnecting", delay_ms: 1500 });
    assert.deepEqual(said(), ["reconnecting", "Reconnecting", ""]);
    link.show({ name: "reconnecting", delay_ms: 3000 });
    for (const text of ["Reconnecting in 3 s", "Reconnecting in 2 s", "Reconnecting in 1 s"]) {
      assert.deepEqual(said(), ["reconnecting", text, "Try now"]);
      mock.timers.tick(1000);
    }
    assert.deepEqual(said(), ["reconnecting", "Reconnecting", ""]);
    link.show({ name: "reconnecting", delay_ms: 3000 });
    link.show({ name: "live" });
    const words = mock.fn();
    Object.defineProperty(link.words, "textContent", { set: words });
    mock.timers.tick(5000);
    assert.equal(words.mock.callCount(), 0, "nobody counts where nothing is waited for");
  });
});

test("without a network the page says that it is offline, and does not count", () => {
  indicator(({ link, said }) => {
    navigator.onLine = false;
    link.show({ name: "reconnecting", delay_ms: 9000 });
    assert.deepEqual(said(), ["offline", "Offline", ""]);
    link.show({ name: "live" });
    assert.deepEqual(said(), ["live", "Live", ""]);
  });
});

test("a reader who does not want to wait says so", () => {
  indicator(({ link, hurried }) => {
    link.show({ name: "reconnecting", delay_ms: 9000 });
    link.now.onclick();
    assert.equal(hurried(), 1);
    assert.equal(announced.textContent, "Reconnecting");
  });
});

/** What `act` asks of a server that answers so. */
async function asking(answer, act) {
  const asked = [];
  const fetch = mock.method(globalThis, "fetch", async (path, init) => {
    asked.push({ path, ...init });
    return answer;
  });
  try {
    return [await act(), asked];
  } finally {
    fetch.mock.restore();
  }
}

test("a request carries its body as JSON and its key, and no more", async () => {
  const [given, [asked]] = await asking(Response.json({ id: 1 }), () =>
    ask("POST", "/x", { body: { a: 1 }, key: "k" }),
  );
  assert.deepEqual(given, { id: 1 });
  assert.deepEqual(asked, {
    path: "/x",
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": "k" },
    body: '{"a":1}',
  });
  const [nothing, [bare]] = await asking(new Response(null, { status: 204 }), () =>
    ask("GET", "/x"),
  );
  assert.equal(nothing, null);
  assert.deepEqual(bare, { path: "/x", method: "GET", headers: {}, body: undefined });
});

test("what the page wants goes where PROTOCOL.md says, names in addresses escaped", async () => {
  const wanted = [
    [api.me, [], "GET /api/me"],
    [api.models, [], "GET /api/models"],
    [api.conversations, [null], "GET /api/conversations?limit=40"],
    [api.conversations, ["a&b"], "GET /api/conversations?limit=40&before=a%26b"],
    [api.create, [{ model: "m" }, "k"], 'POST /api/conversations k {"model":"m"}'],
    [api.earlier, ["a/b", 7], "GET /api/conversations/a%2Fb?limit=100&before=7"],
    [api.change, ["c", { title: "t" }], 'PATCH /api/conversations/c {"title":"t"}'],
    [api.remove, ["c"], "DELETE /api/conversations/c"],
    [api.post, ["c", "Hi", "k"], 'POST /api/conversations/c/messages k {"content":"Hi"}'],
    [api.regenerate, ["m/1", "k"], "POST /api/messages/m%2F1/regenerate k"],
    [api.cancel, ["c"], "POST /api/conversations/c/cancel"],
  ];
  for (const [call, values, line] of wanted) {
    const [, [{ method, path, headers, body }]] = await asking(Response.json({}), () =>
      call(...values),
    );
    assert.equal([method, path, headers["Idempotency-Key"], body].filter(Boolean).join(" "), line);
  }
});

test("a refusal becomes a sentence, and says whether trying again may help", async () => {
  const refused = async (body, status, headers) => {
    try {
      await asking(
        typeof body === "string"
          ? new Response(body, { status, headers })
          : Response.json(body, { status, headers }),
        () => ask("GET", "/x"),
      );
    } catch (error) {
      assert.ok(error instanceof ApiError);
      return [error.message, error.code, error.status, error.retryAfter, error.passing];
    }
    return assert.fail("nothing was thrown");
  };
  assert.deepEqual(
    await refused({ detail: "Too long.", title: "Bad", code: "content_too_large" }, 413),
    ["Too long.", "content_too_large", 413, 0, false],
  );
  assert.deepEqual(await refused({ detail: [{}], title: "Bad" }, 422), [
    "Bad",
    "422",
    422,
    0,
    false,
  ]);
  assert.deepEqual(await refused({ detail: "" }, 429, { "Retry-After": "7" }), [
    "The server answered 429.",
    "429",
    429,
    7,
    true,
  ]);
  assert.deepEqual(await refused("<h1>Bad gateway</h1>", 500, { "Retry-After": "soon" }), [
    "The server answered 500.",
    "500",
    500,
    0,
    true,
  ]);
});

test("where no answer comes the page says whose network it is", async () => {
  for (const [onLine, sentence] of [
    [true, "The server does not answer."],
    [false, "You are offline."],
  ]) {
    navigator.onLine = onLine;
    const gone = asking(Promise.reject(new TypeError("no")), () => ask("GET", "/x"));
    await assert.rejects(gone, {
      message: sentence,
      code: "unreachable",
      status: 0,
      passing: true,
    });
  }
  navigator.onLine = true;
});

test("no two posts have one key", () => {
  const keys = new Set(Array.from({ length: 100 }, newKey));
  assert.equal(keys.size, 100);
  for (const key of keys) assert.match(key, /^[0-9a-f]{32}$/);
});

const TEXT = [{ type: "text", text: "x" }];

test("every state of an answer has its words", () => {
  const retry = { code: "rate_limited", delay_ms: 2500, try: 1, max_tries: 3 };
  const states = [
    [{ status: "queued" }, "busy", "Waiting for its turn"],
    [{ status: "waiting" }, "wait", "Waiting for a decision"],
    [{ status: "streaming" }, "busy", "Thinking"],
    [{ status: "streaming", parts: TEXT }, "busy", ""],
    [{ status: "error", error: { error: "No such model." } }, "bad", "No such model."],
    [{ status: "error", error: null }, "bad", "The answer failed."],
    [{ status: "cancelled" }, "stopped", "Stopped."],
    [{ status: "cancelled", by: "no_readers" }, "stopped", "Stopped, because nobody was watching."],
    [{ status: "cancelled", by: "superseded" }, "stopped", "Stopped by a newer message."],
    [{ status: "cancelled", by: "user" }, "stopped", "Stopped."],
    [
      { status: "complete", parts: TEXT, finish_reason: "length" },
      "note",
      "Cut off at the length limit.",
    ],
    [
      { status: "complete", parts: TEXT, finish_reason: "content_filter" },
      "note",
      "Ended by the provider's content filter.",
    ],
    [{ status: "complete", finish_reason: "refusal" }, "note", "The model declined to answer."],
    [{ status: "complete", parts: TEXT, finish_reason: "stop" }, "note", ""],
    [{ status: "complete", finish_reason: "stop" }, "note", "The answer is empty."],
    [{ status: "retrying", retry: null }, "wait", "Trying again soon"],
    [
      { status: "retrying", retry: { ...retry } },
      "wait",
      "The model is busy. Trying again in 3 s (2 of 3)",
    ],
    [
      { status: "retrying", retry: { ...retry, code: "unavailable", delay_ms: 0 } },
      "wait",
      "The model cannot be reached. Trying again (2 of 3)",
    ],
    [
      { status: "retrying", retry: { ...retry, code: "interrupted" } },
      "wait",
      "The model's answer broke off. Trying again in 3 s (2 of 3)",
    ],
    [
      { status: "retrying", retry: { ...retry, code: "new_in_the_registry" } },
      "wait",
      "That did not work. Trying again in 3 s (2 of 3)",
    ],
  ];
  for (const [message, kind, text] of states)
    assert.deepEqual(describe({ parts: [], ...message }, 1000), { kind, text });
});

test("a call or a picture is an answer, thinking alone is none", () => {
  const ended = (...parts) => describe({ status: "complete", finish_reason: "stop", parts }).text;
  const call = { type: "tool_call", id: "1", name: "f", state: "proposed", input: "{}" };
  assert.equal(ended(call), "");
  assert.equal(ended({ type: "file", url: "/x", media_type: "image/png" }), "");
  assert.equal(ended({ type: "reasoning", text: "Hm" }), "The answer is empty.");
});

test("parts are seen in their order; lists are made of calls, sources and files alone", () => {
  const part = (type, more) => ({ type, ...more });
  const [text, source] = [part("text", { text: "x" }), part("source", { url: "u" })];
  const parts = [
    part("reasoning", { text: "Hm" }),
    part("reasoning", { text: "" }),
    part("step"),
    text,
    source,
    part("provider"),
    source,
    part("data", { name: "n" }),
    text,
    text,
    part("tool_call", { input: "" }),
    part("tool_call", { input: "" }),
    part("constructor"),
    part("file", { url: "/x" }),
    part("text", { text: "" }),
  ];
  assert.deepEqual(
    seenOf(parts).map(({ kind, parts: own }) => [kind, own.length]),
    [
      ["reasoning", 1],
      ["text", 1],
      ["sources", 2],
      ["text", 1],
      ["text", 1],
      ["calls", 2],
      ["files", 1],
    ],
  );
});

test("the page links to the addresses that the server takes for links", () => {
  const links = [
    "https://example.com",
    "HTTP://example.com:8080/a b?q=a@b#c@d",
    "https://[2001:db8::1]/",
    "https://bücher.example/ü",
    "https://example.com/a\\b",
  ];
  const texts = [
    undefined,
    "",
    "vbscript:x",
    "ftp://example.com/a",
    "//evil.example/a",
    "/api/messages/m/files/0",
    "https:example.com",
    "https:///example.com",
    "https://:443/",
    "https://user:pass@example.com/",
    "https://bank.example@evil.example/",
    "https://@evil.example/",
    "https://good.example\\@evil.example/",
    "https://good.example\\.evil.example/",
    "https://a b/",
    "https://example.com:x/",
    "https://example.com:99999/",
    "https://[::1/",
    "https://example.com/a\nb",
    "https://example.com/\ud800",
  ];
  assert.deepEqual([...links, ...texts].filter(isLink), links);
});

test("messages that an answer took in are marked, and so is their place in it", () => {
  const step = { type: "step", message_ids: ["u2", "u3"] };
  const parts = [...TEXT, { type: "step" }, step, ...TEXT];
  assert.deepEqual(
    seenOf(parts).map(({ kind }) => kind),
    ["text", "brought", "text"],
  );
  const messages = [{ id: "u1" }, { id: "a1", parts }, { id: "u2" }, { id: "a2", parts: TEXT }];
  assert.deepEqual([...takenIn(messages)], ["u2", "u3"]);
  const state = { status: "streaming", parts: [step] };
  assert.equal(describe(state).text, "Thinking");
});

test("a retry is counted down from when it was heard of", () => {
  const message = {
    status: "retrying",
    parts: [],
    retry: { code: "rate_limited", delay_ms: 2500, try: 1, max_tries: 3 },
  };
  const at = (now) => describe(message, now).text.replace(/^.*?\. /, "");
  assert.deepEqual([1000, 2000, 3000, 3500, 9000].map(at), [
    "Trying again in 3 s (2 of 3)",
    "Trying again in 2 s (2 of 3)",
    "Trying again in 1 s (2 of 3)",
    "Trying again (2 of 3)",
    "Trying again (2 of 3)",
  ]);
});
