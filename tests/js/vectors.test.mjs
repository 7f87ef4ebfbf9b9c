/**
 * The vectors of the protocol, run against tokenwire.js: those of answers, those of conversations.
 */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { Transcript, afterClose } from "../../web/page/static/tokenwire.js";
import { layout } from "./layout.mjs";

const FOLDER = new URL("../../protocol/vectors/", import.meta.url);

function* casesOf(folder) {
  for (const name of readdirSync(folder).filter((file) => file.endsWith(".json"))) {
    const { cases } = JSON.parse(readFileSync(new URL(name, folder)));
    for (const vector of cases) yield [`${name}: ${vector.name}`, vector];
  }
}

/** Are these fields of the message as expected? */
function compare(message, expected) {
  const seen = { ...message, parts: layout(message.parts) };
  for (const [field, value] of Object.entries(expected)) {
    assert.deepEqual(seen[field], value, field);
  }
}

for (const [name, { row, events, message, hole_at, unproven_at }] of casesOf(FOLDER)) {
  test(name, () => {
    const held = new Transcript();
    const begun = { id: "m1", role: "assistant", status: "queued", ordinal: 1, ...row, seq: 0 };
    held.load({ conversation: {}, messages: [begun] });
    for (const [number, event] of events.entries()) {
      const before = structuredClone(held.get("m1"));
      const refused = number === hole_at || number === unproven_at;
      assert.equal(held.apply({ ...event, seq: number + 1 }), !refused);
      if (refused) assert.deepEqual(held.get("m1"), before);
    }
    compare(held.get("m1"), message);
  });
}

for (const [name, vector] of casesOf(new URL("conversations/", FOLDER))) {
  test(name, () => {
    const held = new Transcript();
    held.load(vector.start);
    vector.steps.forEach((step, number) => {
      if ("event" in step) assert.equal(held.apply(step.event), number !== vector.resync_at);
      if ("load" in step) held.load(step.load);
      if ("older" in step) held.prepend(step.older);
      if ("forked" in step) held.forked(step.forked);
      if ("live" in step) held.release();
    });
    const ids = vector.messages.map(({ id }) => id);
    assert.deepEqual(
      held.messages.map(({ id }) => id),
      ids,
    );
    for (const expected of vector.messages) compare(held.get(expected.id), expected);
    assert.equal(held.conversation.title, vector.title ?? null);
  });
}

for (const [name, { code, then, longest_ms }] of casesOf(new URL("closes/", FOLDER))) {
  test(name, () => {
    for (const [failures, longest] of Object.entries(longest_ms)) {
      for (const chance of [0, 0.5, 1]) {
        const expected = { then, delay_ms: chance * longest };
        assert.deepEqual(
          afterClose(code, Number(failures), () => chance),
          expected,
        );
      }
    }
  });
}

test("there are vectors", () => {
  assert.ok([...casesOf(new URL("closes/", FOLDER))].length >= 20);
  assert.ok([...casesOf(FOLDER)].length >= 100);
  assert.ok([...casesOf(new URL("conversations/", FOLDER))].length >= 40);
});
