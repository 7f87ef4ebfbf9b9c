/** The vectors of the protocol in JavaScript: those of the fold, and those of whole conversations. */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { Transcript } from "../../web/page/static/tokenwire.js";
import { fold, fromRow, layout } from "./fold.mjs";

const FOLDER = new URL("../../protocol/vectors/", import.meta.url);

function* casesOf(folder) {
  for (const name of readdirSync(folder).filter((file) => file.endsWith(".json"))) {
    const { cases } = JSON.parse(readFileSync(new URL(name, folder)));
    for (const vector of cases) yield [`${name}: ${vector.name}`, vector];
  }
}

for (const [name, vector] of casesOf(FOLDER)) {
  test(name, () => {
    const answer = fromRow(vector.row ?? { id: "m1" });
    vector.events.forEach((event, number) => {
      const before = structuredClone(answer);
      let expected = number === vector.hole_at ? "hole" : "";
      if (number === vector.unproven_at) expected = "unproven";
      assert.equal(fold(answer, event), expected);
      if (expected) assert.deepEqual(answer, before);
    });
    const seen = { ...answer, parts: layout(answer) };
    for (const [field, value] of Object.entries(vector.message)) {
      assert.deepEqual(seen[field], value, field);
    }
  });
}

for (const [name, vector] of casesOf(new URL("conversations/", FOLDER))) {
  test(name, () => {
    const held = new Transcript();
    held.load(vector.start);
    vector.steps.forEach((step, number) => {
      if ("event" in step)
        assert.equal(Boolean(held.apply(step.event)), number !== vector.resync_at);
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
    for (const expected of vector.messages) {
      const message = held.get(expected.id);
      for (const [field, value] of Object.entries(expected)) {
        assert.deepEqual(message[field], value, field);
      }
    }
    assert.equal(held.conversation.title, vector.title ?? null);
  });
}

test("there are vectors", () => {
  assert.ok([...casesOf(FOLDER)].length >= 100);
  assert.ok([...casesOf(new URL("conversations/", FOLDER))].length >= 40);
});
