/** What one message looks like: a post, an answer with all that belongs to it, and the words for their states. */

import { announce, copied, copyText, icon, make } from "./dom.js";
import { MarkdownView, writeOn } from "./markdown.js";
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

const TOOLS = {
  pending: "Being prepared",
  waiting: "Waiting for you",
  running: "Running",
  ok: "Done",
  error: "Failed",
  denied: "Not allowed",
};
const HUES = 6;

/** What a person wrote: text, shown as text. */
export class Post {
  #drawn = null;

  constructor(people) {
    this.people = people;
    this.who = make("p", { class: "who" });
    this.bubble = make("p", { class: "bubble", dir: "auto" });
    this.state = make("p", { class: "state", hidden: true });
    this.element = make(
      "li",
      { class: "message post" },
      make("h2", { class: "unseen" }, "Message"),
      this.who,
      this.bubble,
      this.state,
    );
  }

  draw() {
    const { me, several } = this.people();
    const { content, user_id: author, pending, failure } = this.message;
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

/** What a model writes, with what it thought, used and cited. `last`: nothing follows it, so that it can be made again. */
export class Answer {
  #drawn = {};
  #look = "";
  #uses = new Map(); // tool_call_id -> Use

  constructor(onagain) {
    this.onagain = onagain;
    this.prose = make("div", { class: "prose" });
    this.text = new MarkdownView(this.prose);
    this.thought = make("div", { class: "thought" });
    this.thought.append("");
    this.thinking = make("span", {}, "Reasoning");
    this.thoughts = make(
      "details",
      { class: "fold thoughts", hidden: true },
      make("summary", {}, icon("fold"), this.thinking),
      this.thought,
    );
    this.uses = make("ul", { class: "uses", hidden: true, "aria-label": "Tools used" });
    this.sources = make("ol", { class: "sources", hidden: true, "aria-label": "Sources" });
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
    this.element = make(
      "li",
      { class: "message answer" },
      label,
      this.thoughts,
      this.uses,
      this.prose,
      this.sources,
      this.state,
      this.foot,
    );
  }

  draw() {
    const { message } = this;
    const done = hasEnded(message);
    this.element.dataset.status = message.status;
    if (message.content !== this.#drawn.content || done !== this.#drawn.done)
      this.text.set(message.content, done);
    this.prose.hidden = !message.content;
    this.#drawThoughts(message);
    this.#drawUses(message.tool_calls);
    this.#drawSources(message.sources);
    this.#drawState(describe(message), done);
    this.#drawFoot(message, done);
    if (done && this.#drawn.done === false) announce(describe(message).text || "Answer complete");
    this.#drawn = { content: message.content, sources: message.sources.length, done };
  }

  #drawThoughts({ reasoning, content, status }) {
    this.thoughts.hidden = !reasoning;
    writeOn(this.thought.firstChild, reasoning);
    writeOn(
      this.thinking.firstChild,
      status === "streaming" && !content ? "Reasoning …" : "Reasoning",
    );
  }

  #drawUses(calls) {
    this.uses.hidden = !calls.length;
    const ids = new Set(calls.map((call) => call.tool_call_id));
    for (const [id, use] of this.#uses)
      if (!ids.has(id)) (use.element.remove(), this.#uses.delete(id));
    for (const call of calls) {
      let use = this.#uses.get(call.tool_call_id);
      if (!use)
        (this.#uses.set(call.tool_call_id, (use = new Use())), this.uses.append(use.element));
      use.draw(call);
    }
  }

  #drawSources(sources) {
    if (sources.length === (this.#drawn.sources ?? 0)) return;
    this.sources.hidden = !sources.length;
    this.sources.replaceChildren(...sources.map((source) => make("li", {}, cited(source))));
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

/** A tool that the model has used: folded, with what went in and what came out. */
class Use {
  #drawn = "";

  constructor() {
    this.name = make("code");
    this.status = make("span", { class: "use-status" });
    this.facts = make("div", { class: "facts" });
    const head = make("summary", {}, icon("fold"), this.name, this.status);
    this.element = make("li", {}, make("details", { class: "fold use" }, head, this.facts));
  }

  draw({ name, status, arguments: given, result }) {
    const look = JSON.stringify([name, status, given, result]);
    if (look === this.#drawn) return;
    this.#drawn = look;
    this.element.firstChild.dataset.status = status;
    this.name.textContent = name;
    this.status.textContent = TOOLS[status] ?? status;
    this.facts.replaceChildren(
      ...fact("Arguments", given),
      ...fact(status === "error" ? "Error" : "Result", result),
    );
  }
}

function fact(title, value) {
  if (value === undefined) return [];
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return [make("p", {}, title), make("pre", { tabindex: "0", "aria-label": title }, text)];
}

/** A source or a file: its title and where it is; a link only to where links may lead. */
function cited({ url, title, media_type: kind }) {
  const place = URL.canParse(url) ? new URL(url) : null;
  const words = title || place?.hostname || String(url);
  if (place?.protocol !== "https:" && place?.protocol !== "http:") return words;
  const link = make("a", { href: place.href, rel: "noopener noreferrer", target: "_blank" }, words);
  const more = make("span", {}, [title && place.hostname, kind].filter(Boolean).join(" · "));
  const both = document.createDocumentFragment();
  both.append(link, " ", more);
  return both;
}

/** The state of an answer in words: {kind: busy | wait | bad | stopped | note, text}; no text where the text of the answer says it all. */
export function describe(message, now = Date.now()) {
  const { status, content, error } = message;
  if (status === "queued") return { kind: "busy", text: "Waiting for its turn" };
  if (status === "waiting") return { kind: "wait", text: "Waiting for a tool" };
  if (status === "retrying") return { kind: "wait", text: retrying(message, now) };
  if (status === "streaming")
    return content ? { kind: "busy", text: "" } : { kind: "busy", text: "Thinking" };
  if (status === "error") return { kind: "bad", text: error?.error || "The answer failed." };
  if (status === "cancelled") return { kind: "stopped", text: STOPS[message.by] ?? "Stopped." };
  if (FINISHES[message.finish_reason])
    return { kind: "note", text: FINISHES[message.finish_reason] };
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
  return [
    model,
    tokens > 0 && `${usage.estimated ? "about " : ""}${tokens.toLocaleString("en")} tokens`,
  ]
    .filter(Boolean)
    .join(" · ");
}
