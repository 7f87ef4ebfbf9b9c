/** Reads histories (histories.py) from standard input and takes them with tokenwire.js. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { Transcript } from "../../web/page/static/tokenwire.js";
import { layout } from "./layout.mjs";

for (const history of JSON.parse(readFileSync(0, "utf8"))) {
  const held = new Transcript();
  const taken = [];
  for (const step of history) {
    taken.push(step);
    if ("load" in step) held.load(step.load);
    if ("live" in step) held.release();
    if ("event" in step) assert.equal(held.apply(step.event), step.taken, told(taken));
    if (!step.seen) continue;
    const message = held.get("m1");
    for (const [name, value] of Object.entries(step.seen)) {
      const seen = name === "parts" ? layout(message.parts) : (message[name] ?? null);
      assert.deepEqual(seen, value, `${name}: ${told(taken)}`);
    }
  }
}

function told(steps) {
  return steps
    .slice(-4)
    .map((step) => JSON.stringify(step))
    .join("\n");
}
