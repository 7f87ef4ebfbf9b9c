/**
 * A conversation's log and a hostile way to it, for the tests of tokenwire.js: a WebSocket class
 * whose frames come out of order, twice, late or not at all, and whose connections are cut. What it
 * says of itself (`live`, `heartbeat`) stays true, as the protocol promises.
 */

import { crc32 } from "../../web/page/static/tokenwire.js";
import { piece } from "./events.mjs";

/** Repeatable chance. */
export function dice(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

const WORDS = ["tide ", "log, ", "🚀 ", "žluťoučký ", "\n\n- ", "**so** ", "👩‍👩‍👧 ", "and ", "`x` "];

/** The script of one answer: events without seq, and the content that they end in. */
export function answer(id, random, pieces = 60) {
  const events = [{ type: "start", message_id: id, attempt: 1, model: "demo" }];
  let content = "";
  for (let n = 0; n < pieces; n++) {
    if (random() < 0.04) {
      events.push({
        type: "retry",
        message_id: id,
        attempt: 1,
        code: "rate_limited",
        delay_ms: 10,
        try: 1,
        max_tries: 3,
      });
      const keep = random() < 0.5 ? content.length : 0;
      content = content.slice(0, keep);
      const kept = { keep, keep_reasoning: 0, keep_parts: keep ? 1 : 0 };
      events.push({ type: "reset", message_id: id, attempt: 2, ...kept });
    }
    const word = WORDS[Math.floor(random() * WORDS.length)];
    events.push(piece(content.length, word, { message_id: id }));
    content += word;
  }
  events.push({
    type: "complete",
    message_id: id,
    attempt: 1,
    finish_reason: "stop",
    usage: null,
    length: content.length,
    crc32: crc32(content),
    parts: 1,
    parts_crc32: crc32(`text\0${content.length}\0`),
    seams: [],
  });
  return { events, content };
}

/**
 * Conversation, log and SQL rows in one: `append` is what a worker does, `load` and `grant` what
 * the web app answers.
 */
export class Conversation {
  epoch = "e1";
  events = [];
  rows = [];
  sockets = new Set();
  loads = 0;

  constructor(id = "c1") {
    this.id = id;
  }

  row(fields) {
    const row = {
      conversation_id: this.id,
      ordinal: this.rows.length + 1,
      role: "assistant",
      content: "",
      reasoning: "",
      status: "queued",
      seq: 0,
      attempt: 0,
      rev: 1,
      ...fields,
    };
    this.rows.push(row);
    return row;
  }

  append(event) {
    const stamped = { seq: this.events.length + 1, ...event };
    this.events.push(stamped);
    for (const socket of this.sockets) socket.deliver(stamped);
    return stamped;
  }

  /** SQL catches up with the log for one message, as a checkpoint or as the end. */
  checkpoint(row, content, status = "streaming") {
    Object.assign(row, { content, status, seq: this.events.length });
  }

  /** The log is lost; what SQL holds is all there is. */
  newEpoch() {
    this.epoch = `e${Number(this.epoch.slice(1)) + 1}`;
    this.events = [];
    for (const row of this.rows) row.seq = 0;
    for (const socket of this.sockets)
      (socket.frame({ type: "resync", reason: "epoch" }), socket.cut(4410));
  }

  load = async () => {
    this.loads++;
    return structuredClone({
      conversation: { id: this.id, title: null, rev: 1 },
      messages: this.rows,
      next: null,
      cursor: `${this.epoch}:${this.floor ?? this.events.length}`,
    });
  };

  grant = async () => ({ url: "ws://here/", token: "t", expires_in: 600 });
}

/** A WebSocket class that connects to `conversation`; `faults` are chances between 0 and 1. */
export function hostileSocket(
  conversation,
  random,
  { reorder = 0, repeat = 0, drop = 0, cut = 0, refuse = 0 } = {},
) {
  return class {
    readyState = 0;
    sent = 0;

    constructor() {
      setTimeout(() => (random() < refuse ? this.cut(1013) : this.#open()), 5);
    }

    #open() {
      this.readyState = 1;
      this.onopen?.();
    }

    send(text) {
      const frame = JSON.parse(text);
      if (frame.type === "refresh") return this.frame({ type: "refreshed", expires_in: 600 });
      const [epoch, seq] = frame.after.split(":");
      this.frame({
        type: "subscribed",
        epoch: conversation.epoch,
        seq: conversation.events.length,
        heartbeat_seconds: 30,
        version: 1,
      });
      if (epoch !== conversation.epoch || Number(seq) > conversation.events.length) {
        this.frame({ type: "resync", reason: "epoch" });
        return this.cut(4410);
      }
      conversation.sockets.add(this);
      for (const event of conversation.events.slice(Number(seq))) this.deliver(event);
      this.frame({ type: "live", epoch: conversation.epoch, seq: conversation.events.length });
      this.beat = setInterval(
        () =>
          this.frame({
            type: "heartbeat",
            epoch: conversation.epoch,
            seq: conversation.events.length,
          }),
        5000,
      );
    }

    deliver(event) {
      if (random() < cut) return this.cut(random() < 0.5 ? 1012 : 1006);
      if (random() < drop) return;
      this.#later(event, random() < reorder ? random() * 200 : 0);
      if (random() < repeat) this.#later(event, random() * 300);
    }

    frame(frame) {
      this.#later(frame, 0);
    }

    #later(frame, ms) {
      setTimeout(
        () => this.readyState === 1 && this.onmessage?.({ data: JSON.stringify(frame) }),
        ms,
      );
    }

    cut(code) {
      setTimeout(() => this.#closed(code), 1);
    }

    close() {
      this.#closed(1000);
    }

    #closed(code) {
      if (this.readyState === 3) return;
      this.readyState = 3;
      conversation.sockets.delete(this);
      clearInterval(this.beat);
      this.onclose?.({ code });
    }
  };
}

/**
 * Let mocked time pass in small steps, with the promises between them, until `until()` holds.
 * Throws when it never does.
 */
export async function passTime(timers, until, { step = 20, limit = 20_000 } = {}) {
  for (let n = 0; n < limit; n++) {
    for (let turn = 0; turn < 8; turn++) await null;
    if (until()) return;
    timers.tick(step);
  }
  throw new Error("it did not come to pass");
}
