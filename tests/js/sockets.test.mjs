/**
 * tokenwire.js in Node over real sockets and real time: a server of the package `ws` that cuts,
 * drops, refuses tokens and loses its log.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import WebSocket, { WebSocketServer } from "ws";

import { Subscription } from "../../web/page/static/tokenwire.js";
import { piece } from "./events.mjs";
import { Conversation, answer, dice } from "./hostile.mjs";

/**
 * A server on a free port of loopback. `mischief(socket, event, n)` may do something instead of the
 * delivery of the n-th event.
 */
async function serving(conversation, mischief, use) {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  await new Promise((resolve) => server.once("listening", resolve));
  let delivered = 0;
  const tokens = [];
  server.on("connection", (socket) => {
    const say = (frame) => socket.send(JSON.stringify(frame));
    const reader = {
      deliver: (event) => mischief(socket, event, ++delivered) || say(event),
      frame: say,
      cut: (code) => socket.close(code),
    };
    socket.on("message", (data) => {
      const { type, token, after } = JSON.parse(data);
      tokens.push(token);
      if (token === "stale") return socket.close(4401);
      if (type === "refresh") return say({ type: "refreshed", expires_in: 600 });
      const [epoch, seq] = after.split(":");
      say({
        type: "subscribed",
        epoch: conversation.epoch,
        seq: conversation.events.length,
        heartbeat_seconds: 30,
        version: 1,
      });
      if (epoch !== conversation.epoch)
        return (say({ type: "resync", reason: "epoch" }), socket.close(4410));
      conversation.sockets.add(reader);
      for (const event of conversation.events.slice(Number(seq))) reader.deliver(event);
      say({ type: "live", epoch: conversation.epoch, seq: conversation.events.length });
      const beat = setInterval(
        () =>
          say({ type: "heartbeat", epoch: conversation.epoch, seq: conversation.events.length }),
        100,
      );
      socket.on("close", () => (clearInterval(beat), conversation.sockets.delete(reader)));
    });
  });
  try {
    await use(`ws://127.0.0.1:${server.address().port}/`, tokens);
  } finally {
    for (const socket of server.clients) socket.terminate();
    await new Promise((resolve) => server.close(resolve));
  }
}

async function write(conversation, events) {
  for (const event of events) {
    conversation.append(event);
    await new Promise((resolve) => setTimeout(resolve, 4));
  }
}

const quick = () => 0.05; // short waits

test(
  "sockets that are cut, and events that are lost, cost nothing in the end",
  { timeout: 30_000 },
  async () => {
    const conversation = new Conversation();
    conversation.row({ id: "m1" });
    const { events, content } = answer("m1", dice(5));
    const mischief = (socket, _event, n) =>
      n % 17 === 0 ? (socket.terminate(), true) : n % 13 === 0;
    await serving(conversation, mischief, async (url) => {
      const grant = async () => ({ url, token: "t", expires_in: 600 });
      const watch = new Subscription({ load: conversation.load, grant, WebSocket, random: quick });
      while (watch.state.name !== "live") await new Promise((resolve) => setTimeout(resolve, 5));
      const writing = write(conversation, events);
      const seen = [];
      for await (const { event } of watch) {
        if (event) seen.push(event.seq);
        if (event?.type === "complete") watch.close();
      }
      await writing;
      assert.deepEqual(
        seen,
        events.map((_, n) => n + 1),
      );
      assert.equal(watch.messages[0].content, content);
      assert.equal(watch.messages[0].proven, true);
      assert.equal(conversation.loads, 1);
    });
  },
);

test(
  "an expired token is replaced, an expiring one renewed in place, a lost log read again",
  { timeout: 30_000 },
  async () => {
    const conversation = new Conversation();
    const row = conversation.row({ id: "m1" });
    await serving(
      conversation,
      () => false,
      async (url, tokens) => {
        const given = [
          { token: "stale", expires_in: 600 },
          { token: "short", expires_in: 30.5 },
          { token: "long", expires_in: 600 },
        ];
        const grant = async () => ({
          url,
          ...(given.shift() ?? { token: "more", expires_in: 600 }),
        });
        const states = [];
        const watch = new Subscription({
          load: conversation.load,
          grant,
          WebSocket,
          random: quick,
          onstate: ({ name, code }) => states.push(code ? `${name} ${code}` : name),
        });
        while (tokens.length < 3) await new Promise((resolve) => setTimeout(resolve, 20));
        assert.deepEqual(tokens, ["stale", "short", "long"]);
        assert.deepEqual(
          states,
          ["reconnecting 4401", "replaying", "live"],
          "the renewal was not seen",
        );
        conversation.append(piece(0, "Hello"));
        while (watch.messages[0].content !== "Hello")
          await new Promise((resolve) => setTimeout(resolve, 5));
        conversation.checkpoint(row, "Hello");
        conversation.newEpoch();
        conversation.append(piece(5, " again", { attempt: 2 }));
        row.seq = 0;
        conversation.floor = 0;
        while (watch.messages[0].content !== "Hello again")
          await new Promise((resolve) => setTimeout(resolve, 5));
        assert.equal(conversation.loads, 2);
        watch.close();
      },
    );
  },
);

test("a closed subscription lets Node end", { timeout: 30_000 }, async () => {
  const conversation = new Conversation();
  await serving(
    conversation,
    () => false,
    async (url) => {
      const watch = new Subscription({
        load: conversation.load,
        grant: async () => ({ url, token: "t", expires_in: 600 }),
        WebSocket,
      });
      while (watch.state.name !== "live") await new Promise((resolve) => setTimeout(resolve, 5));
      watch.close();
      while (conversation.sockets.size) await new Promise((resolve) => setTimeout(resolve, 5));
      assert.equal(process.getActiveResourcesInfo().filter((name) => name === "Timeout").length, 0);
    },
  );
});
