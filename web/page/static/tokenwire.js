/**
 * Tokenwire's client. What it offers is said in tokenwire.d.ts, the rules are those of PROTOCOL.md.
 * `Order`, `Transcript` and `afterClose` are pure and decide; `Subscription` and `Link` move frames.
 *
 * @import * as declared from "./tokenwire.js"
 */

const ENDED = new Set(["complete", "error", "cancelled"]);
const PENDING_MAX = 512; // events held back for a missing one
const PATIENCE_MS = 1000; // how long a missing event may be under way before it counts as lost
const HELLO_MS = 15_000; // from dialling to `subscribed`
const STEADY_MS = 5_000; // a connection that was live this long is no failure
const BEHIND_MAX = 4096; // changes kept for an iterator that does not come for them

export const hasEnded = (message) => ENDED.has(message.status);

export function crc32(text) {
  let sum = -1;
  for (const byte of new TextEncoder().encode(text)) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (-(sum & 1) & 0xedb88320);
  }
  return ~sum >>> 0;
}

export function parseCursor(text) {
  const match = /^([0-9A-Za-z]{1,32}):(0|[1-9][0-9]{0,15})$/.exec(text);
  return match && { epoch: match[1], seq: Number(match[2]) };
}

export class Order {
  #pending = [];

  constructor({ epoch, seq }) {
    this.epoch = epoch;
    this.seq = seq;
  }

  get cursor() {
    return `${this.epoch}:${this.seq}`;
  }

  get waiting() {
    return this.#pending.length > 0;
  }

  get overfull() {
    return this.#pending.length > PENDING_MAX;
  }

  push(event) {
    if (event.seq > this.seq) this.#hold(event);
    const ready = [];
    while (this.#pending.length && first(this.#pending[0]) <= this.seq + 1) {
      const next = this.#pending.shift();
      if (next.seq <= this.seq) continue;
      this.seq = next.seq;
      ready.push(next);
    }
    return ready;
  }

  /** The log goes on under another name; what waits may not be part of it. */
  fork(epoch) {
    this.epoch = epoch;
    this.#pending = [];
  }

  #hold(event) {
    let at = this.#pending.length;
    while (at > 0 && first(this.#pending[at - 1]) > first(event)) at--;
    if (this.#pending[at - 1]?.seq !== event.seq) this.#pending.splice(at, 0, event);
  }
}

const first = (event) => event.from_seq ?? event.seq;

/** Of a message `applied` is the text by the log, `content` the text to show. */
export class Transcript {
  /** @type {Record<string, any> | null} */
  conversation = null;
  messages = [];
  next = null;
  #byId = new Map();
  #doubted = new Set(); // ids whose checksum failed once: read again, then believed
  #replaced = new Set(); // ids that are no longer part of the conversation

  get(id) {
    return this.#byId.get(id);
  }

  get running() {
    return this.messages.some((message) => message.role === "assistant" && !hasEnded(message));
  }

  load({ conversation, messages, next = null }) {
    const before = this.#byId;
    const earlier = this.messages.slice(
      0,
      Math.max(0, this.messages.indexOf(before.get(messages[0]?.id))),
    );
    this.#byId = new Map();
    this.messages = [];
    this.conversation = { ...conversation };
    if (!earlier.length) this.next = next;
    for (const message of earlier) this.#place(message);
    for (const row of messages) this.#place(fresh(row, before.get(row.id)));
  }

  prepend({ messages, next = null }) {
    this.next = next;
    for (const row of messages) if (!this.#byId.has(row.id)) this.#place(fresh(row));
  }

  admit(row, seq = 0) {
    const held = this.#byId.get(row.id);
    if (this.#replaced.has(row.id)) return;
    if (!held)
      this.#place(fresh({ ...row, seq: Math.min(row.seq ?? 0, seq) })); // its own may be another epoch's
    else if (row.rev > held.rev) this.#revise(held, row);
    this.#replace(row); // of a held one too: older events may have brought back what it replaced
  }

  release() {
    for (const message of this.messages) show(message, null);
  }

  /** The log is another one behind `seq`: what a row says of later events does not hold there. */
  forked(seq) {
    for (const message of this.messages) message.seq = Math.min(message.seq, seq);
  }

  apply(event) {
    if (event.type === "message") return (this.admit(event.message, event.seq), true);
    if (event.type === "title") return (this.#rename(event), true);
    const change = CHANGES[event.type];
    if (!change || typeof event.message_id !== "string" || this.#replaced.has(event.message_id))
      return true;
    const message = this.#byId.get(event.message_id) ?? this.#stub(event);
    if (!message || event.seq <= message.seq) return true; // the row that was read already holds it
    if (ENDED.has(event.type)) return this.#end(message, event);
    return hasEnded(message) || change(message, event);
  }

  #place(message) {
    let at = this.messages.length;
    while (at > 0 && this.messages[at - 1].ordinal > message.ordinal) at--;
    this.messages.splice(at, 0, message);
    this.#byId.set(message.id, message);
    return message;
  }

  /** A row stands right after its parent: what is between the two has given way to it. */
  #replace({ ordinal, role, parent_id }) {
    const parent = this.#byId.get(parent_id);
    if (!parent && (role !== "user" || parent_id !== null)) return; // it is on a page that is not here
    this.messages = this.messages.filter((other) => {
      const stays = other.ordinal >= ordinal || other.ordinal <= (parent?.ordinal ?? 0);
      return stays || (this.#byId.delete(other.id), this.#replaced.add(other.id), false);
    });
  }

  /** The text of an answer comes from its chunks alone, and only a terminal event ends it. */
  #revise(held, row) {
    const { content, reasoning, tool_calls, seq, status, error, finish_reason, usage, ...rest } =
      row;
    Object.assign(held, rest);
    if (held.role !== "assistant")
      (Object.assign(held, { status, applied: content }), show(held, null));
    else if (!hasEnded(held) && !ENDED.has(status)) held.status = status;
    this.messages.splice(this.messages.indexOf(held), 1);
    this.#place(held);
  }

  #rename({ title, rev }) {
    const held = this.conversation;
    if (held && rev > (held.rev ?? 0)) Object.assign(held, { title, rev });
  }

  /** Events of a message that nobody has told of yet; null where it may be an old one. */
  #stub(event) {
    if (event.offset !== 0 && event.type !== "start") return null;
    return this.#place(
      fresh({ id: event.message_id, role: "assistant", status: "queued", ordinal: Infinity }),
    );
  }

  #end(message, event) {
    const proven =
      message.applied.length === event.length && crc32(message.applied) === event.crc32;
    if (!proven && !this.#doubted.has(message.id)) return (this.#doubted.add(message.id), false);
    message.proven = proven;
    if (!hasEnded(message)) CHANGES[event.type](message, event);
    return true;
  }
}

/** A message from a row. Text shown before stays while the row's is a beginning of it and no end is known. */
function fresh(row, before) {
  const message = {
    seq: 0,
    rev: 0,
    ...row,
    applied: row.content ?? "",
    reasoning: row.reasoning ?? "",
    retry: null,
  };
  message.tool_calls = (row.tool_calls ?? []).map((held) => ({ ...held }));
  message.sources = before?.sources ?? [];
  show(message, hasEnded(message) ? null : before?.content);
  return message;
}

function show(message, longer = message.longer) {
  const keep =
    longer && longer.length > message.applied.length && longer.startsWith(message.applied);
  message.longer = keep ? longer : null;
  message.content = message.longer ?? message.applied;
}

/** False: a hole. */
const CHANGES = {
  __proto__: null,
  start: (message, { attempt, model }) => active(message, { attempt, model }),
  chunk: (message, event) => write(message, "applied", event),
  reasoning: (message, event) => write(message, "reasoning", event),
  tool_call: call,
  tool_result: call,
  source: cite,
  file: cite,
  retry: (message, { attempt, code, delay_ms, try: nth, max_tries }) =>
    Object.assign(message, {
      attempt,
      status: "retrying",
      retry: { code, delay_ms, try: nth, max_tries },
    }),
  reset(message, { keep, keep_reasoning }) {
    if (!(keep <= message.applied.length && keep_reasoning <= message.reasoning.length))
      return false;
    message.applied = message.applied.slice(0, keep);
    message.reasoning = message.reasoning.slice(0, keep_reasoning);
    message.tool_calls = message.tool_calls.filter((held) => "result" in held);
    show(message, null);
    return true;
  },
  complete: (message, { finish_reason, usage, seams }) =>
    finish(message, "complete", { finish_reason, usage, seams }),
  error: (message, { code, error, retryable, usage }) =>
    finish(message, "error", { error: { code, error, retryable }, usage }),
  cancelled: (message, { by, usage }) => finish(message, "cancelled", { by, usage }),
};

function active(message, fields) {
  return Object.assign(message, { status: "streaming", retry: null }, fields);
}

function finish(message, status, fields) {
  Object.assign(message, { status, retry: null }, fields);
  show(message, null);
  return true;
}

function write(message, field, { offset, content }) {
  const held = active(message)[field];
  if (!(offset >= 0 && offset <= held.length) || typeof content !== "string") return false;
  message[field] = held + content.slice(held.length - offset);
  if (field === "applied") show(message);
  return true;
}

function cite(message, event) {
  const { sources } = active(message);
  return sources.some(({ url }) => url === event.url) || sources.push(event) > 0;
}

function call(message, { tool_call_id, name, status, ...rest }) {
  let held = active(message).tool_calls.find((other) => other.tool_call_id === tool_call_id);
  if (!held) message.tool_calls.push((held = { tool_call_id, name }));
  held.status = status;
  if ("arguments" in rest) held.arguments = rest.arguments;
  if ("result" in rest) held.result = rest.result;
  return true;
}

/** @returns {ReturnType<typeof declared.afterClose>} */
export function afterClose(code, failures, random = Math.random) {
  const backOff = random() * Math.min(30_000, 500 * 2 ** Math.min(failures, 10));
  const within = (ms) => Math.max(random() * ms, failures > 1 ? backOff : 0);
  if ([4400, 4403, 4404, 400, 401, 403, 404].includes(code)) return { then: "stop", delay_ms: 0 };
  if (code === 4401) return { then: "token", delay_ms: failures > 0 ? backOff : 0 };
  if (code === 4410) return { then: "resync", delay_ms: within(2000) };
  if (code === 1001 || code === 1012) return { then: "reconnect", delay_ms: within(3000) };
  return { then: "reconnect", delay_ms: backOff };
}

export class Subscription {
  /** @type {declared.State} */
  state = { name: "connecting" };
  transcript = new Transcript();
  #options;
  /** @type {Order | null} */
  #order = null; // null: the conversation must be read (again)
  /** @type {any} */
  #grant = null;
  #failures = 0;
  #closed = false;
  #hearers = new Set();
  /** @type {(code: number) => void} */
  #hangUp = () => {};
  #hurry = () => {};

  constructor(options) {
    this.#options = {
      onchange() {},
      onstate() {},
      WebSocket: globalThis.WebSocket,
      random: Math.random,
      ...options,
    };
    if (!this.#options.WebSocket)
      throw new TypeError("there is no WebSocket here: give one in the options");
    this.#run();
  }

  get messages() {
    return this.transcript.messages;
  }

  get cursor() {
    return this.#order?.cursor ?? null;
  }

  admit(rows) {
    for (const row of rows) this.transcript.admit(row);
    this.#tell();
  }

  wake() {
    this.#hurry();
  }

  close() {
    this.#closed = true;
    this.#hangUp(0);
    this.#hurry();
    this.#wake();
  }

  async *[Symbol.asyncIterator]() {
    const hearer = { changes: [{}], wake() {} };
    this.#hearers.add(hearer);
    try {
      while (!this.#closed) {
        const change = hearer.changes.shift();
        if (change) yield change;
        else if (this.state.name === "stopped") return;
        else await new Promise((resolve) => (hearer.wake = () => resolve(null)));
      }
    } finally {
      this.#hearers.delete(hearer);
    }
  }

  async #run() {
    await null; // the caller gets its object before the first callback
    while (!this.#closed) {
      const { code, after = 0 } = await this.#once();
      if (this.#closed) return;
      const { then, delay_ms } = afterClose(code, this.#failures++, this.#options.random);
      if (then === "stop") return this.#say({ name: "stopped", code });
      if (then === "token") this.#grant = null;
      if (then === "resync") this.#order = null;
      const delay = Math.max(delay_ms, after * 1000);
      this.#say({ name: "reconnecting", code, delay_ms: delay });
      await this.#pause(delay);
    }
  }

  /** One connection, from reading what is missing to its end. */
  async #once() {
    try {
      if (!this.#order) await this.#read();
      if (!(this.#grant?.until > Date.now())) await this.#renew();
      return this.#closed ? {} : { code: await this.#connection() };
    } catch (/** @type {any} */ error) {
      return { code: error.status ?? 0, after: error.retryAfter };
    }
  }

  async #read() {
    const snapshot = await this.#options.load();
    if (this.#closed) return;
    this.transcript.load(snapshot);
    this.#tell();
    const cursor = parseCursor(snapshot.cursor);
    if (!cursor) throw new Error("the log cannot be read now");
    this.#order = new Order(cursor);
  }

  async #renew() {
    const grant = await this.#options.grant();
    this.#grant = { ...grant, until: Date.now() + (grant.expires_in - 30) * 1000 };
  }

  #connection() {
    return new Promise((resolve) => {
      const socket = new this.#options.WebSocket(this.#grant.url);
      const link = new Link(socket, this.#order, this.#grant, {
        end: (code) => {
          this.#hangUp = () => {};
          if (link.liveSince && Date.now() - link.liveSince > STEADY_MS) this.#failures = 0;
          resolve(code);
        },
        event: (event) => this.#apply(event),
        live: () => {
          this.transcript.release();
          this.#say({ name: "live" });
          this.#tell();
        },
        replaying: () => this.#say({ name: "replaying" }),
        forked: (seq) => this.transcript.forked(seq),
        renew: () => this.#renew().then(() => this.#grant.token),
      });
      this.#hangUp = (code) => link.end(code);
    });
  }

  #apply(event) {
    if (!this.transcript.apply(event)) return false;
    this.#failures = 0;
    this.#tell(this.transcript.get(event.message_id ?? event.message?.id), event);
    return true;
  }

  /** @param {declared.State} state */
  #say(state) {
    this.state = state;
    this.#call("onstate", state);
    this.#wake();
  }

  #tell(message, event) {
    this.#call("onchange", message, event);
    for (const hearer of this.#hearers) {
      if (hearer.changes.length < BEHIND_MAX) hearer.changes.push({ message, event });
      else hearer.changes = [{}];
    }
    this.#wake();
  }

  /** What a callback throws is its owner's affair. */
  #call(name, ...values) {
    try {
      this.#options[name](...values);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #wake() {
    for (const hearer of this.#hearers) hearer.wake();
  }

  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#hurry = () => (clearTimeout(timer), resolve(null));
    });
  }
}

/** One socket, watched for silence and holes. Ends once, with a code for `afterClose`. */
class Link {
  liveSince = 0;
  silence = HELLO_MS;
  #timers = {};

  constructor(socket, order, grant, to) {
    this.socket = socket;
    this.order = order;
    this.to = to;
    socket.onopen = () =>
      this.#send({ type: "subscribe", token: grant.token, after: order.cursor });
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code }) => this.end(code);
    socket.onerror = () => {}; // a close follows
    this.#renewIn((grant.until - Date.now()) * 0.8);
    this.#heard();
  }

  end(code) {
    if (!this.socket) return;
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    const { socket } = this;
    this.socket = socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    this.to.end(code);
  }

  #receive(data) {
    this.#heard();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return this.end(0);
    }
    const act = this.#frames[frame?.type];
    if (act) act(frame);
    else if (Number.isSafeInteger(frame?.seq) && typeof frame.type === "string") this.#event(frame);
  }

  #frames = {
    __proto__: null,
    subscribed: ({ epoch, heartbeat_seconds }) => {
      this.silence = (heartbeat_seconds > 0 ? heartbeat_seconds : 30) * 1000;
      this.#heard();
      if (epoch !== this.order.epoch) {
        this.order.fork(epoch); // the cursor is good: it has another name from now on
        this.to.forked(this.order.seq);
      }
      this.to.replaying();
    },
    live: (frame) => {
      if (!this.#agrees(frame)) return;
      this.liveSince = Date.now();
      this.to.live();
    },
    heartbeat: (frame) => this.#agrees(frame),
    resync: () => this.end(4410),
    refreshed: ({ expires_in }) => this.#renewIn(expires_in * 800),
  };

  #event(event) {
    for (const ready of this.order.push(event))
      if (!this.socket || !this.to.event(ready)) return this.end(4410);
    if (this.order.overfull) this.end(0);
    else if (!this.order.waiting) this.#after("hole", null);
    else if (!this.#timers.hole) this.#after("hole", PATIENCE_MS, () => this.end(0));
  }

  #agrees({ epoch, seq }) {
    if (epoch === this.order.epoch && seq === this.order.seq) return true;
    this.end(0);
    return false;
  }

  #heard() {
    this.#after("silence", this.silence, () => this.end(0));
  }

  #renewIn(ms) {
    this.#after("renew", ms, async () => {
      try {
        this.#send({ type: "refresh", token: await this.to.renew() });
      } catch {
        this.#renewIn(10_000);
      }
    });
  }

  #send(frame) {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(frame));
  }

  #after(name, ms, act) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = act && this.socket ? setTimeout(act, Math.max(0, ms)) : null;
  }
}

export function subscribe(
  conversationId,
  { base = location.origin, headers = {}, fetch = globalThis.fetch, ...options } = {},
) {
  const path = `${base}/api/conversations/${encodeURIComponent(conversationId)}`;
  const request = async (url, method) => {
    const answer = await fetch(url, {
      method,
      headers: typeof headers === "function" ? await headers() : headers,
    });
    if (answer.ok) return answer.json();
    throw Object.assign(new Error(`${method} ${answer.status}`), {
      status: answer.status,
      retryAfter: Number(answer.headers.get("retry-after")) || 0,
    });
  };
  return new Subscription({
    load: () => request(path, "GET"),
    grant: () => request(`${path}/subscription`, "POST"),
    ...options,
  });
}
