/** The box where people write: its size, its keys, the choice of a model, and what it says about sending and stopping. */

import { byId, make } from "./dom.js";

export class Composer {
  #drafts = new Map(); // conversation id ("" for a new one) -> text not sent yet
  #place = "";

  constructor({ onsend, onstop, onmodel }) {
    this.prompt = byId("prompt");
    this.model = byId("model");
    this.send = byId("send");
    this.stop = byId("stop");
    this.onsend = onsend;
    byId("composer").addEventListener("submit", (event) => (event.preventDefault(), this.#submit()));
    this.prompt.addEventListener("input", () => this.#fit());
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
    if (![...this.model.options].some(({ value }) => value === name)) this.model.append(make("option", { value: name }, name));
    this.model.value = name;
  }

  /** Another conversation is open: its draft, not the other's. */
  enter(id) {
    this.#drafts.set(this.#place, this.prompt.value);
    this.#place = id ?? "";
    this.write(this.#drafts.get(this.#place) ?? "");
  }

  /** The same text goes on under another name: a new conversation got its id. */
  rename(id) {
    this.#drafts.delete(this.#place);
    this.#place = id;
  }

  write(text) {
    this.prompt.value = text;
    this.#fit();
  }

  focus() {
    this.prompt.focus({ preventScroll: true });
  }

  /** `running`: an answer is being written; `stopping`: someone here asked it to stop. */
  busy({ running, stopping }) {
    if (!running && this.stop.matches(":focus-visible")) this.focus(); // not after a tap: the keyboard would jump up
    this.stop.hidden = !running;
    this.stop.setAttribute("aria-disabled", String(stopping)); // disabled, it would lose the focus
    this.stop.lastChild.textContent = stopping ? "Stopping" : "Stop";
  }

  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
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
