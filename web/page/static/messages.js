/**
 * The list of messages: what is drawn and when. Text is drawn at most once per frame and only where
 * it changed; the view follows the end only while the reader is at the end. What one message looks
 * like is message_views.js's.
 */

import { announce, copyText } from "./dom.js";
import { Answer, Post } from "./message_views.js";

const NEAR_END = 64; // px
const FRAME_MS = 20; // of drawing at a time: what is nearest to the end is drawn first

export class MessageList {
  #views = new Map(); // id -> view
  #dirty = new Set();
  #frame = 0;
  #notBefore = 0;
  #following = true;
  #top = 0; // where the view was last

  /**
   * `people()`: {me, several}, who reads and whether others write here too. `onagain(message)`:
   * this answer is to be made again. `ondecide(message, number, decision)`: about a tool call.
   */
  constructor({ list, scroll, latest, people, onagain, ondecide }) {
    Object.assign(this, { list, scroll, latest, people, onagain, ondecide });
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
    for (const [id, view] of this.#views)
      if (!ids.has(id)) (view.element.remove(), this.#views.delete(id));
    let before = null;
    const taken = takenIn(messages);
    for (const message of messages) {
      const view = this.#view(message);
      view.isTaken = taken.has(message.id);
      view.last = message === messages.at(-1);
      const next = before ? before.nextSibling : this.list.firstElementChild;
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
    this.#schedule();
  }

  #schedule() {
    this.#frame ||= requestAnimationFrame((now) => {
      this.#frame = 0;
      if (now < this.#notBefore) return this.#schedule();
      this.#draw();
      // Drawing never takes more than a quarter of the time.
      this.#notBefore = now + 3 * (performance.now() - now);
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
    if (!view)
      this.#views.set(
        message.id,
        (view = message.role === "assistant" ? new Answer(this) : new Post(this.people)),
      );
    view.message = message; // after a resync another object stands for the same message
    return view;
  }

  #draw() {
    const until = performance.now() + FRAME_MS;
    for (const id of [...this.#dirty].reverse()) {
      this.#dirty.delete(id);
      this.#views.get(id)?.draw();
      if (performance.now() > until) break;
    }
    if (this.#dirty.size) this.#schedule();
    if (this.#following) this.scroll.scrollTop = this.scroll.scrollHeight;
    this.#look();
  }

  /**
   * At the end the reader follows it, and no longer once the view moves up. On the way down the
   * distance does not matter: text may come faster than a smooth scroll.
   */
  #look() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroll;
    if (scrollHeight - scrollTop - clientHeight < NEAR_END) this.#following = true;
    else if (scrollTop < this.#top) this.#following = false;
    this.#top = scrollTop;
    this.latest.hidden = this.#following;
  }

  #tick() {
    for (const view of this.#views.values())
      if (view.message.status === "retrying") this.touch(view.message);
  }
}

/** The ids of the messages that an answer took in while it ran: a step of it names them. */
export function takenIn(messages) {
  const parts = messages.flatMap((message) => message.parts ?? []);
  return new Set(parts.flatMap((part) => part.message_ids ?? []));
}

async function copyCode(button) {
  if (!button) return;
  await copyText(button.closest(".code").querySelector("code").textContent);
  button.textContent = "Copied";
  announce("Copied");
  setTimeout(() => (button.textContent = "Copy"), 1600);
}
