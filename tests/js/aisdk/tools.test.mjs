// Tools with `Chat` of every release against a running Tokenwire (TOKENWIRE_URL), whose tools write
// a line per run to the file RUNS: `pay` (a person allows it), `add`, and `slow`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { WebSocketChatTransport } from "ai7";
import { WebSocket } from "undici";
import {
  BASE,
  RELEASES,
  chatPath,
  get,
  lastText,
  newChat,
  newId,
  stop,
  storedMessages,
  textOf,
  until,
} from "./rig.mjs";

const newest = ({ name, profile }) => name === "5.0.100" || profile === "v7";
const tried = process.env.EVERY_RELEASE ? RELEASES : RELEASES.filter(newest);
const asks = ({ profile }) => profile !== "v5";
const suite = (title, run, only = () => true) =>
  describe(title, { concurrency: true }, () => {
    for (const release of RELEASES.filter(only).filter((one) => tried.includes(one) || asks(one)))
      test(`ai ${release.name} as ${release.profile}`, { timeout: 120_000 }, () => run(release));
  });

const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const PICK = { body: { tools: { pick: { description: "Pick a city", parameters: CITY } } } };
const runsOf = (word) =>
  readFileSync(process.env.RUNS, "utf8")
    .split("\n")
    .filter((line) => line.includes(word)).length;
const word = () => `w${Math.random().toString(36).slice(2)}`;
const isCall = (part) => part.type.startsWith("tool-");
const calls = (chat) => chat.messages.at(-1).parts.filter(isCall);
const states = (chat) => Object.fromEntries(calls(chat).map((part) => [part.type, part.state]));
const call = (chat, name) => calls(chat).find((part) => part.type === `tool-${name}`);
const pay = (note) => `!tool pay {"note": "${note}"}`;

/** A chat that sends its answers itself, and counts its requests. */
function automatic({ ai, profile }, { done = [], ...options } = {}) {
  const { lastAssistantMessageIsCompleteWithToolCalls: executed } = ai;
  const answered = ai.lastAssistantMessageIsCompleteWithApprovalResponses ?? (() => false);
  const chat = newChat(ai, profile, {
    sendAutomaticallyWhen: (given) => executed(given) || answered(given),
    onToolCall({ toolCall }) {
      done.push(toolCall.toolName);
      const give = chat.addToolOutput ?? chat.addToolResult;
      give({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: "Oslo" });
    },
    ...options,
  });
  Object.assign(chat, { done, profile });
  return chat;
}
const posts = (chat) => chat.seen.filter((chunk) => chunk.type === "start").length;
const isOver = (chat) =>
  until(
    () => chat.status === "ready" && chat.messages.at(-1).metadata?.status === "complete",
    "the answer ends",
  );

async function assertEnded(chat, sent) {
  await isOver(chat);
  assert.equal(posts(chat), sent, "requests");
  assert.ok(calls(chat).every((part) => part.providerExecuted));
  await storedMessages(chat.id, chat.messages.length);
  const { messages } = await get(`${chatPath(chat.id)}/messages?profile=${chat.profile}`);
  const shown = (message) => message.parts.map((part) => [part.type, part.state]);
  const parts = chat.messages.at(-1).parts.filter((part) => !part.type.startsWith("data-"));
  assert.deepEqual(shown({ parts }), shown(messages.at(-1)));
  assert.equal(lastText(chat), textOf(messages.at(-1)));
}

describe("Tools over SSE", { concurrency: 4 }, () => {
  suite("the server's tools need no front end", async (release) => {
    const chat = automatic(release);
    await chat.sendMessage({ text: "!tool add" });
    assert.deepEqual(states(chat), { "tool-add": "output-available" });
    assert.deepEqual(chat.done, []);
    await assertEnded(chat, 1);
  });

  suite(
    "approve",
    async (release) => {
      const [chat, note] = [automatic(release), word()];
      await chat.sendMessage({ text: pay(note) });
      assert.deepEqual([chat.status, states(chat)["tool-pay"]], ["ready", "approval-requested"]);
      await chat.addToolApprovalResponse({ id: call(chat, "pay").approval.id, approved: true });
      await assertEnded(chat, 2);
      assert.equal(states(chat)["tool-pay"], "output-available");
      assert.equal(runsOf(note), 1);
    },
    asks,
  );

  suite(
    "deny with a reason",
    async (release) => {
      const [chat, note] = [automatic(release), word()];
      await chat.sendMessage({ text: pay(note) });
      const { id } = call(chat, "pay").approval;
      await chat.addToolApprovalResponse({ id, approved: false, reason: "Too expensive" });
      await assertEnded(chat, 2);
      assert.equal(states(chat)["tool-pay"], "output-denied");
      assert.match(lastText(chat), /Too expensive/);
      assert.equal(runsOf(note), 0);
    },
    asks,
  );

  suite(
    "two tabs, and a reload while the answer waits",
    async (release) => {
      const [chat, note] = [automatic(release), word()];
      await chat.sendMessage({ text: pay(note) });
      const messages = await storedMessages(chat.id, 1);
      const tab = automatic(release, { id: chat.id, messages });
      await tab.resumeStream();
      assert.deepEqual([tab.status, states(tab)], ["ready", states(chat)]);
      const { id } = call(chat, "pay").approval;
      await Promise.all([
        chat.addToolApprovalResponse({ id, approved: true }),
        tab.addToolApprovalResponse({ id, approved: false }),
      ]);
      await Promise.all([isOver(chat), isOver(tab)]);
      assert.deepEqual(calls(tab)[0].state, calls(chat)[0].state);
      assert.equal(lastText(tab), lastText(chat));
      assert.equal(runsOf(note), call(chat, "pay").state === "output-available" ? 1 : 0);
    },
    asks,
  );

  suite("a tool of the front end", async (release) => {
    const chat = automatic(release);
    await chat.sendMessage({ text: "!tool pick" }, PICK);
    await assertEnded(chat, 2);
    assert.deepEqual(chat.done, ["pick"]);
    assert.equal(call(chat, "pick").output, "Oslo");
    assert.match(lastText(chat), /Oslo/);
  });

  suite("two rounds of a tool of the front end", async (release) => {
    const chat = automatic(release);
    await chat.sendMessage({ text: "!rounds 2 !tool pick" }, PICK);
    await assertEnded(chat, 3);
    assert.deepEqual(chat.done, ["pick", "pick"]);
  });

  suite(
    "three calls at once: the server's, the front end's, one that is allowed",
    async (release) => {
      const [chat, note] = [automatic(release), word()];
      await chat.sendMessage({ text: `!tool add !tool pick ${pay(note)}` }, PICK);
      await until(() => chat.status === "ready" && call(chat, "pick").providerExecuted);
      assert.deepEqual(states(chat), {
        "tool-add": "output-available",
        "tool-pick": "output-available",
        "tool-pay": "approval-requested",
      });
      await chat.addToolApprovalResponse({ id: call(chat, "pay").approval.id, approved: true });
      await assertEnded(chat, 3);
      assert.deepEqual([chat.done, runsOf(note)], [["pick"], 1]);
    },
    asks,
  );

  suite(
    "v5 decides over the API",
    async (release) => {
      const [chat, note] = [automatic(release), word()];
      await chat.sendMessage({ text: pay(note) });
      const asked = chat.messages.at(-1).parts.find((part) => part.type === "data-approval").data;
      await get(`/api/messages/${asked.messageId}/calls/${asked.part}/decision`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ decision: "approve" }),
      });
      await chat.sendMessage();
      await assertEnded(chat, 2);
      assert.equal(runsOf(note), 1);
    },
    (release) => !asks(release),
  );

  suite("stopped while it waits: nothing is sent again", async (release) => {
    const chat = automatic(release, { onToolCall() {} });
    await chat.sendMessage({ text: "!tool pick" }, PICK);
    assert.equal(states(chat)["tool-pick"], "input-available");
    await stop(chat.id);
    const give = chat.addToolOutput ?? chat.addToolResult;
    await give({ tool: "pick", toolCallId: call(chat, "pick").toolCallId, output: "Oslo" });
    await until(
      () => chat.status === "ready" && chat.messages.at(-1).metadata?.status === "cancelled",
    );
    assert.equal(states(chat)["tool-pick"], "output-error");
    assert.equal(posts(chat), 2);
  });

  suite("a message of the user takes the question back", async (release) => {
    const chat = automatic(release, { onToolCall() {} });
    await chat.sendMessage({ text: "!tool pick" }, PICK);
    await chat.sendMessage({ text: "!short Never mind" });
    await isOver(chat);
    assert.equal(chat.messages.length, 4);
  });
});

describe("Tools over WebSocket", () => {
  test("a tool of the front end, and an approval", { timeout: 120_000 }, async () => {
    const [release] = RELEASES.slice(-1);
    const transport = new WebSocketChatTransport({
      url: `${BASE.replace("http", "ws")}/api/chat/ws`,
      params: { profile: "v7" },
      webSocket: WebSocket,
    });
    const [chat, note] = [automatic(release, { transport, id: newId() }), word()];
    try {
      await chat.sendMessage({ text: `!tool pick ${pay(note)}` }, PICK);
      await until(() => chat.status === "ready" && call(chat, "pick").providerExecuted);
      await chat.addToolApprovalResponse({ id: call(chat, "pay").approval.id, approved: true });
      await isOver(chat);
      assert.equal(runsOf(note), 1);
      assert.match(lastText(chat), /Oslo/);
    } finally {
      transport.close(); // an open socket keeps the process alive
    }
  });
});
