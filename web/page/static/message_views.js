/**
 * What one message looks like: a post, an answer with its parts, and the words for their states.
 */

import { announce, copied, copyText, icon, make } from "./dom.js";
import { PartViews, seenOf } from "./part_views.js";
import { hasEnded } from "./tokenwire.js";

const WAITS = {
  rate_limited: "The model is busy.",
  unavailable: "The model cannot be reached.",
  interrupted: "The model's answer broke off.",
};
const STOPS = {
  no_readers: "Stopped, because nobody was watching.",
  superseded: "Stopped by a newer message.",
};
const FINISHES = {
  length: "Cut off at the length limit.",
  content_filter: "Ended by the provider's content filter.",
  refusal: "The model declined to answer.",
};
const UNSAID = new Set(["reasoning", "brought"]);
const HUES = 6;

const TAKEN = "The answer above has read this message.";

/** What a person wrote: text, shown as text. `isTaken`: an answer took it in while it ran. */
export class Post {
  #drawn = null;

  constructor(people) {
    this.people = people;
    this.who = make("p", { class: "who" });
    this.bubble = make("p", { class: "bubble", dir: "auto" });
    this.taken = make("p", { class: "taken", hidden: true }, TAKEN);
    this.state = make("p", { class: "state", hidden: true });
    this.element = make(
      "li",
      { class: "message post" },
      make("h2", { class: "unseen" }, "Message"),
      this.who,
      this.bubble,
      this.taken,
      this.state,
    );
  }

  draw() {
    const { me, several } = this.people();
    const { content, user_id: author, pending, failure } = this.message;
    this.taken.hidden = !this.isTaken;
    const look = JSON.stringify([several && (author ?? me), me, pending, failure]);
    if (this.#drawn?.content !== content) this.bubble.textContent = content;
    if (this.#drawn?.look !== look)
      this.#dress(several && author && author !== me ? author : null, several);
    this.#drawn = { content, look };
  }

  #dress(other, several) {
    const { pending, failure } = this.message;
    this.element.classList.toggle("other", Boolean(other));
    this.element.classList.toggle("pending", Boolean(pending));
    this.who.hidden = !several;
    this.who.textContent = other ?? "You";
    this.who.dataset.hue = other ? hueOf(other) : "own";
    this.state.hidden = !failure;
    if (failure)
      this.state.replaceChildren(
        icon("alert"),
        make("span", {}, `Not sent. ${failure}`),
        ...this.#choices(),
      );
  }

  #choices() {
    const { again, discard } = this.message;
    return [
      make("button", { type: "button", onclick: again }, "Try again"),
      make("button", { type: "button", onclick: discard }, "Discard"),
    ];
  }
}

/** The same person always gets the same colour. */
function hueOf(name) {
  return String([...name].reduce((sum, sign) => (sum * 31 + sign.codePointAt(0)) % 9973, 7) % HUES);
}

/** What a model answers. `last`: nothing follows it, so that it can be made again. */
export class Answer {
  #done;
  #look = "";

  constructor({ onagain, ondecide }) {
    this.onagain = onagain;
    const body = make("div", { class: "body" });
    this.parts = new PartViews(body, (...decision) => ondecide(this.message, ...decision));
    this.state = make("p", { class: "state" });
    this.copy = make(
      "button",
      { type: "button", class: "act", onclick: () => this.#copy() },
      icon("copy"),
      "Copy",
    );
    this.again = make(
      "button",
      { type: "button", class: "act", onclick: () => this.onagain(this.message) },
      icon("again"),
      "Regenerate",
    );
    this.meta = make("span", { class: "meta" });
    this.foot = make("div", { class: "foot" }, this.copy, this.again, this.meta);
    const label = make("h2", { class: "unseen" }, "Answer");
    this.element = make("li", { class: "message answer" }, label, body, this.state, this.foot);
  }

  draw() {
    const { message } = this;
    const done = hasEnded(message);
    this.element.dataset.status = message.status;
    this.parts.draw(message.parts, done);
    this.#drawState(describe(message), done);
    this.#drawFoot(message, done);
    if (done && this.#done === false) announce(describe(message).text || "Answer complete");
    this.#done = done;
  }

  #drawState({ kind, text }, done) {
    const { state } = this;
    const choice = done && kind === "bad" && this.last;
    const look = [kind, text, choice].join();
    if (this.#look === look) return;
    this.#look = look;
    state.dataset.kind = kind;
    state.hidden = !text;
    const sign =
      kind === "busy"
        ? make("span", { class: "dots", "aria-hidden": "true" }, make("i"), make("i"), make("i"))
        : icon(kind === "stopped" ? "stop" : "alert");
    state.replaceChildren(sign, make("span", {}, text));
    if (choice)
      state.append(
        make("button", { type: "button", onclick: () => this.onagain(this.message) }, "Try again"),
      );
  }

  /** Its room is taken from the beginning, so that nothing moves at the end. */
  #drawFoot(message, done) {
    const again = done && this.last && message.status !== "error";
    this.foot.classList.toggle("later", !done);
    this.copy.hidden = done && !message.content;
    this.again.hidden = done && !again;
    this.foot.hidden = done && !message.content && !again;
    const text = done ? summary(message) : "";
    if (this.meta.textContent !== text) this.meta.textContent = text;
  }

  async #copy() {
    await copyText(this.message.content);
    copied(this.copy);
  }
}

/**
 * The state of an answer in words: {kind: busy | wait | bad | stopped | note, text}; no text where
 * what the answer shows says it all.
 */
export function describe(message, now = Date.now()) {
  const { status, error } = message;
  const answers = seenOf(message.parts).some(({ kind }) => !UNSAID.has(kind));
  if (status === "queued") return { kind: "busy", text: "Waiting for its turn" };
  if (status === "waiting") return { kind: "wait", text: "Waiting for a decision" };
  if (status === "retrying") return { kind: "wait", text: retrying(message, now) };
  if (status === "streaming") return { kind: "busy", text: answers ? "" : "Thinking" };
  if (status === "error") return { kind: "bad", text: error?.error || "The answer failed." };
  if (status === "cancelled") return { kind: "stopped", text: STOPS[message.by] ?? "Stopped." };
  if (FINISHES[message.finish_reason])
    return { kind: "note", text: FINISHES[message.finish_reason] };
  return { kind: "note", text: answers ? "" : "The answer is empty." };
}

function retrying({ retry }, now) {
  if (!retry) return "Trying again soon";
  retry.due ??= now + retry.delay_ms;
  const seconds = Math.ceil((retry.due - now) / 1000);
  const when = seconds > 0 ? `Trying again in ${seconds} s` : "Trying again";
  const reason = WAITS[retry.code] ?? "That did not work.";
  return `${reason} ${when} (${retry.try + 1} of ${retry.max_tries})`;
}

function summary({ model, usage }) {
  const tokens = usage?.output_tokens;
  return [
    model,
    tokens > 0 && `${usage.estimated ? "about " : ""}${tokens.toLocaleString("en")} tokens`,
  ]
    .filter(Boolean)
    .join(" · ");
}
