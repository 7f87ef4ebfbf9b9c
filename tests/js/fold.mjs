/**
 * The fold in JavaScript: it applies the events of a log to one answer with parts. The rules are in
 * protocol/vectors, one file each; the program's own is protocol/fold.py. tokenwire.js takes this
 * over when events with parts are served.
 *
 * An answer: the fields of its row, and `parts`, each {type, text, fields}. Checks come first: where
 * `fold` returns "hole" or "unproven" the answer is as it was.
 */

import { crc32 } from "../../web/page/static/tokenwire.js";

const ENDED = new Set(["complete", "error", "cancelled"]);
const STREAMS = { text: "content", reasoning: "reasoning" };
const KINDS = { chunk: "text", reasoning: "reasoning" };

/** The answer of a row, or of none yet (`{ id }`). */
export function fromRow(row) {
  const answer = { status: "queued", ...row, content: "", reasoning: "", parts: [], retry: null };
  const left = { reasoning: row.reasoning ?? "", text: row.content ?? "" };
  for (const entry of Array.isArray(row.parts) ? row.parts : []) {
    if (typeof entry?.type !== "string") add(answer, "unknown", { dropped: true });
    else if (!(entry.type in left)) add(answer, entry.type, entry);
    else {
      const units = whole(left[entry.type], entry.length);
      add(answer, entry.type, entry, left[entry.type].slice(0, units));
      left[entry.type] = left[entry.type].slice(units);
    }
  }
  for (const [type, rest] of Object.entries(left)) if (rest) add(answer, type, {}, rest);
  return answer;
}

/** Apply the next event. "": done, or there was nothing to do. `believe`: do not check the end. */
export function fold(answer, event, believe = false) {
  if (event.message_id !== answer.id || ENDED.has(answer.status)) return "";
  if (ENDED.has(event.type)) return end(answer, event, believe);
  return (CHANGES[event.type]?.(answer, event) ?? true) ? "" : "hole";
}

/** The parts without the texts that content and reasoning hold; with lengths. */
export function layout({ parts }) {
  return parts.map(({ type, text, fields }) => ({
    type,
    ...fields,
    ...(type in STREAMS || type === "tool_call" ? { length: text.length } : {}),
    ...(type === "tool_call" ? { input: text } : {}),
  }));
}

/** What a terminal event attests. */
export function proof({ content, parts }) {
  const attested = { __proto__: null, text: (text) => text.length };
  attested.reasoning = attested.tool_call = (text) => text;
  const text = parts.map((part) => `${part.type}\0${attested[part.type]?.(part.text) ?? ""}\0`);
  return {
    length: content.length,
    crc32: crc32(content),
    parts: parts.length,
    parts_crc32: crc32(text.join("")),
  };
}

/** What events do; false: a hole. */
const CHANGES = {
  __proto__: null,
  start: (answer, { attempt, model }) => active(answer, { attempt, model }),
  retry: (answer, { attempt, code, delay_ms, try: nth, max_tries }) =>
    Object.assign(answer, {
      attempt,
      status: "retrying",
      retry: { code, delay_ms, try: nth, max_tries },
    }),
  chunk: piece,
  reasoning: piece,
  tool_input: input,
  part: change,
  reset,
};

function piece(answer, { type, part: number, offset, content }) {
  const { parts } = answer;
  const kind = KINDS[type];
  const held = parts[number];
  if (held ? held.type !== kind : number !== parts.length) return false;
  const rest = beyond(held ? endOf(parts, number) : answer[STREAMS[kind]].length, offset, content);
  if (!rest) return rest === "";
  if (!held) add(answer, kind, {}, rest);
  else if (number !== open(parts, kind)) return false;
  else grow(answer, held, rest);
  return active(answer);
}

function input(answer, { part: number, offset, content }) {
  const held = answer.parts[number];
  if (held?.type !== "tool_call") return false;
  const rest = beyond(held.text.length, offset, content);
  if (!rest) return rest === "";
  if (held.fields.state !== "streaming") return false;
  held.text += rest;
  return active(answer);
}

function change(answer, { part: number, value }) {
  const held = answer.parts[number];
  if (typeof value.type !== "string") return false;
  if (held ? held.type !== value.type : number !== answer.parts.length) return false;
  if (held) merge(held, value);
  else add(answer, value.type, value);
  return active(answer);
}

function reset(answer, { keep, keep_reasoning, keep_parts = 0 }) {
  if (!(keep_parts >= 0 && keep_parts <= answer.parts.length)) return false;
  const parts = answer.parts.slice(0, keep_parts);
  const cuts = [cut(parts, "text", keep), cut(parts, "reasoning", keep_reasoning)];
  if (cuts.includes(null)) return false;
  for (const [part, text] of cuts) if (part) part.text = text;
  Object.assign(answer, {
    parts,
    content: join(parts, "text"),
    reasoning: join(parts, "reasoning"),
  });
  return true;
}

/** Which part is cut, and what remains of it; null where parts and length do not agree. */
function cut(parts, kind, keep) {
  const surplus = join(parts, kind).length - keep;
  if (surplus === 0) return [];
  const part = parts[open(parts, kind)];
  const units = (part?.text.length ?? -1) - surplus;
  if (!(surplus > 0 && units >= 0) || whole(part.text, units) !== units) return null;
  return [part, part.text.slice(0, units)];
}

function end(answer, event, believe) {
  const held = proof(answer);
  const attested = event.parts === undefined ? ["length", "crc32"] : Object.keys(held);
  if (!believe && attested.some((name) => held[name] !== event[name])) return "unproven";
  const { type: status, finish_reason, usage, seams, code, error, retryable, by } = event;
  for (const { type, fields } of answer.parts)
    if (type === "tool_call" && fields.state === "streaming") fields.state = "invalid";
  Object.assign(answer, { status, retry: null, usage });
  if (status === "complete") Object.assign(answer, { finish_reason, seams });
  else if (status === "error") answer.error = { code, error, retryable };
  else answer.by = by;
  return "";
}

function active(answer, fields) {
  Object.assign(answer, { status: "streaming", retry: null }, fields);
  return true;
}

function add(answer, type, value, text = "") {
  const part = { type, text: "", fields: {} };
  answer.parts.push(part);
  merge(part, value);
  if (text) grow(answer, part, text);
}

function grow(answer, part, text) {
  part.text += text;
  answer[STREAMS[part.type]] += text;
}

/** Null removes a field; lengths follow from texts; an input is the text of its call. */
function merge(part, value) {
  const streamed = part.type in STREAMS || part.type === "tool_call";
  for (const [name, item] of Object.entries(value)) {
    if (name === "type" || (streamed && name === "length")) continue;
    if (name === "input" && part.type === "tool_call") {
      part.text = typeof item === "string" ? item : "";
    } else if (item === null) delete part.fields[name];
    else part.fields[name] = item;
  }
}

/** What of a piece lies behind `held` units; null where it begins later, or inside a character. */
function beyond(held, offset, content) {
  const known = held - offset;
  if (!(offset >= 0 && known >= 0)) return null;
  return known < content.length && whole(content, known) !== known ? null : content.slice(known);
}

/** So many units, or one less, so that no surrogate pair is split. */
function whole(text, units) {
  const most = Math.min(Math.max(units || 0, 0), text.length);
  const splits = most > 0 && most < text.length && /[\ud800-\udbff]/.test(text[most - 1]);
  return splits ? most - 1 : most;
}

/** The number of the part that may grow: the last of its type, if all behind have `at`. */
function open(parts, kind) {
  for (let number = parts.length - 1; number >= 0; number--) {
    if (parts[number].type === kind) return number;
    if (!("at" in parts[number].fields)) return -1;
  }
  return -1;
}

const join = (parts, kind) => parts.map((part) => (part.type === kind ? part.text : "")).join("");

/** Where the text of a part ends in its stream. */
function endOf(parts, number) {
  const { type } = parts[number];
  return join(parts.slice(0, number + 1), type).length;
}
