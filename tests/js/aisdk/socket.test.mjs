// `Chat` of ai 7 over `WebSocketChatTransport`, unchanged, against a running Tokenwire.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { WebSocketChatTransport } from "ai7";
import * as ai7 from "ai7";
import { WebSocket } from "undici";
import {
  BASE,
  TOO_LATE,
  assertAsStored,
  growing,
  inMidAnswer,
  isWhole,
  lastText,
  newChat,
  newId,
  stop,
  stored,
  storedMessages,
  textOf,
  until,
} from "./rig.mjs";

const URL_ = `${BASE.replace("http", "ws")}/api/chat/ws`;
const transport = (webSocket = WebSocket) =>
  new WebSocketChatTransport({ url: URL_, params: { profile: "v7" }, webSocket });
const chatOver = (wire, options) => newChat(ai7, "v7", { transport: wire, ...options });

/** One frame sent by hand; what comes back until an end, an error or a close. */
function ask(frame, { headers } = {}) {
  return new Promise((resolve) => {
    const socket = new WebSocket(URL_, { headers });
    const frames = [];
    socket.onopen = () => socket.send(typeof frame === "string" ? frame : JSON.stringify(frame));
    socket.onclose = ({ code }) => resolve({ frames, code });
    socket.onerror = () => resolve({ frames, refused: true });
    socket.onmessage = ({ data }) => {
      frames.push(JSON.parse(data));
      if (["end", "error", "no-active"].includes(frames.at(-1).type)) socket.close();
    };
  });
}

describe("Chat over WebSocket", { concurrency: 4 }, () => {
  test("complete, a second turn, several chats on one socket", async () => {
    let opened = 0;
    const wire = transport(
      class extends WebSocket {
        constructor(...address) {
          super(...address);
          opened++;
        }
      },
    );
    const chats = [chatOver(wire), chatOver(wire), chatOver(wire)];
    await Promise.all(chats.map((chat) => chat.sendMessage({ text: "!short !think one" })));
    await Promise.all(chats.map((chat) => chat.sendMessage({ text: "!short two" })));
    for (const chat of chats) {
      assert.equal(chat.status, "ready", String(chat.error));
      assert.equal(chat.messages.length, 4);
      await assertAsStored(chat);
    }
    assert.equal(opened, 1);
    wire.close();
  });

  test("resume after a reload in mid-stream", () =>
    inMidAnswer(async (options) => {
      const [one, two] = [transport(), transport()];
      const first = chatOver(one, { onError: () => {} });
      const sending = first.sendMessage({ text: "tell me" }, options);
      await growing(first);
      one.close();
      await sending;
      const second = chatOver(two, { id: first.id, messages: await stored(first.id) });
      await second.resumeStream();
      two.close();
      assert.equal(second.status, "ready", String(second.error));
      if (second.messages.length === 1 && (await isWhole(first.id))) return TOO_LATE;
      await assertAsStored(second);
    }));

  test("resume in the page after the socket was cut", async () => {
    const wire = transport();
    const chat = chatOver(wire, { onError: () => {} });
    const sending = chat.sendMessage({ text: "tell me" });
    await growing(chat);
    wire.connection.socket.close();
    await sending;
    assert.equal(chat.status, "error");
    await chat.resumeStream();
    assert.equal(chat.status, "ready", String(chat.error));
    await assertAsStored(chat);
    wire.close();
  });

  test("nothing to resume", async () => {
    const wire = transport();
    const chat = chatOver(wire);
    await chat.resumeStream();
    assert.deepEqual([chat.status, chat.messages], ["ready", []]);
    wire.close();
  });

  test("the client's stop is a disconnect, the server's ends it", async () => {
    const wire = transport();
    const chat = chatOver(wire);
    let sending = chat.sendMessage({ text: "tell me" });
    await growing(chat);
    await chat.stop();
    await sending;
    const [, answer] = await storedMessages(chat.id, 2);
    assert.equal(answer.metadata.status, "complete");
    assert.ok(textOf(answer).length > lastText(chat).length);
    sending = chat.sendMessage({ text: "tell me more" });
    await until(() => chat.messages.length === 4, "the second answer");
    await growing(chat);
    await stop(chat.id);
    await sending;
    assert.equal(chat.status, "ready", String(chat.error));
    assert.equal((await storedMessages(chat.id, 4))[3].metadata.status, "cancelled");
    wire.close();
  });

  test("what is no request is refused and the others live on", async () => {
    const id = newId();
    const send = {
      type: "send",
      requestId: "1",
      id,
      trigger: "submit-message",
      headers: {},
      body: {},
      messages: [],
    };
    assert.match((await ask(send)).frames.at(-1).errorText, /no message/);
    assert.equal((await ask("{")).code, 1008);
    assert.equal((await ask({ type: "dance", requestId: "1" })).code, 1008);
    assert.deepEqual(
      (await ask({ type: "resume", requestId: "1", id, headers: {}, body: {} })).frames,
      [{ type: "no-active", requestId: "1" }],
    );
    const messages = [{ id: "m", role: "user", parts: [{ type: "text", text: "!short" }] }];
    const foreign = await ask(
      { ...send, messages },
      { headers: { origin: "https://elsewhere.example" } },
    );
    // Refused before the socket is accepted; a browser does not say why.
    assert.equal(foreign.refused, true);
    assert.deepEqual(await stored(id), []);
  });
});
