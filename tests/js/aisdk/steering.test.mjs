// `while_running` with `Chat` of every release against a running Tokenwire (TOKENWIRE_URL), whose
// tool `nap` rests until there is a file of this name beside the file RUNS.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { WebSocketChatTransport } from "ai7";
import { WebSocket } from "undici";
import {
  BASE,
  RELEASES,
  assertAsStored,
  newChat,
  newId,
  sleep,
  stored,
  textOf,
  until,
} from "./rig.mjs";

const newest = ({ name, profile }) => name === "5.0.100" || profile === "v7";
const tried = process.env.EVERY_RELEASE ? RELEASES : RELEASES.filter(newest);
const suite = (title, run, only = () => true) =>
  describe(title, { concurrency: true }, () => {
    for (const release of tried.filter(only))
      test(`ai ${release.name} as ${release.profile}`, { timeout: 120_000 }, () => run(release));
  });

const wake = (chat) => writeFileSync(join(dirname(process.env.RUNS), chat.alarm), "");
const HURRY = { text: "!short Hurry" };
const policy = (while_running) => ({ body: { while_running } });
const naps = (chat) =>
  until(
    () => chat.messages.at(-1)?.parts.some((part) => part.type === "tool-nap" && part.input),
    "the tool runs",
  );

/** Starts an answer, and gives its request once its tool runs. */
async function begun(chat) {
  chat.alarm = `alarm-${Math.random().toString(36).slice(2)}`;
  const sending = chat.sendMessage({ text: `!tool nap {"until": "${chat.alarm}"}` });
  await naps(chat);
  return { sending };
}

/** Sends the second message; the tool ends when it is stored. */
async function hurries(chat, while_running) {
  const sending = chat.sendMessage(HURRY, policy(while_running));
  const users = async () => (await stored(chat.id)).filter(({ role }) => role === "user");
  while ((await users()).length < 2) await sleep(50);
  wake(chat);
  await sending;
}

/** The oldest releases show an answer that comes again once more, behind all others: a page keeps
 * the last one. */
const shownOnce = (messages) =>
  messages.filter(({ id }, index) => messages.findLastIndex((one) => one.id === id) === index);

/** One answer, steered by the second message. */
async function assertSteered(chat, { name }) {
  assert.equal(chat.status, "ready", String(chat.error));
  if (name === "5.0.100") {
    const [one, two, answer] = (chat.messages = shownOnce(chat.messages));
    chat.messages = [one, answer, two]; // as a reload shows them
  }
  await assertAsStored(chat);
  const [, answer] = chat.messages;
  assert.deepEqual(
    chat.messages.map((message) => message.role),
    ["user", "assistant", "user"],
  );
  assert.equal(answer.metadata.status, "complete");
  const types = answer.parts.map((part) => part.type);
  assert.deepEqual(types, ["step-start", "tool-nap", "step-start", "text"]);
  assert.equal(answer.parts[1].state, "output-available");
}

describe("Posts while an answer runs", { concurrency: 4 }, () => {
  suite("steer, after the page has left the first stream", async (release) => {
    const chat = newChat(release.ai, release.profile);
    const { sending } = await begun(chat);
    await chat.stop();
    await sending;
    await hurries(chat, "steer");
    await assertSteered(chat, release);
  });

  suite(
    "steer, with both streams open",
    async (release) => {
      const chat = newChat(release.ai, release.profile);
      const { sending } = await begun(chat);
      await Promise.all([sending, hurries(chat, "steer")]);
      await assertSteered(chat, release);
    },
    ({ name }) => name !== "5.0.100", // it mixes the messages of two open streams
  );

  suite("steer, where nothing runs", async ({ ai, profile }) => {
    const chat = newChat(ai, profile);
    await chat.sendMessage(HURRY, policy("steer"));
    assert.equal(chat.messages.at(-1).metadata.status, "complete");
    await assertAsStored(chat);
  });

  suite("queue", async ({ ai, profile }) => {
    const chat = newChat(ai, profile);
    const { sending } = await begun(chat);
    await chat.stop();
    await sending;
    await hurries(chat, "queue");
    assert.equal(chat.status, "ready", String(chat.error));
    const [, first, , second] = chat.messages;
    assert.notEqual(second.id, first.id);
    assert.equal(second.metadata.status, "complete");
    assert.deepEqual(
      second.parts.map((part) => part.type),
      ["step-start", "text"],
    );
  });

  suite("reject and cancel_previous", async ({ ai, profile }) => {
    const chat = newChat(ai, profile, { onError: () => {} });
    const { sending } = await begun(chat);
    await chat.stop();
    await sending;
    await chat.sendMessage(HURRY, policy("reject"));
    assert.equal(chat.status, "error");
    assert.match(chat.error.message, /answer_running/);
    await chat.sendMessage(HURRY, policy("interrupt"));
    assert.match(chat.error.message, /invalid/);
    await hurries(chat, "cancel_previous");
    assert.equal(chat.status, "ready", String(chat.error));
    assert.equal(chat.messages.at(-1).metadata.status, "complete");
    assert.ok(textOf(chat.messages.at(-1)));
  });

  test("steer over WebSocket", { timeout: 120_000 }, async () => {
    const [release] = RELEASES.slice(-1);
    const transport = new WebSocketChatTransport({
      url: `${BASE.replace("http", "ws")}/api/chat/ws`,
      params: { profile: "v7" },
      webSocket: WebSocket,
    });
    const chat = newChat(release.ai, "v7", { transport, id: newId() });
    try {
      const { sending } = await begun(chat);
      await Promise.all([sending, hurries(chat, "steer")]);
      await assertSteered(chat, release);
    } finally {
      transport.close(); // an open socket keeps the process alive
    }
  });
});
