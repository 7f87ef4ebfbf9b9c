/**
 * The question about a tool call that waits for a person: what may be answered, and the buttons and
 * fields for it. Whose question it is, the server decides: a refusal is shown as it says it.
 */

import { announce, make } from "./dom.js";
import { laidOut } from "./verbatim.js";

/** By the state of a call: the question, and its answers. A `field` is filled in first. */
const QUESTIONS = {
  __proto__: null,
  awaiting_approval: {
    text: "May this tool run?",
    answers: [
      { word: "Approve", decision: "approve" },
      { word: "Edit", decision: "approve", field: "arguments", label: "Arguments (JSON)" },
      { word: "Deny", decision: "deny", field: "reason", label: "Reason (optional)" },
    ],
  },
  awaiting_outcome: {
    text: "Nobody knows whether this took effect. How shall the answer go on?",
    answers: [
      { word: "Run again", decision: "repeat" },
      { word: "Enter its result", decision: "result", field: "result", label: "Result" },
      { word: "Go on without", decision: "go_on" },
    ],
  },
};

/**
 * What is written in a field, as the decision has it. Throws an Error for people. Arguments stay a
 * text: parsed and written again, numbers beyond 2^53 would be others than those on the screen.
 */
export function valueOf(field, text) {
  if (field === "reason") return text.trim() || undefined;
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    value = text;
  }
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  if (field !== "arguments") return value;
  if (!isObject) throw new Error("Arguments are a JSON object.");
  return text;
}

let questions = 0;

/** Inside the call: hidden while nothing is asked. `decide(decision)` sends an answer. */
export class Question {
  #state = null;
  #words = make("p");
  #until = make("p", { class: "until" });
  #extent = make("p", { class: "extent", id: `extent-${++questions}`, hidden: true });
  #answers = make("div", { class: "answers" });
  #field = make("div", { class: "field", hidden: true });
  #failure = make("p", { class: "failure", role: "alert" });
  element = make(
    "div",
    { class: "question", role: "group", hidden: true, "aria-describedby": this.#extent.id },
    this.#words,
    this.#until,
    this.#extent,
    this.#answers,
    this.#field,
    this.#failure,
  );

  constructor(decide) {
    this.decide = decide;
  }

  /** What a person has begun to write stays while the same is asked. */
  draw({ name, state, input, expires_at: until }) {
    const asked = QUESTIONS[state];
    if (this.#state === (asked ? state : null)) return;
    this.#state = asked ? state : null;
    this.element.hidden = !asked;
    this.#close();
    if (!asked) return this.#answers.replaceChildren();
    this.element.setAttribute("aria-label", `Decide about ${name}`);
    this.#words.textContent = asked.text;
    this.#until.textContent = until
      ? `It waits until ${timeOf(until)}, or until a new message.`
      : "";
    this.#answers.replaceChildren(
      ...asked.answers.map((answer) =>
        button(answer.word, () => (answer.field ? this.#open(answer, input) : this.#send(answer))),
      ),
    );
    announce(`${name}: ${asked.text}`);
  }

  /** Say that the input is longer than its box: it has so many characters. 0: it is in view. */
  warn(length) {
    const count = length.toLocaleString("en");
    this.#extent.hidden = !length;
    this.#extent.textContent = length
      ? `The input has ${count} characters: scroll to read all.`
      : "";
  }

  #open(answer, input) {
    const area = make("textarea", { rows: "3", "aria-label": answer.label });
    area.value = answer.field === "arguments" ? laidOut(input) : "";
    const word = answer.decision === "approve" ? "Approve" : answer.word;
    const send = button(word, () => this.#send(answer, area.value));
    this.#failure.textContent = "";
    // Two buttons of one name would stand there: the upper one would drop what is written.
    this.#answers.hidden = true;
    this.#field.hidden = false;
    this.#field.replaceChildren(
      make("p", {}, answer.label),
      area,
      make(
        "div",
        { class: "answers" },
        send,
        button("Back", () => this.#close()),
      ),
    );
    area.focus();
  }

  #close() {
    this.#answers.hidden = false;
    this.#field.hidden = true;
    this.#field.replaceChildren();
    this.#failure.textContent = "";
  }

  async #send({ decision, field }, text) {
    this.#failure.textContent = "";
    this.#enable(false);
    try {
      const value = field && valueOf(field, text);
      await this.decide({ decision, ...(value !== undefined && { [field]: value }) });
    } catch (error) {
      this.#failure.textContent = error.message;
      this.#enable(true);
    }
  }

  #enable(on) {
    for (const each of this.element.querySelectorAll("button")) each.disabled = !on;
  }
}

function timeOf(iso) {
  return new Date(iso).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

function button(word, onclick) {
  return make("button", { type: "button", class: "choice", onclick }, word);
}
