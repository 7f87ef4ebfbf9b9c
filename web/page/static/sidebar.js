/**
 * The list of conversations, read from the API and kept up by the feed, and on narrow screens the
 * drawer that it lives in.
 */

import { api } from "./api.js";
import { byId, keep, make, recall } from "./dom.js";

const NAMES_MAX = 200;
const WIDE = matchMedia("(min-width: 860px)");

export class Sidebar {
  #shown = []; // last changed first; rows of the API, or of the feed with `running`
  #next = null;
  #current = null;
  #changes = 0; // of the list, by the feed and by the page: what was read before one is stale
  #gone = new Set(); // ids: a page that was read before they were deleted still has them
  #live = false; // the feed has told of all conversations, and tells of each change
  #names = new Map(recall("names")); // first words of conversations that have no title yet

  constructor() {
    this.element = byId("sidebar");
    this.menu = byId("menu");
    this.scrim = byId("scrim");
    this.menu.addEventListener("click", () => this.open(true));
    this.scrim.addEventListener("click", () => this.open(false));
    this.element.addEventListener(
      "keydown",
      ({ key }) => key === "Escape" && !WIDE.matches && (this.open(false), this.menu.focus()),
    );
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

  /**
   * Read the newest conversations again; what was paged in beyond them stays. A list that changed
   * meanwhile is newer than what was read: it stays if the feed keeps it, else it is read again.
   */
  async refresh() {
    let before, page;
    do {
      before = this.#changes;
      page = await api.conversations();
    } while (before !== this.#changes && !this.#live);
    if (before === this.#changes) this.#take(page);
    else this.#next ??= page.next ?? null;
    this.#draw();
  }

  #take({ conversations, next }) {
    const known = new Map(this.#shown.map((held) => [held.id, held]));
    const older =
      this.#next === null
        ? []
        : this.#shown
            .slice(conversations.length)
            .filter(({ id }) => !conversations.some((read) => read.id === id));
    this.#shown = [
      ...conversations.map((read) => {
        const { running, status } = known.get(read.id) ?? {};
        return { running, status, ...read };
      }),
      ...older,
    ];
    if (!older.length) this.#next = next ?? null;
  }

  /** Take an event of the feed. */
  hear(event) {
    const { type, conversation_id: id, conversation, conversations } = event;
    this.#changes++;
    if (type === "snapshot") this.#replace(conversations);
    if (type === "created") this.#add(conversation);
    if (type === "deleted" || type === "archived") this.#remove(id);
    const held = this.#shown.find((one) => one.id === id);
    if (held && type === "titled" && event.rev >= held.rev)
      Object.assign(held, { title: event.title, rev: event.rev });
    if (held && ["running", "waiting", "ended"].includes(type)) {
      const { status = type, updated_at } = event;
      Object.assign(held, { running: type !== "ended", status, updated_at });
    }
    this.#shown.sort(
      (one, other) => (one.updated_at < other.updated_at) - (one.updated_at > other.updated_at),
    );
    this.#draw();
  }

  /** The feed is away: what it said last of running answers is not known to be true any more. */
  forget() {
    this.#live = false;
    for (const held of this.#shown) held.running = false;
    this.#draw();
  }

  /** The newest are these; what is older than they are is not told of, and stays. */
  #replace(newest) {
    this.#live = true;
    const oldest = newest.at(-1)?.updated_at;
    const named = new Set(newest.map(({ id }) => id));
    this.#shown = [
      ...newest,
      ...this.#shown.filter((held) => !named.has(held.id) && held.updated_at < oldest),
    ];
  }

  #add(conversation) {
    this.#remove(conversation.id);
    this.#gone.delete(conversation.id);
    this.#shown.unshift(conversation);
  }

  #remove(id) {
    this.#gone.add(id);
    this.#shown = this.#shown.filter((held) => held.id !== id);
  }

  /** Read one more page of older ones. */
  async more() {
    const { conversations, next } = await api.conversations(this.#next);
    const known = new Set([...this.#gone, ...this.#shown.map(({ id }) => id)]);
    this.#shown.push(...conversations.filter(({ id }) => !known.has(id)));
    this.#next = next ?? null;
    this.#draw();
  }

  /**
   * This conversation is open; `title` is its own, `words` what the page calls it as long as it has
   * none.
   */
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
    this.#changes++;
    this.#remove(id);
    this.#draw();
  }

  #draw() {
    byId("more").hidden = this.#next === null;
    byId("none").hidden = this.#shown.length > 0;
    const list = byId("conversations");
    this.#shown.forEach((conversation, n) => this.#entry(list, n, conversation));
    while (list.children.length > this.#shown.length) list.lastElementChild.remove();
  }

  #entry(list, n, { id, title, running, status }) {
    const link =
      list.children[n]?.firstElementChild ??
      list.appendChild(make("li", {}, make("a", { dir: "auto" }))).firstChild;
    const text = title || this.#names.get(id) || "New conversation";
    if (link.textContent !== text) link.textContent = text;
    link.href = `#/c/${encodeURIComponent(id)}`;
    link.title = text;
    link.toggleAttribute("data-running", Boolean(running));
    link.toggleAttribute("data-waiting", Boolean(running) && status === "waiting");
    const state = status === "waiting" ? "is-waiting" : "is-running";
    if (running) link.setAttribute("aria-describedby", state);
    else link.removeAttribute("aria-describedby");
    if (id === this.#current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}
