/**
 * Posts a message to the Tokenwire at argv[2] and follows its answer with tokenwire.js, as a
 * program on a server would. Says "growing" on a line of its own when text has come, and in the
 * end, as JSON, what it holds and what it went through.
 */

import { subscribe } from "../../web/page/static/tokenwire.js";

const base = process.argv[2];
const WebSocket = globalThis.WebSocket ?? (await import("ws")).WebSocket;

async function post(path, body) {
  const answer = await fetch(base + path, { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

const { id } = await post("/api/conversations", {});
const states = [];
const watch = subscribe(id, { base, WebSocket, onstate: ({ name }) => states.push(name) });
const posted = await post(`/api/conversations/${id}/messages`, { content: "Tell me." });
watch.admit([posted.user_message, posted.assistant_message]);

let last = 0;
let told = false;
for await (const { message, event } of watch) {
  if (event && event.seq <= last) throw new Error(`event ${event.seq} after ${last}`);
  last = event?.seq ?? last;
  if (!told && message?.content.length > 200) console.log((told = "growing"));
  if (["complete", "error", "cancelled"].includes(event?.type)) watch.close();
}
const { content, status, proven } = watch.transcript.get(posted.assistant_message.id);
console.log(JSON.stringify({ id, content, status, proven, states }));
