/**
 * Tokenwire's client: tokenwire.d.ts documents it, PROTOCOL.md has the rules.
 *
 * @import * as declared from "./tokenwire.js"
 */

const ENDED = new Set(["complete", "error", "cancelled"]);
const PENDING_MAX = 512;
const PATIENCE_MS = 1000; // for a missing event
const HELLO_MS = 15_000;
const STEADY_MS = 5_000;
const BEHIND_MAX = 4096;

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
  const match = /^([0-9A-Za-z]{1,32}):(0|[1-9]\d{0,15})$/.exec(text);
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
    const ready = [];
    if (event.seq > this.seq && this.#pending.every(({ seq }) => seq !== event.seq))
      this.#pending.push(event);
    this.#pending.sort((one, other) => first(one) - first(other));
    while (this.#pending.length && first(this.#pending[0]) <= this.seq + 1) {
      const next = this.#pending.shift();
      if (next.seq <= this.seq) continue;
      this.seq = next.seq;
      ready.push(next);
    }
    return ready;
  }

  fork(epoch) {
    this.epoch = epoch;
    this.#pending = [];
  }
}

const first = (event) => event.from_seq ?? event.seq;

/** Of a message `applied` are the parts by the log, `parts` those to show. */
export class Transcript {
  /** @type {any} */
  conversation = null;
  messages = [];
  next = null;
  #byId = new Map();
  #doubted = new Set(); // read again once, then believed
  #replaced = new Set();

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

  admit(row) {
    const held = this.#byId.get(row.id);
    if (this.#replaced.has(row.id)) return;
    // Without parts a row says nothing of the end.
    const bare = row.role === "assistant" && !row.content && !row.parts?.length;
    const status = bare && hasEnded(row) ? "queued" : row.status;
    if (!held) this.#place(fresh({ ...row, status, seq: 0 }));
    else if (row.rev > held.rev) this.#revise(held, row);
    this.#replace(row); // old events may bring it back
  }

  release() {
    for (const message of this.messages) show(message, null);
  }

  forked(seq) {
    for (const message of this.messages) message.seq = Math.min(message.seq, seq);
  }

  apply(event) {
    const { type, message_id: id, seq } = event;
    if (type === "message") return (this.admit(event.message), true);
    if (type === "title") return (this.#rename(event), true);
    if (!(type in CHANGES) || !id || this.#replaced.has(id)) return true;
    const message = this.#byId.get(id) ?? this.#stub(event);
    if (!message || seq <= message.seq || hasEnded(message)) return true;
    if (ENDED.has(type)) {
      const proven = proves(event, message.applied);
      // An answer without a row may have been replaced while the rows were read.
      const doubtful = !proven || message.ordinal === Infinity;
      if (doubtful && !this.#doubted.has(id)) return (this.#doubted.add(id), false);
      message.proven = proven;
    }
    if (!CHANGES[type](message, event)) return false;
    show(message);
    return true;
  }

  #place(message) {
    this.#byId.set(message.id, message);
    this.messages.push(message);
    this.#sort();
    return message;
  }

  /** What stood between a row and its parent has given way to it. */
  #replace({ ordinal, role, parent_id }) {
    const parent = this.#byId.get(parent_id);
    if (!parent && (role !== "user" || parent_id !== null)) return; // not on this page
    this.messages = this.messages.filter((other) => {
      const stays = other.ordinal >= ordinal || other.ordinal <= (parent?.ordinal ?? 0);
      return stays || (this.#byId.delete(other.id), this.#replaced.add(other.id), false);
    });
  }

  /** Only events change the parts of an answer, and end it. */
  #revise(held, row) {
    const { content, reasoning, parts, seq, status, error, finish_reason, usage, ...rest } = row;
    Object.assign(held, rest);
    if (held.role !== "assistant")
      (Object.assign(held, { status, applied: read(row) }), show(held, null));
    else if (!hasEnded(held) && !ENDED.has(status)) held.status = status;
    this.#sort();
  }

  #sort() {
    this.messages.sort((one, other) => one.ordinal - other.ordinal);
  }

  #rename({ title, rev }) {
    const held = this.conversation;
    if (held && rev > (held.rev ?? 0)) Object.assign(held, { title, rev });
  }

  /** Later events may be of a replaced message. */
  #stub({ message_id: id, type }) {
    if (type !== "start") return null;
    return this.#place(fresh({ id, role: "assistant", status: "queued", ordinal: Infinity }));
  }
}

/** What was shown stays while the row begins it. */
function fresh(row, before) {
  const message = { seq: 0, rev: 0, ...row, retry: null, applied: read(row) };
  show(message, before?.parts);
  return message;
}

function show(message, longer = message.longer) {
  message.longer = longer && !hasEnded(message) && begins(message.applied, longer) ? longer : null;
  message.parts = message.longer ?? message.applied;
  message.content = join(message.parts, "text");
  message.reasoning = join(message.parts, "reasoning");
}

const begins = (parts, longer) =>
  parts.every(
    (part, n) => part.type === longer[n]?.type && textOf(longer[n]).startsWith(textOf(part)),
  );

// The fold. False: a hole, and nothing has changed.

const TEXTS = { __proto__: null, text: "text", reasoning: "text", tool_call: "input" };

const textOf = (part) => part[TEXTS[part.type]] ?? "";

const join = (parts, type) =>
  parts.reduce((text, part) => (part.type === type ? text + part.text : text), "");

/** Inside a surrogate pair? */
const splits = (text, units) => text.codePointAt(units - 1) > 0xffff;

/** Text that no length names is a part more. */
function read({ content, reasoning, parts }) {
  const left = { __proto__: null, reasoning: reasoning ?? "", text: content ?? "" };
  const held = (parts ?? []).map((entry) => {
    const value = typeof entry?.type === "string" ? entry : { type: "unknown", dropped: true };
    const { type, length } = value;
    if (!(type in left)) return merged(null, value);
    const units = length > 0 ? length - Number(splits(left[type], length)) : 0;
    const text = left[type].slice(0, units);
    left[type] = left[type].slice(units);
    return merged({ text }, value);
  });
  for (const type in left) if (left[type]) held.push({ type, text: left[type] });
  return held;
}

function merged(held, value) {
  const part = { ...held, ...value };
  const name = TEXTS[part.type];
  if (name) {
    const text = (name === "input" ? part : held)?.[name];
    part[name] = typeof text === "string" ? text : "";
    delete part.length;
  }
  for (const field in part) if (part[field] === null) delete part[field];
  return part;
}

const active = (message, fields) =>
  Object.assign(message, { status: "streaming", retry: null }, fields);

/** Any event ends the waiting, even one that changes nothing else. */
const resumed = (message) => (message.status === "waiting" ? active(message) : message);

const CHANGES = {
  __proto__: null,
  start: (message, { attempt, model }) => active(message, { attempt, model }),
  chunk: (message, event) => write(message, "text", event),
  reasoning: (message, event) => write(message, "reasoning", event),
  tool_input: (message, event) => write(message, "tool_call", event),
  part(message, { part: number, value }) {
    const { applied } = message;
    const held = applied[number] ?? (number === applied.length && value);
    if (typeof value?.type !== "string" || value.type !== held.type) return false;
    applied[number] = merged(applied[number], value);
    return active(message);
  },
  reset(message, { keep, keep_reasoning, keep_parts }) {
    const parts = message.applied.slice(0, keep_parts).map((part) => ({ ...part }));
    const fits = cut(parts, "text", keep) && cut(parts, "reasoning", keep_reasoning);
    if (!fits || parts.length !== keep_parts) return false;
    return resumed(Object.assign(message, { applied: parts, longer: null }));
  },
  retry: (message, { seq, type, message_id, attempt, ...retry }) =>
    active(message, { attempt, status: "retrying", retry }),
  wait: (message, { attempt }) => active(message, { attempt, status: "waiting" }),
  complete: end,
  error: end,
  cancelled: end,
};

const streams = ({ type, state }) => type === "tool_call" && state === "streaming";

const CLOSED = new Map([
  ["streaming", "invalid"],
  ["proposed", "withdrawn"],
  ["awaiting_approval", "withdrawn"],
  ["awaiting_client", "withdrawn"],
  ["awaiting_outcome", "unknown"],
  ["running", "unknown"],
]);

/** A part after the end of its answer. */
function closed(part, status, reason) {
  const { type, state, runs_at, expires_at, ...rest } = part;
  const callers = runs_at === undefined || (runs_at === "caller" && reason === "tool_calls");
  const stays = state === "proposed" && status === "complete" && callers;
  if (type !== "tool_call" || stays || !CLOSED.has(state)) return part;
  return { type, ...rest, ...(runs_at && { runs_at }), state: CLOSED.get(state) };
}

function end(message, { type: status, finish_reason, usage, seams, by, code, error, retryable }) {
  error &&= { code, error, retryable };
  message.applied = message.applied.map((part) => closed(part, status, finish_reason));
  return active(message, { status, finish_reason, usage, seams, by, error });
}

function write(message, type, { part: number, offset, content }) {
  const { applied } = message;
  const call = type === "tool_call";
  const last = open(applied, type);
  const held = applied[number] ?? (number === applied.length && { type, text: "" });
  if (held.type !== type || typeof content !== "string") return false;
  const text = call ? held.input : join(applied.slice(0, number + 1), type);
  const known = text?.length - offset;
  if (!(offset >= 0 && known >= 0) || splits(content, known)) return false;
  if (known >= content.length) return resumed(message);
  if (call ? !streams(held) : applied[number] && number !== last) return false;
  held[TEXTS[type]] += content.slice(known);
  applied[number] = held;
  return active(message);
}

function cut(parts, type, keep) {
  const surplus = join(parts, type).length - keep;
  if (!surplus) return surplus === 0;
  const part = parts[open(parts, type)];
  const units = part?.text.length - surplus;
  if (!(surplus > 0 && units >= 0) || splits(part.text, units)) return false;
  part.text = part.text.slice(0, units);
  return true;
}

/** The last of its type may grow if all behind have `at`. */
function open(parts, type) {
  const number = parts.findLastIndex((part) => part.type === type || !("at" in part));
  return parts[number]?.type === type ? number : -1;
}

function proves(event, parts) {
  const content = join(parts, "text");
  const texts = parts.map(
    (part) => `${part.type}\0${part.type === "text" ? part.text.length : textOf(part)}\0`,
  );
  return (
    event.length === content.length &&
    event.crc32 === crc32(content) &&
    event.parts === parts.length &&
    event.parts_crc32 === crc32(texts.join(""))
  );
}

/** @type {typeof declared.afterClose} */
export function afterClose(code, failures, random = Math.random) {
  if ([4400, 4403, 4404, 400, 401, 403, 404].includes(code)) return { then: "stop", delay_ms: 0 };
  const backOff = Math.min(30_000, 500 * 2 ** failures);
  const after = (then, ms) => ({
    then,
    delay_ms: random() * (failures > 0 ? Math.max(ms, backOff) : ms),
  });
  if (code === 4401) return after("token", 0);
  if (code === 4410) return after("resync", 2000);
  if (code === 1001 || code === 1012) return after("reconnect", 3000);
  return after("reconnect", backOff);
}

export class Subscription {
  /** @type {declared.State} */
  state = { name: "connecting" };
  transcript = new Transcript();
  #options;
  /** @type {Order | null} */
  #order = null; // null: to be read
  /** @type {any} */
  #grant = null;
  #failures = 0;
  #closed = false;
  #loops = new Set();
  /** @type {any} */
  #hangUp = () => {};
  #hurry = () => {};

  constructor(options) {
    this.#options = { WebSocket: globalThis.WebSocket, ...options };
    if (!this.#options.WebSocket) throw new TypeError("there is no WebSocket");
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
    this.#emit();
  }

  decide(messageId, number, decision) {
    return this.#options.decide(messageId, number, decision);
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
    const loop = { changes: [{}], wake() {} };
    this.#loops.add(loop);
    try {
      while (!this.#closed) {
        const change = loop.changes.shift();
        if (change) yield change;
        else if (this.state.name === "stopped") return;
        else await new Promise((resolve) => (loop.wake = () => resolve(null)));
      }
    } finally {
      this.#loops.delete(loop);
    }
  }

  async #run() {
    await null; // the caller gets its object first
    while (!this.#closed) {
      const { code, after = 0 } = await this.#once();
      if (this.#closed) return;
      const { then, delay_ms } = afterClose(code, this.#failures++, this.#options.random);
      if (then === "stop") return this.#enter({ name: "stopped", code });
      if (then === "token") this.#grant = null;
      if (then === "resync") this.#order = null;
      const delay = Math.max(delay_ms, after * 1000);
      this.#enter({ name: "reconnecting", code, delay_ms: delay });
      await this.#pause(delay);
    }
  }

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
    this.#emit();
    const cursor = parseCursor(snapshot.cursor);
    if (!cursor) throw new Error("no cursor");
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
          this.#enter({ name: "live" });
          this.#emit();
        },
        replaying: () => this.#enter({ name: "replaying" }),
        forked: (seq) => this.transcript.forked(seq),
        renew: () => this.#renew().then(() => this.#grant.token),
      });
      this.#hangUp = (code) => link.end(code);
    });
  }

  #apply(event) {
    if (!this.transcript.apply(event)) return false;
    this.#failures = 0;
    this.#emit(this.transcript.get(event.message_id ?? event.message?.id), event);
    return true;
  }

  /** @param {declared.State} state */
  #enter(state) {
    this.state = state;
    this.#call("onstate", state);
    this.#wake();
  }

  #emit(message, event) {
    this.#call("onchange", message, event);
    for (const loop of this.#loops) {
      if (loop.changes.length < BEHIND_MAX) loop.changes.push({ message, event });
      else loop.changes = [{}];
    }
    this.#wake();
  }

  #call(name, ...values) {
    try {
      this.#options[name]?.(...values);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #wake() {
    for (const loop of this.#loops) loop.wake();
  }

  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#hurry = () => (clearTimeout(timer), resolve(null));
    });
  }
}

/** Ends once, with a code for `afterClose`. */
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
    socket.onerror = () => {};
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
        this.order.fork(epoch);
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
  const request = async (url, method, body) => {
    const given = typeof headers === "function" ? await headers() : headers;
    const answer = await fetch(url, {
      method,
      headers: body ? { ...given, "Content-Type": "application/json" } : given,
      body: body && JSON.stringify(body),
    });
    if (answer.ok) return answer.json();
    const { detail, code } = (await answer.json().catch(() => null)) ?? {};
    throw Object.assign(new Error(detail ?? `${method} ${answer.status}`), {
      code,
      status: answer.status,
      retryAfter: Number(answer.headers.get("retry-after")) || 0,
    });
  };
  return new Subscription({
    load: () => request(path, "GET"),
    grant: () => request(`${path}/subscription`, "POST"),
    decide: (messageId, number, decision) => {
      const call = `${base}/api/messages/${encodeURIComponent(messageId)}/calls/${number}`;
      return request(`${call}/decision`, "POST", decision);
    },
    ...options,
  });
}
