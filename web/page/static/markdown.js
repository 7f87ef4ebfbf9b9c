/**
 * Markdown that is safe to show: what a model writes becomes elements of a short list, never HTML
 * of its own, never a request.
 *
 * Three walls: markdown-it with HTML switched off and links to the web and to mail only, images as
 * links (nothing is fetched), and `admit`, which drops whatever element or attribute is not on the
 * list.
 * `MarkdownView` shows text that grows: blocks that further text cannot change are left alone, only
 * the rest is parsed again, and of that only what is new is written.
 */

import { isLink } from "./addresses.js";
import MarkdownIt from "./vendor/markdown-it.js";

const mayLink = (url) => isLink(url) || /^mailto:/i.test(url);

const md = new MarkdownIt({ html: false, linkify: true });
// The parser drops what is nested deeper than this. Its own limit of 100 is reached by fifty nested
// lists, whose words would be lost.
md.options.maxNesting = 2000;
// `urlAuth`: or the user of `https://user@host` would be linked as a host.
md.linkify.set({ fuzzyEmail: false, urlAuth: true });
md.validateLink = (url) => mayLink(url.trim());

const escape = md.utils.escapeHtml;
const { rules } = md.renderer;

rules.link_open = (tokens, at, options, _env, self) => {
  tokens[at].attrSet("rel", "noopener noreferrer");
  tokens[at].attrSet("target", "_blank");
  return self.renderToken(tokens, at, options);
};
rules.image = (tokens, at, options, env, self) => {
  const name = self.renderInlineAsText(tokens[at].children, options, env) || "image";
  const url = tokens[at].attrGet("src");
  return mayLink(url)
    ? `<a href="${escape(url)}" rel="noopener noreferrer" target="_blank">${escape(name)}</a>`
    : escape(name);
};
rules.fence = rules.code_block = (tokens, at) => {
  const language = tokens[at].info.trim().split(/\s+/)[0];
  const code = tokens[at].content.replace(/\n$/, "");
  return (
    `<div class="code"><div class="code-bar"><span>${escape(language || "text")}</span>` +
    `<button type="button" class="copy-code">Copy</button></div>` +
    `<pre tabindex="0" dir="ltr"><code>${escape(code)}</code></pre></div>`
  );
};
// An answer stands below the page's own headings; cells are aligned by class, since the page allows
// no inline style.
md.core.ruler.push("headings", ({ tokens }) => {
  for (const token of tokens)
    if (/^heading_/.test(token.type)) token.tag = `h${Math.min(Number(token.tag[1]) + 2, 6)}`;
});
// Each block finds its own direction: an answer may quote Arabic in an English list. Code is always
// written from the left.
for (const kind of [
  "paragraph",
  "heading",
  "list_item",
  "bullet_list",
  "ordered_list",
  "blockquote",
]) {
  rules[`${kind}_open`] = (tokens, at, options, _env, self) => {
    tokens[at].attrSet("dir", "auto");
    return self.renderToken(tokens, at, options);
  };
}
rules.table_open = () => '<div class="table" tabindex="0"><table dir="auto">';
rules.table_close = () => "</table></div>";
rules.th_open = rules.td_open = (tokens, at) => {
  const side = /text-align:(left|center|right)/.exec(tokens[at].attrGet("style") ?? "")?.[1];
  return `<${tokens[at].tag} dir="auto"${side ? ` class="${side}"` : ""}>`;
};

/** A whole text as HTML. */
export const toHtml = (text) => md.render(text, {});

/**
 * The top-level blocks of `text`, and how much of it is settled: `upTo` characters in the first
 * `settled` blocks stay as they are whatever is appended. Only the last block is open, and a block
 * has begun for certain only when its first line is complete.
 * -> {blocks: [tokens], settled, upTo}
 */
export function blocksOf(text, env) {
  const blocks = [];
  for (const token of md.parse(text, env)) {
    if (token.level === 0 && token.nesting >= 0) blocks.push([]);
    blocks.at(-1).push(token);
  }
  const lines = [0];
  for (const end of text.matchAll(/\r\n?|\n/g)) lines.push(end.index + end[0].length);
  let settled = blocks.length - 1;
  while (settled > 0 && blocks[settled][0].map[0] >= lines.length - 1) settled--;
  return settled > 0
    ? { blocks, settled, upTo: lines[blocks[settled][0].map[0]] }
    : { blocks, settled: 0, upTo: 0 };
}

/** Whether there are definitions of links in it. */
function defines(text) {
  const env = {};
  if (text.includes("]:")) md.parse(text, env);
  return Object.keys(env.references ?? {}).length > 0;
}

const LAYOUT = "BLOCKQUOTE BR DIV H3 H4 H5 H6 HR LI OL P PRE TABLE TBODY TD TH THEAD TR UL";
const ELEMENTS = new Set([...LAYOUT.split(" "), ..."A BUTTON CODE EM S SPAN STRONG".split(" ")]);
const ATTRIBUTES = new Set([
  "class",
  "dir",
  "href",
  "rel",
  "start",
  "tabindex",
  "target",
  "title",
  "type",
]);

/** Nodes of rendered HTML, with nothing in them that is not on the list. */
function admit(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  for (const element of holder.content.querySelectorAll("*")) {
    if (!ELEMENTS.has(element.tagName)) element.remove();
    else
      for (const { name, value } of [...element.attributes])
        if (!ATTRIBUTES.has(name) || (name === "href" && !mayLink(value)))
          element.removeAttribute(name);
  }
  return [...holder.content.childNodes];
}

/** Text that grows, as Markdown inside `element`. */
export class MarkdownView {
  #settled = "";
  #env = {};
  #open = []; // [{html, nodes}] of the blocks that may still change

  constructor(element) {
    this.element = element;
  }

  /** Show `text`; `done`: it will not grow any more. */
  set(text, done = false) {
    const whole = done && defines(text); // a late definition makes links of earlier words
    if (whole || !text.startsWith(this.#settled)) this.#clear();
    const rest = text.slice(this.#settled.length);
    const env = { references: { ...this.#env.references } };
    const { blocks, settled, upTo } = blocksOf(rest, env);
    this.#show(blocks.map((block) => md.renderer.render(block, md.options, env)));
    if (done) return;
    md.parse(rest.slice(0, upTo), this.#env);
    this.#settled += rest.slice(0, upTo);
    this.#open.splice(0, settled);
  }

  #clear() {
    this.element.replaceChildren();
    this.#settled = "";
    this.#env = {};
    this.#open = [];
  }

  #show(htmls) {
    htmls.forEach((html, n) => {
      const held = this.#open[n];
      if (held?.html === html) return;
      const before = held ? held.nodes.at(-1).nextSibling : null;
      this.#open[n] = { html, nodes: grow(this.element, held?.nodes ?? [], admit(html), before) };
    });
    for (const { nodes } of this.#open.splice(htmls.length))
      for (const node of nodes) node.remove();
  }
}

/**
 * Make `held`, nodes of `parent`, say what `wanted` says. What is alike stays the same node and
 * longer text is written on, so that text that grows adds to the page and replaces next to nothing:
 * a selection, a scroll position, an open fold in it stay. -> the nodes
 */
function grow(parent, held, wanted, before = null) {
  for (const node of held.slice(wanted.length)) node.remove();
  return wanted.map((node, n) => {
    const old = held[n];
    if (!old) return parent.insertBefore(node, before);
    if (!alike(old, node)) return (old.replaceWith(node), node);
    if (old.nodeType === Node.TEXT_NODE) writeOn(old, node.data);
    else grow(old, [...old.childNodes], [...node.childNodes]);
    return old;
  });
}

function alike(one, other) {
  if (one.nodeName !== other.nodeName) return false;
  return (
    one.nodeType === Node.TEXT_NODE ||
    (one.attributes.length === other.attributes.length &&
      [...one.attributes].every(({ name, value }) => other.getAttribute(name) === value))
  );
}

/** Give a text node this text, by adding to it where that is enough. */
export function writeOn(node, text) {
  if (text === node.data) return;
  if (text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
  else node.data = text;
}
