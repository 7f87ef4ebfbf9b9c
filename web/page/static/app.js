/**
 * The chat page: which conversation is open, what is sent, and who is told. The parts that draw are
 * messages.js, sidebar.js, composer.js and link.js; what follows the log is tokenwire.js, what
 * follows all conversations feed.js.
 */

import { api, newKey } from "./api.js";
import { Composer } from "./composer.js";
import { announce, byId, keep, make, recall } from "./dom.js";
import { Feed } from "./feed.js";
import { Link } from "./link.js";
import { MessageList } from "./messages.js";
import { Sidebar } from "./sidebar.js";
import { hasEnded, subscribe } from "./tokenwire.js";

const DEMO_IDEAS = [
  ["Watch an answer stream", "What happens to your answer when I close this tab?"],
  ["A provider that is busy", "!rate_limit Answer me, although you are busy at first."],
  ["A connection that breaks", "!cut Break off in the middle of your answer, and go on."],
  ["A model that reasons", "!think Think first, then answer."],
];
const NEW = "New conversation";
// Events that change one answer and nothing else.
const OF_PARTS = new Set(["chunk", "reasoning", "tool_input", "part"]);

/**
 * A conversation on screen: `watch` follows it, `posts` are on their way to it. A new one has no id
 * until its first post.
 */
let here = { id: null, watch: null, posts: [], stopping: false, sending: Promise.resolve() };
let me = recall("me"); // as it was last time, until the server says it: nothing changes sides then
let models = [];

const sidebar = new Sidebar();
const composer = new Composer({ onsend: send, onstop: stop, onmodel: choose });
const list = new MessageList({
  list: byId("messages"),
  scroll: byId("scroll"),
  latest: byId("latest"),
  people: () => ({
    me,
    several:
      me !== null && rows().some((row) => row.role === "user" && row.user_id && row.user_id !== me),
  }),
  onagain: again,
  ondecide: ({ id }, number, decision) => here.watch.decide(id, number, decision),
});
const link = new Link({ element: byId("link"), onhurry: () => here.watch?.wake() });
const feed = new Feed({
  onevent: (event) => sidebar.hear(event),
  onstate: () => feed.live || (sidebar.forget(), refresh()),
});

const rows = () => here.watch?.messages ?? [];
const named = () => here.watch?.transcript.conversation;

/** The id in the address, null for a new conversation. */
function address() {
  return /^#\/c\/([0-9A-Za-z_-]{1,64})$/.exec(location.hash)?.[1] ?? null;
}

function open(id) {
  here.watch?.close();
  here = { id, watch: null, posts: [], stopping: false, sending: Promise.resolve() };
  list.clear();
  tell(null);
  composer.enter(id);
  if (id) follow(here);
  else composer.choose(preferred());
  show();
  link.show({ name: id ? "connecting" : "none" });
  if (matchMedia("(pointer: fine)").matches) composer.focus();
}

function follow(place) {
  place.watch = subscribe(place.id, {
    onchange: (message, event) => place === here && changed(message, event),
    onstate: (state) => place === here && linked(state),
  });
}

function changed(message, event) {
  const brings = event?.value?.message_ids;
  if (OF_PARTS.has(event?.type) && !brings && list.holds(message)) return list.touch(message);
  show();
  if (message && hasEnded(message) && message.role === "assistant") refresh();
  if (event?.type === "start" && event.attempt === 1) announce("Answering");
  if (brings) announce("The answer has read the new message");
  if (event?.type === "message" && here.watch.state.name === "live") heard(message);
}

/** A new message of somebody else is said; one that was shown before is no news. */
function heard(message) {
  if (message?.role === "user" && me && message.user_id && message.user_id !== me)
    announce(`New message from ${message.user_id}`);
}

/** Draw everything but text that streams. */
function show() {
  const posts = here.posts.filter((post) => !arrived(post));
  list.sync([...rows().filter(({ by }) => by !== "steered"), ...posts]);
  byId("welcome").hidden = Boolean(here.id) || posts.length > 0;
  byId("earlier").hidden = !here.watch?.transcript.next;
  byId("tools").hidden = !named();
  const running = Boolean(here.watch?.transcript.running);
  if (!running) here.stopping = false;
  composer.busy({ running, stopping: here.stopping });
  showTitle();
}

function showTitle() {
  const title = here.id ? named()?.title || firstWords() || NEW : NEW;
  if (byId("title").textContent !== title) byId("title").textContent = title;
  document.title = title !== NEW ? `${title} · Tokenwire` : "Tokenwire";
  const model = named()?.model ?? models.default;
  if (here.id && named() && here.model !== model) composer.choose((here.model = model));
  sidebar.mark(here.id, named()?.title, firstWords());
}

function firstWords() {
  const text =
    rows()
      .find((row) => row.role === "user")
      ?.content.trim()
      .split("\n")[0] ?? "";
  return text.length > 60 ? `${text.slice(0, 57).trimEnd()}…` : text;
}

/** Whether the log told of this post before its answer came. */
const arrived = (post) =>
  rows().some(
    (row) => row.role === "user" && row.content === post.content && !post.before.has(row.id),
  );

function linked(state) {
  link.show(state);
  if (state.name === "live") {
    if (here.lost) announce("Connected again");
    here.lost = false;
    for (const post of here.posts) if (post.passing) deliver(here, post);
  }
  if (state.name === "reconnecting" && state.delay_ms > 2000 && !here.lost) {
    here.lost = true; // the first waits are mostly over before anybody has noticed
    announce("Connection lost. Reconnecting.");
  }
  if (state.name === "stopped") gone(state.code);
}

function gone(code) {
  const retry = () => open(here.id);
  if (code === 404 || code === 4404)
    tell("This conversation does not exist any more, or is not yours.");
  else if (code === 401) askToSignIn();
  else tell("This page may not follow the conversation any longer.", retry);
}

/** One line about what went wrong, and what may be done about it again; null takes it away. */
function tell(text, retry = null) {
  byId("notice").hidden = !text;
  byId("notice-text").textContent = text ?? "";
  byId("notice-again").hidden = !retry;
  byId("notice-again").onclick = () => (tell(null), retry());
  if (text) announce(text);
}

/**
 * A visitor without a login is told what to do. The page is then loaded again, since everything on
 * it was refused.
 */
function askToSignIn() {
  tell(`Please sign in to ${address() ? "read this conversation" : "start a conversation"}.`, () =>
    location.reload(),
  );
}

/**
 * Run something that may fail; what failed is said, and offered again if that may help. -> whether
 * it worked
 */
async function attempt(act) {
  try {
    await act();
    return true;
  } catch (error) {
    if (error.status === 401) askToSignIn();
    else tell(error.message, error.passing ? () => attempt(act) : null);
    if (error.status === undefined) throw error; // a mistake of ours belongs in the console too
    return false;
  }
}

function send(content) {
  const place = here;
  const key = newKey();
  const post = {
    id: `post-${key}`,
    key,
    role: "user",
    content,
    pending: true,
    before: new Set(rows().map((row) => row.id)),
  };
  post.again = () => deliver(place, post);
  post.discard = () => discard(place, post);
  place.posts.push(post);
  tell(null);
  show();
  list.follow();
  deliver(place, post);
}

/**
 * Posts of one conversation leave one after the other; each carries its key, so that a repeat is
 * not a second post.
 */
function deliver(place, post) {
  Object.assign(post, { failure: null, passing: false });
  place.sending = place.sending.then(() => deliverNow(place, post));
  if (place === here) show();
}

async function deliverNow(place, post) {
  if (!place.posts.includes(post)) return;
  try {
    if (!place.id) await begin(place, post);
    const answer = await api.post(place.id, post.content, post.key);
    place.posts.splice(place.posts.indexOf(post), 1);
    place.watch?.admit([answer.user_message, answer.assistant_message]);
    refresh();
  } catch (error) {
    Object.assign(post, { failure: error.message, passing: error.passing ?? false });
    refused(place, post);
  }
  if (place === here) show();
}

/**
 * A post that did not arrive. What would be refused again goes back to the composer, so that its
 * words can be changed.
 */
function refused(place, post) {
  if (place === here && (post.passing || composer.prompt.value))
    return announce(`Not sent. ${post.failure}`);
  discard(place, post);
  if (place === here) tell(`Not sent. ${post.failure}`);
}

/** A new conversation begins with its first post. */
async function begin(place, post) {
  const conversation = await api.create(
    { model: composer.model.value || undefined },
    `${post.key}-c`,
  );
  const { id } = conversation;
  place.id = id;
  sidebar.hear({ type: "created", conversation });
  if (place !== here) return;
  history.replaceState(null, "", `#/c/${id}`);
  composer.rename(id);
  link.show({ name: "connecting" });
  follow(place);
}

function discard(place, post) {
  place.posts.splice(place.posts.indexOf(post), 1);
  composer.giveBack(place.id, post.content);
  if (place !== here) return;
  show();
  composer.focus();
}

/** Have an answer made again; the new one takes its place when it is there. */
async function again(message) {
  const place = here;
  if (place.again) return;
  place.again = true;
  const key = newKey();
  await attempt(async () => {
    const made = await api.regenerate(message.id, key);
    place.watch.admit([made.user_message, made.assistant_message]);
    if (place === here) (composer.focus(), list.follow());
  });
  place.again = false;
}

async function stop() {
  const place = here;
  if (place.stopping) return;
  place.stopping = true;
  show();
  const asked = await attempt(() => api.cancel(place.id));
  if (asked || place !== here) return;
  place.stopping = false;
  show();
}

function preferred() {
  const kept = recall("model");
  return models.some(({ name }) => name === kept) ? kept : models.default;
}

async function choose(model) {
  keep("model", model);
  if (!here.id) return;
  const place = here;
  const kept = await attempt(async () => adopt(place, await api.change(place.id, { model })));
  if (!kept) composer.choose(named()?.model);
}

/** The server's view of a changed conversation. */
function adopt(place, changedTo) {
  if (place.watch?.transcript.conversation)
    Object.assign(place.watch.transcript.conversation, changedTo);
  if (place === here) show();
}

async function rename() {
  byId("rename-title").value = named()?.title || firstWords();
  if (!(await confirmed("rename-dialog"))) return;
  const title = byId("rename-title").value.trim();
  const place = here;
  if (title) await attempt(async () => adopt(place, await api.change(place.id, { title })));
}

async function remove() {
  if (!(await confirmed("delete-dialog"))) return;
  const { id, watch } = here;
  const done = await attempt(async () => (await api.remove(id), watch.close()));
  if (!done) return;
  sidebar.drop(id);
  composer.forget(id);
  location.hash = "#/";
  announce("Conversation deleted");
}

/** Open a dialog; whether it was confirmed. */
function confirmed(id) {
  const dialog = byId(id);
  dialog.returnValue = "";
  dialog.querySelector(".cancel").onclick = () => dialog.close();
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true }),
  );
}

async function earlier() {
  const { watch, id } = here;
  const page = await api.earlier(id, watch.transcript.next);
  watch.transcript.prepend(page);
  if (watch === here.watch) list.holdStill(show);
}

let refreshing = 0;
/**
 * Where the feed does not tell of conversations: read their list again, soon and once however often
 * it is asked for.
 */
function refresh() {
  if (feed.live || document.hidden) return;
  clearTimeout(refreshing);
  refreshing = setTimeout(() => feed.live || sidebar.refresh().then(showTitle, () => {}), 250);
}

function start() {
  addEventListener("hashchange", () => address() !== here.id && open(address()));
  addEventListener("online", () => here.watch?.wake());
  addEventListener("offline", () => here.watch && link.show(here.watch.state));
  document.addEventListener(
    "visibilitychange",
    () => document.hidden || (here.watch?.wake(), refresh()),
  );
  byId("rename").addEventListener("click", rename);
  byId("delete").addEventListener("click", remove);
  byId("earlier").addEventListener("click", () => attempt(earlier));
  byId("more").addEventListener("click", () => attempt(() => sidebar.more()));
  byId("notice-close").addEventListener("click", () => (tell(null), composer.focus()));
  byId("skip").addEventListener("click", () => composer.focus());
  byId("new").addEventListener(
    "click",
    (event) => here.id || (event.preventDefault(), composer.focus()),
  );
  open(address());
  attempt(introduce);
  attempt(() => sidebar.refresh());
  attempt(offerModels);
}

async function introduce() {
  me = (await api.me()).user_id;
  keep("me", me);
  show();
}

async function offerModels() {
  const answer = await api.models();
  models = Object.assign(answer.models, { default: answer.default });
  composer.offer(models, named()?.model ?? preferred());
  if (models.some(({ name }) => name === "demo"))
    byId("ideas").replaceChildren(...DEMO_IDEAS.map(idea));
}

function idea([title, text]) {
  const act = () => {
    composer.choose("demo");
    send(text);
  };
  return make(
    "li",
    {},
    make(
      "button",
      { type: "button", onclick: act },
      make("strong", {}, title),
      make("span", {}, text),
    ),
  );
}

start();
