// What the conformance tests share: the releases, a Chat without a framework, and a fetch that
// checks every chunk against the release's own schema.
import assert from "node:assert/strict";
import * as ai5 from "ai5";
import * as ai5old from "ai5old";
import * as ai6 from "ai6";
import * as ai7 from "ai7";
import { resumableFetch } from "../../../web/page/static/resumable-fetch.js";

export const BASE = process.env.TOKENWIRE_URL;
export const RELEASES = [
  { name: "5.0.100", ai: ai5old, profile: "v5" },
  { name: "5.0.277", ai: ai5, profile: "v5" },
  { name: "6.0.326", ai: ai6, profile: "v5" },
  { name: "6.0.326", ai: ai6, profile: "v6" },
  { name: "7.0.173", ai: ai7, profile: "v5" },
  { name: "7.0.173", ai: ai7, profile: "v7" },
];
let number = 0;
export const newId = () => `chat/${process.pid}.${Date.now()}..${number++}/x y`;
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function validator(ai) {
  const schema =
    typeof ai.uiMessageChunkSchema === "function"
      ? ai.uiMessageChunkSchema()
      : ai.uiMessageChunkSchema;
  return async (chunk) => {
    const result = await schema.validate(chunk);
    assert.ok(result.success, `${JSON.stringify(chunk)}: ${String(result.error).slice(0, 300)}`);
  };
}

class State {
  constructor(messages) {
    this.status = "ready";
    this.messages = messages;
  }
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) =>
    (this.messages =
      this.messages.with?.(index, message) ??
      this.messages.map((old, i) => (i === index ? message : old)));
  snapshot = (value) => structuredClone(value);
}

/**
 * A fetch that validates each chunk, and breaks the connection after each of `cuts` bytes (one cut
 * per response).
 */
export function checkedFetch(ai, { cuts = [], seen = [] } = {}) {
  return async (input, init) => {
    const abort = new AbortController();
    init?.signal?.addEventListener("abort", () => abort.abort());
    const response = await fetch(input, { ...init, signal: abort.signal });
    if (!response.body || !/event-stream/.test(response.headers.get("content-type") ?? ""))
      return response;
    const limit = cuts.shift() ?? Infinity;
    const validate = await validator(ai);
    let bytes = 0;
    let text = "";
    const decoder = new TextDecoder();
    const through = new TransformStream({
      async transform(piece, controller) {
        text += decoder.decode(piece, { stream: true });
        const lines = text.split("\n");
        text = lines.pop();
        for (const line of lines.filter((whole) => whole.startsWith("data: {"))) {
          const chunk = JSON.parse(line.slice(6));
          await validate(chunk);
          seen.push(chunk);
        }
        bytes += piece.length;
        controller.enqueue(piece);
        if (bytes > limit) {
          abort.abort();
          controller.error(new TypeError("terminated"));
        }
      },
    });
    return new Response(response.body.pipeThrough(through), {
      status: response.status,
      headers: response.headers,
    });
  };
}

/**
 * A chat of a release. `durable`: with the fetch wrapper that hides cuts. `shown`: the last message
 * that it names when it resumes, so that it gets an answer that has ended meanwhile.
 */
export function newChat(
  ai,
  profile,
  {
    id = newId(),
    messages = [],
    cuts = [],
    seen = [],
    durable = false,
    transport,
    shown,
    ...callbacks
  } = {},
) {
  const checked = checkedFetch(ai, { cuts, seen });
  const fetch = durable ? resumableFetch({ fetch: checked, pause: () => 20 }) : checked;
  // Old releases put the chat's id behind the query of the api, so the profile travels as a header.
  transport ??= new ai.DefaultChatTransport({
    api: `${BASE}/api/chat`,
    headers: { "x-ai-sdk-profile": profile },
    fetch,
    prepareReconnectToStreamRequest:
      shown &&
      ((request) => {
        const query = new URLSearchParams({ lastMessageId: shown() });
        const path = encodeURIComponent(request.id);
        return { api: `${request.api}/${path}/stream?${query}`, headers: request.headers };
      }),
  });
  const chat = new (class extends ai.AbstractChat {})({
    id,
    transport,
    state: new State(messages),
    ...callbacks,
  });
  chat.seen = seen;
  return chat;
}

export const textOf = (message) =>
  message.parts
    .filter((part) => part.type === "text")
    .map((part) => part.text)
    .join("");
export const lastText = (chat) => textOf(chat.messages.at(-1));

/**
 * Like a browser: if the server closes an idle connection just as a request uses it again, repeat
 * the request, provided that it may be repeated.
 */
const insist = (url, init) =>
  fetch(url, init).catch((error) => {
    if (init?.method === "POST" || error.cause?.code !== "UND_ERR_SOCKET") throw error;
    return fetch(url, init);
  });

export async function get(path, init) {
  const response = await insist(`${BASE}${path}`, init);
  return response.status === 204 ? null : response.json();
}
export const chatPath = (id) => `/api/chat/${encodeURIComponent(id)}`;
export const stored = async (id) => (await get(`${chatPath(id)}/messages`)).messages;
export const stop = (id) => get(`${chatPath(id)}/stop`, { method: "POST" });

/** Wait until the stored history has `count` messages, and give them. */
export async function storedMessages(id, count) {
  for (let tries = 0; tries < 1200; tries++) {
    const messages = await stored(id);
    if (messages.length >= count) return messages;
    await sleep(50);
  }
  throw new Error(`the answer of ${id} was never stored`);
}

export async function until(question, what = question) {
  for (let tries = 0; tries < 3000; tries++) {
    if (question()) return;
    await sleep(20);
  }
  throw new Error(`it never came to pass: ${what}`);
}
export const growing = (chat, length = 40) =>
  until(
    () => chat.messages.at(-1)?.role === "assistant" && lastText(chat).length > length,
    "the answer grows",
  );

/** Options of a post: an answer that takes half a minute. */
export const UNHURRIED = { body: { model: "unhurried" } };

/**
 * Run a test whose step must come in mid-answer. On a busy machine the answer may end before that:
 * `run` then returns `TOO_LATE`, and runs once more with an unhurried answer.
 */
export const TOO_LATE = Symbol("the answer ended first");
export async function inMidAnswer(run) {
  if ((await run({})) !== TOO_LATE) return;
  assert.notEqual(await run(UNHURRIED), TOO_LATE);
}
/** Whether a history that was read in mid-answer has become whole since then. */
export const isWhole = async (id) => (await stored(id)).at(-1).metadata?.status === "complete";

/** What every finished chat must show: exactly what is stored, under the same ids. */
export async function assertAsStored(chat) {
  const messages = await storedMessages(chat.id, chat.messages.length);
  assert.deepEqual(
    chat.messages.map((message) => message.id),
    messages.map((message) => message.id),
  );
  assert.deepEqual(chat.messages.map(textOf), messages.map(textOf));
}
