/**
 * markdown.js, the part without a document: what HTML a text becomes, and that rendering block by
 * block gives what rendering at once gives.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { blocksOf, toHtml } from "../../web/page/static/markdown.js";
import { dice } from "./hostile.mjs";

const HOSTILE = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg/onload=alert(1)>",
  "[a](javascript:alert(1))",
  "[a](JaVaScRiPt:alert(1))",
  "[a](&#106;avascript:alert(1))",
  "[a](java\tscript:alert(1))",
  "[a](data:text/html;base64,PHNjcmlwdD4=)",
  "[a](vbscript:x)",
  "[a](file:///etc/passwd)",
  "[a](//elsewhere.example/x)",
  "[a](/api/conversations)",
  "![a](javascript:alert(1))",
  "![a](data:image/svg+xml;base64,PHN2Zz4=)",
  '![a"onerror="alert(1)](https://e.example/x.png "t\\"onload=\\"alert(1)")',
  "<javascript:alert(1)>",
  '<https://e.example/"onmouseover=alert(1)>',
  '```"><script>alert(1)</script>\n</code></pre><script>alert(1)</script>\n```',
  "`<b onclick=alert(1)>`",
  '[r]: javascript:alert(1) "x"\n\n[r]',
  '| a |\n|:-:|\n| <iframe src="javascript:alert(1)"> |',
  "<!-- x --><style>*{display:none}</style>",
  "https://e.example/<script>alert(1)</script>",
  "[<img src=x onerror=alert(1)>](https://e.example)",
];

/** Tags of `html` as [name, attributes]. */
const tags = (html) =>
  [...html.matchAll(/<([a-z][a-z0-9]*)((?:\s[^<>"]*(?:"[^"]*")?)*)>/gi)].map(([, name, rest]) => [
    name.toLowerCase(),
    rest,
  ]);

test("no hostile text becomes an element or an address of its own", () => {
  for (const text of HOSTILE) {
    for (const [name, attributes] of tags(toHtml(text))) {
      assert.doesNotMatch(name, /^(script|img|svg|iframe|style|b|object|form|input)$/, text);
      const bare = attributes.replace(/"[^"]*"/g, '""');
      assert.doesNotMatch(bare, /\s(on\w+|style|src|srcset)=/i, text);
      const href = /\shref="([^"]*)"/.exec(attributes)?.[1];
      if (href !== undefined) assert.match(href, /^(https?:\/\/|mailto:)/i, text);
    }
  }
});

test("links open elsewhere and tell nothing of this page; images are links", () => {
  for (const text of [
    "[a](https://e.example)",
    "https://e.example",
    "<mailto:a@e.example>",
    "![a](https://e.example/x.png)",
  ]) {
    assert.match(toHtml(text), /<a href="[^"]+" rel="noopener noreferrer" target="_blank">/);
    assert.doesNotMatch(toHtml(text), /<img/);
  }
});

test("an address with a user in front of its host is text, as it is for sources", () => {
  const address = "https://bank@elsewhere.example/x";
  for (const text of [
    `[a](${address})`,
    `[a](<${address}>)`,
    `<${address}>`,
    address,
    `![a](${address})`,
    `[a]\n\n[a]: ${address}`,
    "[a](https://bank:1@elsewhere.example)",
    "[a](https&#58;//bank&#64;elsewhere.example)",
  ])
    assert.doesNotMatch(toHtml(text), /<a/, text);
  assert.match(toHtml("[a](https://e.example/@ann?to=a@b#c@d)"), /<a href="https:/);
});

test("words with dots are not taken for addresses", () => {
  assert.doesNotMatch(toHtml("see config.py and user@host.example"), /<a/);
});

test("text stays as it was written: no smart quotes, and the end of a line is no break", () => {
  assert.equal(
    toHtml('a "b" (c) -- d...\ne'),
    '<p dir="auto">a &quot;b&quot; (c) -- d...\ne</p>\n',
  );
});

test("headings begin below those of the page, and the deepest stay headings", () => {
  const of = (level) => /^<(h\d)/.exec(toHtml(`${"#".repeat(level)} Head`))?.[1];
  assert.deepEqual([1, 2, 3, 4, 5, 6].map(of), ["h3", "h4", "h5", "h6", "h6", "h6"]);
});

const LINES = [
  "plain words",
  "more *words* here",
  "",
  "",
  "- item",
  "  - inner",
  "1. one",
  "2) two",
  "> quote",
  "# Head",
  "## Head",
  "---",
  "***",
  "===",
  "-",
  "**bold** start",
  "```js",
  "```",
  "~~~",
  "    indented",
  "| a | b |",
  "|---|---|",
  "| 1 | 2 |",
  "text | pipe",
  "* star",
  "+ plus",
  "\ttab",
  "<div>",
  "[x](https://e.example)",
  "last\\",
  "é 👍 word  ",
];

/** What a view does with text that grows by `step` characters. */
function grown(text, step) {
  let [settled, html] = ["", ""];
  const env = {};
  for (let end = step; end < text.length; end += step) {
    const rest = text.slice(settled.length, end);
    const { upTo } = blocksOf(rest, {});
    html += toHtml(rest.slice(0, upTo), env);
    settled += rest.slice(0, upTo);
  }
  return html + toHtml(text.slice(settled.length));
}

test("a text rendered while it grows ends as the text rendered at once", () => {
  for (let seed = 1; seed <= 1500; seed++) {
    const random = dice(seed);
    const text = Array.from(
      { length: 4 + random() * 14 },
      () => LINES[Math.floor(random() * LINES.length)],
    ).join(random() < 0.1 ? "\r\n" : "\n");
    const step = 1 + Math.floor(random() * 9);
    assert.equal(grown(text, step), toHtml(text), JSON.stringify(text));
  }
});

test("only blocks that nothing can change any more are settled", () => {
  assert.equal(
    blocksOf("para\n***", {}).settled,
    0,
    "the rule may become bold words of the paragraph",
  );
  assert.equal(
    blocksOf("para\n\nnext", {}).settled,
    0,
    "a block counts when its first line is complete",
  );
  assert.equal(blocksOf("para\n\nnext\n", {}).settled, 1);
  assert.equal(blocksOf("```\ncode\n\n# more\n", {}).settled, 0);
  assert.equal(blocksOf("", {}).settled, 0);
});
