/**
 * What the page says about its connection: that it is live, or how long until the next attempt, and
 * a button for those who will not wait.
 */

import { announce, make } from "./dom.js";

const WORDS = {
  connecting: "Connecting",
  replaying: "Catching up",
  reconnecting: "Reconnecting",
  live: "Live",
  offline: "Offline",
  stopped: "Disconnected",
};
const SHORT_MS = 1500; // a wait that is over before it could be read

export class Link {
  #until = 0;
  #timer = 0;

  /** `onhurry()`: the reader does not want to wait. */
  constructor({ element, onhurry }) {
    this.element = element;
    this.words = make("span");
    this.now = make(
      "button",
      { type: "button", class: "now", hidden: true, onclick: () => this.#hurry(onhurry) },
      "Try now",
    );
    element.append(this.words, this.now);
  }

  /** `state`: that of a Subscription; or `none`, where nothing is followed. */
  show({ name, delay_ms = 0 }) {
    clearInterval(this.#timer);
    this.name = name === "reconnecting" && !navigator.onLine ? "offline" : name;
    this.element.dataset.state = document.body.dataset.link = this.name;
    this.#until = delay_ms > SHORT_MS ? Date.now() + delay_ms : 0;
    if (this.name === "reconnecting" && this.#until)
      this.#timer = setInterval(() => this.#draw(), 1000);
    this.#draw();
  }

  #draw() {
    const seconds = Math.ceil((this.#until - Date.now()) / 1000);
    const waits = this.name === "reconnecting" && seconds > 0;
    this.words.textContent = waits ? `Reconnecting in ${seconds} s` : (WORDS[this.name] ?? "");
    this.now.hidden = !waits;
  }

  #hurry(onhurry) {
    announce("Reconnecting");
    onhurry();
  }
}
