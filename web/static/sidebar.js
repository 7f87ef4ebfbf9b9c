/** The list of conversations, and on narrow screens the drawer that it lives in. */

import { api } from "./api.js";
import { byId, keep, make, recall } from "./dom.js";

const NAMES_MAX = 200;
const WIDE = matchMedia("(min-width: 860px)");

export class Sidebar {
  #shown = []; // newest first
  #next = null;
  #current = null;
  #names = new Map(recall("names") ?? []); // first words of conversations that have no title yet

  constructor() {
    this.element = byId("sidebar");
    this.menu = byId("menu");
    this.scrim = byId("scrim");
    this.menu.addEventListener("click", () => this.open(true));
    this.scrim.addEventListener("click", () => this.open(false));
    this.element.addEventListener("keydown", ({ key }) => key === "Escape" && !WIDE.matches && (this.open(false), this.menu.focus()));
    this.element.addEventListener("click", ({ target }) => target.closest("a") && this.open(false));
    WIDE.addEventListener("change", () => this.open(false));
    this.open(false);
  }

  open(wanted) {
    const drawer = !WIDE.matches;
    this.element.classList.toggle("open", drawer && wanted);
    this.element.inert = drawer && !wanted;
    this.scrim.hidden = !(drawer && wanted);
    this.menu.setAttribute("aria-expanded", String(drawer && wanted));
    if (drawer && wanted) byId("new").focus();
  }

  /** Read the newest conversations again; what was paged in beyond them stays. */
  async refresh() {
    const { conversations, next } = await api.conversations();
    const known = new Set(conversations.map(({ id }) => id));
    const older = this.#next === null ? [] : this.#shown.slice(conversations.length).filter(({ id }) => !known.has(id));
    this.#shown = [...conversations, ...older];
    if (!older.length) this.#next = next ?? null;
    this.#draw();
  }

  /** Read one more page of older ones. */
  async more() {
    const { conversations, next } = await api.conversations(this.#next);
    const known = new Set(this.#shown.map(({ id }) => id));
    this.#shown.push(...conversations.filter(({ id }) => !known.has(id)));
    this.#next = next ?? null;
    this.#draw();
  }

  /** This conversation is open; `title` is its own, `words` what the page calls it as long as it has none. */
  mark(id, title, words) {
    this.#current = id;
    const held = this.#shown.find((conversation) => conversation.id === id);
    if (held && title) held.title = title;
    if (id && words && this.#names.get(id) !== words) this.#keep(id, words);
    this.#draw();
  }

  #keep(id, words) {
    this.#names.set(id, words);
    keep("names", [...this.#names].slice(-NAMES_MAX));
  }

  drop(id) {
    this.#shown = this.#shown.filter((conversation) => conversation.id !== id);
    this.#draw();
  }

  #draw() {
    byId("more").hidden = this.#next === null;
    byId("none").hidden = this.#shown.length > 0;
    const list = byId("conversations");
    this.#shown.forEach((conversation, n) => this.#entry(list, n, conversation));
    while (list.children.length > this.#shown.length) list.lastChild.remove();
  }

  #entry(list, n, { id, title }) {
    const link = list.children[n]?.firstChild ?? list.appendChild(make("li", {}, make("a", { dir: "auto" }))).firstChild;
    const text = title || this.#names.get(id) || "New conversation";
    if (link.textContent !== text) link.textContent = text;
    link.href = `#/c/${encodeURIComponent(id)}`;
    link.title = text;
    if (id === this.#current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}
