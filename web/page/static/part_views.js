/**
 * What the parts of an answer look like, in their order: text, reasoning, calls of tools, sources,
 * files, and the place of a message that was read meanwhile. What is not known here is shown as
 * nothing.
 */

import { isLink } from "./addresses.js";
import { icon, make } from "./dom.js";
import { MarkdownView, writeOn } from "./markdown.js";
import { Question } from "./questions.js";
import { laidOut, visible } from "./verbatim.js";

const KINDS = {
  __proto__: null,
  text: "text",
  reasoning: "reasoning",
  tool_call: "calls",
  source: "sources",
  file: "files",
};
const ALONE = new Set(["text", "reasoning"]);
const STATES = {
  __proto__: null,
  streaming: "Being written",
  proposed: "Requested",
  invalid: "Not valid",
  awaiting_approval: "Waiting for approval",
  awaiting_client: "Waiting for the app",
  awaiting_outcome: "Outcome unknown",
  running: "Running",
  done: "Done",
  failed: "Failed",
  denied: "Denied",
  withdrawn: "Withdrawn",
  unknown: "Outcome unknown",
};

/**
 * What is to be seen: `{kind, parts}` in order. Calls, sources and files that follow one another
 * are one.
 */
export function seenOf(parts) {
  const seen = [];
  for (const part of parts) {
    const kind = part.message_ids ? "brought" : KINDS[part.type];
    if (!kind || (ALONE.has(kind) && !part.text)) continue;
    if (seen.at(-1)?.kind === kind && !ALONE.has(kind)) seen.at(-1).parts.push(part);
    else seen.push({ kind, parts: [part] });
  }
  return seen;
}

/** The parts of one answer, inside `element`. `decide(number, decision)`: about a call. */
export class PartViews {
  #views = [];

  constructor(element, decide) {
    Object.assign(this, { element, decide });
  }

  /** Show these parts. `done`: they change no more. */
  draw(parts, done) {
    const seen = seenOf(parts);
    const alike = seen.findIndex(({ kind }, n) => kind !== this.#views[n]?.kind);
    for (const { view } of this.#views.splice(alike < 0 ? seen.length : alike))
      view.element.remove();
    const last = seen.findLastIndex(({ kind }) => kind !== "sources"); // they may stand inside it
    seen.forEach((item, n) => {
      this.#views[n] ??= this.#add(item.kind);
      this.#views[n].view.draw(item.parts, { done, growing: n === last && !done, all: parts });
    });
  }

  #add(kind) {
    const view = new VIEWS[kind](this.decide);
    this.element.append(view.element);
    return { kind, view };
  }
}

class Text {
  element = make("div", { class: "prose" });
  #text = new MarkdownView(this.element);
  #drawn = {};

  draw([{ text }], { done, growing }) {
    this.element.classList.toggle("growing", growing);
    if (text === this.#drawn.text && done === this.#drawn.done) return;
    this.#text.set(text, done);
    this.#drawn = { text, done };
  }
}

/** What a model thinks, folded. */
class Reasoning {
  #words = make("span", {}, "Reasoning");
  #thought = make("div", { class: "thought" }, "");
  element = make(
    "details",
    { class: "fold thoughts" },
    make("summary", {}, icon("fold"), this.#words),
    this.#thought,
  );

  draw([{ text }], { growing }) {
    writeOn(this.#thought.firstChild, text);
    writeOn(this.#words.firstChild, growing ? "Reasoning …" : "Reasoning");
  }
}

class Calls {
  element = make("ul", { class: "uses", "aria-label": "Tools used" });
  #calls = [];

  constructor(decide) {
    this.decide = decide;
  }

  draw(parts, { all }) {
    for (const call of this.#calls.splice(parts.length)) call.element.remove();
    parts.forEach((part, n) => {
      this.#calls[n] ??= new Call(this.element, this.decide);
      this.#calls[n].draw(part, all);
    });
  }
}

/**
 * A tool that the model uses: folded, with what goes in and what came out. While it asks it is open
 * and has the tool's own name, because a title is whatever the tool's server says.
 */
class Call {
  #drawn = {};
  #title = make("code");
  #name = make("code");
  #tool = make("span", { class: "use-tool", hidden: true }, "Tool ", this.#name);
  #state = make("span", { class: "use-state" });
  #facts = make("div", { class: "facts" });
  #input = make("pre", { tabindex: "0", "aria-label": "Input" }, "");
  #number = 0;
  element = make("li");

  constructor(list, decide) {
    const head = make("summary", {}, icon("fold"), this.#title, this.#tool, this.#state);
    this.question = new Question((decision) => decide(this.#number, decision));
    const fold = make("details", { class: "fold use" }, head, this.#facts, this.question.element);
    this.element.append(fold);
    list.append(this.element);
    new ResizeObserver(() => this.#measure()).observe(this.#input);
  }

  draw(part, all) {
    const { name, title, state, input, ran_with: edited, result, error } = part;
    if (part === this.#drawn.part && input === this.#drawn.input) return;
    this.#drawn = { part, input };
    this.#number = all.indexOf(part);
    this.element.firstChild.dataset.state = state in STATES ? state : "";
    this.#title.textContent = visible(title || name);
    this.#name.textContent = visible(name);
    this.#state.textContent = STATES[state] ?? "";
    writeOn(this.#input.firstChild, state === "streaming" ? visible(input) : laidOut(input));
    const given = input ? [make("p", {}, "Input"), this.#input] : [];
    const ran = edited && laidOut(edited);
    this.#facts.replaceChildren(
      ...[...given, ...fact("Input after an edit", ran), ...fact("Result", result)],
      ...fact("Error", error),
    );
    const asks = !this.question.element.hidden;
    this.question.draw(part);
    if (!asks && !this.question.element.hidden) this.element.firstChild.open = true;
    this.#tool.hidden = !title || this.question.element.hidden;
    this.#measure();
  }

  /** Who decides about an input knows whether all of it is in view. */
  #measure() {
    const { scrollHeight, clientHeight } = this.#input;
    this.question.warn(scrollHeight > clientHeight ? this.#input.textContent.length : 0);
  }
}

function fact(title, value) {
  if (value === undefined) return [];
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return [make("p", {}, title), make("pre", { tabindex: "0", "aria-label": title }, visible(text))];
}

/** A list that is drawn again when it changes. */
class List {
  #drawn = [];

  draw(parts) {
    if (parts.length === this.#drawn.length && parts.every((part, n) => part === this.#drawn[n]))
      return;
    this.#drawn = parts;
    this.element.replaceChildren(...parts.map((part) => make("li", {}, this.item(part))));
  }
}

class Sources extends List {
  element = make("ol", { class: "sources", "aria-label": "Sources" });

  item({ url, address, file_id, title, media_type }) {
    return reference(url, title, media_type, file_id ?? address);
  }
}

class Files extends List {
  element = make("ul", { class: "files", "aria-label": "Files" });

  item({ url, address = "File", name, media_type: type }) {
    if (!/^\/(?!\/)/.test(url)) return reference(url, name, type, address); // only ours are fetched
    if (/^image\//.test(type)) {
      const image = make("img", { src: url, alt: name ?? "Image", loading: "lazy" });
      return make("a", { href: url, target: "_blank", rel: "noopener" }, image);
    }
    return make("a", { href: url, download: name ?? "" }, name ?? type ?? "File");
  }
}

/** The place at which messages of people reached the model. */
class Brought {
  element = make("p", { class: "taken", role: "note" });

  draw(parts) {
    const count = parts.flatMap((part) => part.message_ids).length;
    const words =
      count === 1 ? "A new message was read here." : `${count} new messages were read here.`;
    if (this.element.textContent !== words) this.element.textContent = words;
  }
}

const VIEWS = {
  text: Text,
  reasoning: Reasoning,
  calls: Calls,
  sources: Sources,
  files: Files,
  brought: Brought,
};

/** A title and where it is; a link only to where links may lead. */
function reference(url, title, type, fallback = "") {
  const place = isLink(url) ? new URL(url) : null;
  const words = title || place?.hostname || String(url ?? fallback);
  if (!place) return words;
  const link = make("a", { href: place.href, rel: "noopener noreferrer", target: "_blank" }, words);
  const more = make("span", {}, [title && place.hostname, type].filter(Boolean).join(" · "));
  const both = document.createDocumentFragment();
  both.append(link, " ", more);
  return both;
}
