/**
 * The feed: how the caller's conversations are, live (PROTOCOL.md, section 6), over one
 * EventSource. A page that nobody looks at holds no connection, since browsers open only a few to a
 * server; it begins anew, with all there is, when it is looked at again.
 */

const RETRY_MS = [5_000, 60_000]; // after a refusal, from and up to

export class Feed {
  /** Whether all that happens is told. */
  live = false;
  #source = null;
  #failures = 0;
  #timer = 0;

  /** `onevent(event)`: what the feed says; `onstate()`: `live` has changed. */
  constructor({ onevent, onstate }) {
    Object.assign(this, { onevent, onstate });
    document.addEventListener("visibilitychange", () =>
      document.hidden ? this.#close() : this.#open(),
    );
    addEventListener("online", () => (this.#close(), this.#open()));
    this.#open();
  }

  #open() {
    clearTimeout(this.#timer);
    if (this.#source || document.hidden) return;
    this.#source = new EventSource("/api/feed");
    this.#source.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    this.#source.onerror = () => this.#lost();
  }

  #close() {
    this.#source?.close();
    this.#source = null;
    this.#become(false);
  }

  #hear(event) {
    this.#failures = 0;
    this.onevent(event);
    if (event.type === "snapshot") this.#become(true);
  }

  /** A lost connection is made again by the browser, a refused one is not. */
  #lost() {
    this.#become(false);
    if (this.#source?.readyState !== EventSource.CLOSED) return;
    this.#close();
    const [from, upTo] = RETRY_MS;
    this.#timer = setTimeout(
      () => this.#open(),
      Math.min(from * 2 ** this.#failures++, upTo) * (0.5 + Math.random() / 2),
    );
  }

  #become(live) {
    if (this.live === live) return;
    this.live = live;
    this.onstate();
  }
}
