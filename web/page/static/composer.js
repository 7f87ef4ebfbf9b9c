/**
 * The box where people write: its size, its keys, the choice of a model, and what it says about
 * sending and stopping.
 */

import { byId, keep, make, recall } from "./dom.js";

const MOST_DRAFTS = 50; // kept in this browser, the latest ones

export class Composer {
  /** Conversation id ("" for a new one) -> text that is not sent yet, the latest last. */
  #drafts = new Map(recall("drafts"));
  #place = "";

  constructor({ onsend, onstop, onmodel }) {
    this.prompt = byId("prompt");
    this.model = byId("model");
    this.send = byId("send");
    this.stop = byId("stop");
    this.onsend = onsend;
    byId("composer").addEventListener(
      "submit",
      (event) => (event.preventDefault(), this.#submit()),
    );
    this.prompt.addEventListener("input", () => this.#changed());
    this.prompt.addEventListener("keydown", (event) => this.#key(event));
    this.stop.addEventListener("click", onstop);
    this.model.addEventListener("change", () => onmodel(this.model.value));
    this.#fit();
  }

  /** Offer these models; `chosen` is the one in use. */
  offer(models, chosen) {
    this.model.replaceChildren(...models.map(({ name }) => make("option", { value: name }, name)));
    this.choose(chosen);
  }

  /** Show this model as the one in use, even if it is not on offer now. */
  choose(name) {
    if (!name) return;
    if (![...this.model.options].some(({ value }) => value === name))
      this.model.append(make("option", { value: name }, name));
    this.model.value = name;
  }

  /** Another conversation is open: its draft, not the other's. */
  enter(id) {
    this.#place = id ?? "";
    this.prompt.value = this.#drafts.get(this.#place) ?? "";
    this.#fit();
  }

  /** The same text goes on under another name: a new conversation got its id. */
  rename(id) {
    this.forget(this.#place);
    this.#place = id;
    this.#keepDraft(id, this.prompt.value);
  }

  /**
   * A text that was sent from the conversation `id` and refused: it is a draft again, unless
   * another one was begun there.
   */
  giveBack(id, text) {
    if (this.#place === (id ?? "")) this.prompt.value || this.write(text);
    else if (!this.#drafts.has(id ?? "")) this.#keepDraft(id ?? "", text);
  }

  /** The conversation is gone, and its draft with it. */
  forget(id) {
    this.#keepDraft(id, "");
  }

  write(text) {
    this.prompt.value = text;
    this.#changed();
  }

  #changed() {
    this.#fit();
    this.#keepDraft(this.#place, this.prompt.value);
  }

  /**
   * Kept at every change, so that a draft survives a reload; other windows keep theirs in the same
   * list.
   */
  #keepDraft(id, text) {
    const kept = new Map(recall("drafts"));
    for (const drafts of [this.#drafts, kept]) {
      drafts.delete(id);
      if (text) drafts.set(id, text);
    }
    keep("drafts", [...kept].slice(-MOST_DRAFTS));
  }

  focus() {
    this.prompt.focus({ preventScroll: true });
  }

  /** `running`: an answer is being written; `stopping`: someone here asked it to stop. */
  busy({ running, stopping }) {
    // Not after a tap: the keyboard would jump up.
    if (!running && this.stop.matches(":focus-visible")) this.focus();
    this.stop.hidden = !running;
    this.stop.setAttribute("aria-disabled", String(stopping)); // disabled, it would lose the focus
    this.stop.lastElementChild.textContent = stopping ? "Stopping" : "Stop";
  }

  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229)
      return;
    event.preventDefault();
    this.#submit();
  }

  #submit() {
    const text = this.prompt.value;
    if (!text.trim()) return this.focus();
    this.write("");
    this.onsend(text);
  }

  #fit() {
    this.send.disabled = !this.prompt.value.trim();
    this.prompt.style.height = "auto";
    this.prompt.style.height = `${Math.min(this.prompt.scrollHeight, innerHeight * 0.4)}px`;
  }
}
