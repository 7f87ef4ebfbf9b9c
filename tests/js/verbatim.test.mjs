/** verbatim.js: what a person reads of a call's input is what its tool gets. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { laidOut, visible } from "../../web/page/static/verbatim.js";
import { dice } from "./hostile.mjs";

const STRINGS = ["", "a", "{", "]", ",", ":", '"', "\\", '\\"{', " , ", "\n", "\u00fc", "1e5"];
const LEAVES = [0, -1.5, 1e-7, true, false, null, ...STRINGS];

/** Any JSON value, seldom deep. */
function valueOf(random, depth = 0) {
  const pick = (list) => list[Math.floor(random() * list.length)];
  const kind = random();
  if (depth > 4 || kind < 0.4) return pick(LEAVES);
  const values = Array.from({ length: random() * 4 }, () => valueOf(random, depth + 1));
  return kind < 0.7 ? values : Object.fromEntries(values.map((each) => [pick(STRINGS), each]));
}

test("JSON is laid out as JavaScript would, however it was written", () => {
  for (let seed = 1; seed <= 2000; seed++) {
    const value = valueOf(dice(seed));
    const expected = JSON.stringify(value, null, 2);
    for (const space of [0, 1, "\t"])
      assert.equal(laidOut(JSON.stringify(value, null, space)), expected);
  }
  assert.equal(laidOut('\r\n{ "a" :\t[ ] , "b":{}}\n'), '{\n  "a": [],\n  "b": {}\n}');
});

test("numbers, escapes and keys that come twice stay as they are written", () => {
  const lines = [
    '"account": 9007199254740993',
    '"iban": 12345678901234567890123',
    '"ratio": 0.10000000000000000000001',
    '"many": 1E+400',
    '"none": -0.0',
    '"name": "M\\u00fcller \\u202e \\/"',
    '"to": "Ann"',
    '"to": "Mallory"',
  ];
  assert.equal(laidOut(`{${lines.join(",")}}`), `{\n  ${lines.join(",\n  ")}\n}`);
});

test("what is no JSON is shown as it is", () => {
  for (const text of ["", '{"a": 1', "{'a':1}", "sent\n\tto  Ann", '{"a":1}{', "[1,]", "NaN"])
    assert.equal(laidOut(text), text);
});

test("what cannot be seen is written as an escape, which is the same JSON", () => {
  const unseen = [
    ["\u0000", "\\u0000"],
    ["\u001b", "\\u001b"],
    ["\u007f", "\\u007f"],
    ["\u0085", "\\u0085"],
    ["\u00a0", "\\u00a0"],
    ["\u00ad", "\\u00ad"],
    ["\u034f", "\\u034f"],
    ["\u061c", "\\u061c"],
    ["\u2003", "\\u2003"],
    ["\u200b", "\\u200b"],
    ["\u200f", "\\u200f"],
    ["\u2028", "\\u2028"],
    ["\u2029", "\\u2029"],
    ["\u202e", "\\u202e"],
    ["\u2066", "\\u2066"],
    ["\u2800", "\\u2800"],
    ["\u3000", "\\u3000"],
    ["\u3164", "\\u3164"],
    ["\ufe0f", "\\ufe0f"],
    ["\ufeff", "\\ufeff"],
    ["\ufff9", "\\ufff9"],
    ["\u{e0041}", "\\udb40\\udc41"],
  ];
  for (const [character, escape] of unseen) {
    assert.equal(visible(`a${character}b${character}`), `a${escape}b${escape}`);
    if (character < " ") continue; // no string of JSON holds it
    const value = { [`t${character}o`]: `${character}Ann` };
    const shown = laidOut(JSON.stringify(value));
    assert.equal(shown, `{\n  "t${escape}o": "${escape}Ann"\n}`);
    assert.deepEqual(JSON.parse(shown), value);
  }
});

test("words of any language, and the layout of a text, stay", () => {
  for (const text of ["Grüße, 你好, שלום, नमस्ते 👍", "a b\n\tc\r\nd", "e\u0301"])
    assert.equal(visible(text), text);
  assert.equal(visible("a\rb\r\n"), "a\\u000db\r\n");
});

test("an input that is nothing but brackets costs no more than a long one", () => {
  const deep = 32_000;
  const shown = laidOut("[".repeat(deep) + "]".repeat(deep));
  assert.ok(shown.length < 200 * deep);
  assert.equal(shown.replace(/\s/g, "").length, 2 * deep);
});
