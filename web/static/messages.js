/**
 * The list of messages: what is drawn and when. Text is drawn at most once per frame and only where it changed; the view follows the end only
 * while the reader is at the end. Words for states live here too.
 */

import { hasEnded } from "./tokenwire.js";
import { announce, copied, copyText, icon, make } from "./dom.js";
import { MarkdownView } from "./markdown.js";

const NEAR_END = 64; // px
const WAITS = {
  rate_limited: "The model is busy.",
  unavailable: "The model cannot be reached.",
  interrupted: "The model's answer broke off.",
};
const STOPS = {
  no_viewers: "Stopped, because nobody was watching.",
  superseded: "Stopped by a newer message.",
  deleted: "Stopped.",
};
const FINISHES = {
  length: "Cut off at the length limit.",
  content_filter: "Ended by the provider's content filter.",
  refusal: "The model declined to answer.",
};

export class MessageList {
  #views = new Map(); // id -> view
  #dirty = new Set();
  #frame = 0;
  #notBefore = 0;
  #following = true;

  /** `people()`: {me, several}, who reads and whether more than one person writes here. */
  constructor({ list, scroll, latest, people }) {
    Object.assign(this, { list, scroll, latest, people });
    scroll.addEventListener("scroll", () => this.#look(), { passive: true });
    latest.addEventListener("click", () => this.follow("smooth"));
    list.addEventListener("click", ({ target }) => copyCode(target.closest?.(".copy-code")));
    new ResizeObserver(() => this.#following && this.follow()).observe(scroll);
    setInterval(() => this.#tick(), 1000);
  }

  /** Nothing is shown: another conversation comes. */
  clear() {
    this.#views.clear();
    this.#dirty.clear();
    this.list.replaceChildren();
    this.#following = true;
    this.latest.hidden = true;
  }

  /** These are the messages, in order: rows of the transcript, then posts that are under way. */
  sync(messages) {
    const ids = new Set(messages.map((message) => message.id));
    for (const [id, view] of this.#views) if (!ids.has(id)) view.element.remove(), this.#views.delete(id);
    let before = null;
    for (const message of messages) {
      const view = this.#view(message);
      const next = before ? before.nextSibling : this.list.firstChild;
      if (next !== view.element) this.list.insertBefore(view.element, next);
      before = view.element;
      this.touch(message);
    }
    this.#draw();
  }

  holds(message) {
    return this.#views.has(message.id);
  }

  /** A message changed: it is drawn in the next frame. */
  touch(message) {
    this.#dirty.add(message.id);
    this.#frame ||= requestAnimationFrame((now) => {
      this.#frame = 0;
      if (now < this.#notBefore) return this.touch(message);
      this.#draw();
      this.#notBefore = now + 3 * (performance.now() - now); // never more than a quarter of the time for drawing
    });
  }

  /** Go to the end and stay there. */
  follow(behavior = "instant") {
    this.#following = true;
    this.latest.hidden = true;
    this.scroll.scrollTo({ top: this.scroll.scrollHeight, behavior });
  }

  /** Keep what is on screen where it is while `change` puts something in above it. */
  holdStill(change) {
    const fromEnd = this.scroll.scrollHeight - this.scroll.scrollTop;
    change();
    this.scroll.scrollTop = this.scroll.scrollHeight - fromEnd;
  }

  #view(message) {
    let view = this.#views.get(message.id);
    if (!view) this.#views.set(message.id, (view = message.role === "assistant" ? new Answer() : new Post(this.people)));
    view.message = message; // after a resync another object stands for the same message
    return view;
  }

  #draw() {
    for (const id of this.#dirty) this.#views.get(id)?.draw();
    this.#dirty.clear();
    if (this.#following) this.scroll.scrollTop = this.scroll.scrollHeight;
    else this.#look();
  }

  #look() {
    const below = this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight;
    this.#following = below < NEAR_END;
    this.latest.hidden = this.#following;
  }

  #tick() {
    for (const view of this.#views.values()) if (view.message.status === "retrying") this.touch(view.message);
  }
}

/** What a person wrote: text, shown as text. */
class Post {
  constructor(people) {
    this.people = people;
    this.who = make("p", { class: "who" });
    this.bubble = make("p", { class: "bubble", dir: "auto" });
    this.state = make("p", { class: "state", hidden: true });
    this.element = make("li", { class: "message post" }, make("span", { class: "unseen" }, "Message"), this.who, this.bubble, this.state);
  }

  draw() {
    const { me, several } = this.people();
    const { content, user_id: author, pending, failure } = this.message;
    const other = several && author && author !== me;
    this.element.classList.toggle("other", Boolean(other));
    this.element.classList.toggle("pending", Boolean(pending));
    this.who.hidden = !several;
    this.who.textContent = other ? author : "You";
    if (this.bubble.textContent !== content) this.bubble.textContent = content;
    this.state.hidden = !failure;
    if (failure) this.state.replaceChildren(icon("alert"), make("span", {}, `Not sent. ${failure}`), ...this.#choices());
  }

  #choices() {
    const { again, discard } = this.message;
    return [make("button", { type: "button", onclick: again }, "Try again"), make("button", { type: "button", onclick: discard }, "Discard")];
  }
}

/** What a model writes. */
class Answer {
  #drawn = {};

  constructor() {
    this.prose = make("div", { class: "prose", dir: "auto" });
    this.text = new MarkdownView(this.prose);
    this.thought = make("div", { class: "thought" });
    this.thoughts = make("details", { class: "thoughts", hidden: true }, make("summary", {}, icon("fold"), "Reasoning"), this.thought);
    this.tools = make("ul", { class: "uses", hidden: true });
    this.state = make("p", { class: "state" });
    this.copy = make("button", { type: "button", class: "copy", onclick: () => this.#copy() }, icon("copy"), "Copy");
    this.meta = make("span", { class: "meta" });
    this.foot = make("div", { class: "foot", hidden: true }, this.copy, this.meta);
    const label = make("span", { class: "unseen" }, "Answer");
    this.element = make("li", { class: "message answer" }, label, this.thoughts, this.prose, this.tools, this.state, this.foot);
  }

  draw() {
    const { message } = this;
    const done = hasEnded(message);
    this.element.dataset.status = message.status;
    if (message.content !== this.#drawn.content || done !== this.#drawn.done) this.text.set(message.content, done);
    this.prose.hidden = !message.content;
    this.#drawThoughts(message.reasoning);
    this.#drawTools(message.tool_calls);
    this.#drawState(describe(message));
    this.foot.hidden = !done || !message.content;
    this.meta.textContent = summary(message);
    if (done && this.#drawn.done === false) announce(describe(message).text || "Answer complete");
    this.#drawn = { content: message.content, done };
  }

  #drawThoughts(reasoning) {
    this.thoughts.hidden = !reasoning;
    if (this.thought.textContent !== reasoning) this.thought.textContent = reasoning;
  }

  #drawTools(calls) {
    this.tools.hidden = !calls.length;
    this.tools.replaceChildren(...calls.map(({ name, status }) => make("li", {}, make("code", {}, name), ` ${status}`)));
  }

  #drawState({ kind, text }) {
    this.state.hidden = !text;
    if (this.state.dataset.kind === kind && this.state.lastChild?.textContent === text) return;
    this.state.dataset.kind = kind;
    const sign = kind === "busy" ? make("span", { class: "dots", "aria-hidden": "true" }, make("i"), make("i"), make("i")) : icon(kind === "stopped" ? "stop" : "alert");
    this.state.replaceChildren(sign, make("span", {}, text));
  }

  async #copy() {
    await copyText(this.message.content);
    copied(this.copy);
  }
}

/** The state of an answer in words: {kind: busy | wait | bad | stopped | note, text}; no text where the text of the answer says it all. */
export function describe(message, now = Date.now()) {
  const { status, content, error } = message;
  if (status === "queued") return { kind: "busy", text: "Waiting for its turn" };
  if (status === "waiting") return { kind: "wait", text: "Waiting for a tool" };
  if (status === "retrying") return { kind: "wait", text: retrying(message, now) };
  if (status === "streaming") return content ? { kind: "busy", text: "" } : { kind: "busy", text: "Thinking" };
  if (status === "error") return { kind: "bad", text: error?.error || "The answer failed." };
  if (status === "cancelled") return { kind: "stopped", text: STOPS[message.by] ?? "Stopped." };
  if (FINISHES[message.finish_reason]) return { kind: "note", text: FINISHES[message.finish_reason] };
  return content ? { kind: "note", text: "" } : { kind: "note", text: "The answer is empty." };
}

function retrying({ retry }, now) {
  if (!retry) return "Trying again soon";
  retry.due ??= now + retry.delay_ms;
  const seconds = Math.ceil((retry.due - now) / 1000);
  const when = seconds > 0 ? `Trying again in ${seconds} s` : "Trying again";
  return `${WAITS[retry.code] ?? "That did not work."} ${when} (${retry.try + 1} of ${retry.max_tries})`;
}

function summary({ model, usage }) {
  const tokens = usage?.output_tokens;
  return [model, tokens > 0 && `${usage.estimated ? "about " : ""}${tokens.toLocaleString("en")} tokens`].filter(Boolean).join(" · ");
}

async function copyCode(button) {
  if (!button) return;
  await copyText(button.closest(".code").querySelector("code").textContent);
  button.textContent = "Copied";
  announce("Copied");
  setTimeout(() => (button.textContent = "Copy"), 1600);
}
