/**
 * What OpenAI's own client for Node makes of Tokenwire at TOKENWIRE_URL. Run by
 * tests/e2e/test_openai.py.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

const client = new OpenAI({
  baseURL: `${process.env.TOKENWIRE_URL}/v1`,
  apiKey: "none",
  maxRetries: 0,
});

async function read(stream, most = Infinity) {
  const events = [];
  for await (const event of stream) if (events.push(event) === most) break;
  return events;
}

const textOf = (events) =>
  events
    .filter((event) => event.type === "response.output_text.delta")
    .map((event) => event.delta)
    .join("");

test("a whole answer", async () => {
  const response = await client.responses.create({ model: "demo", input: "!short hi" });
  assert.equal(response.status, "completed");
  assert.match(response.output_text, /^Hello! 👋/);
});

test("a stream is numbered without holes and resumed exactly", async () => {
  const events = await read(
    await client.responses.create({ model: "demo", input: "!fast !think hi", stream: true }),
  );
  assert.ok(events.every((event, n) => event.sequence_number === n));
  const { id } = events[0].response;
  for (const after of [0, 3, 77, events.length - 2, events.length - 1])
    assert.deepEqual(
      await read(await client.responses.retrieve(id, { stream: true, starting_after: after })),
      events.slice(after + 1),
    );
  const response = await client.responses.retrieve(id);
  assert.equal(response.output_text, textOf(events));
  const helper = client.responses.stream({ response_id: id, starting_after: 10 });
  assert.equal((await helper.finalResponse()).output_text, response.output_text);
});

test("a running stream is cut again and again", async () => {
  const events = await read(
    await client.responses.create({
      model: "demo",
      input: "Tell me",
      stream: true,
      background: true,
    }),
    80,
  );
  const { id } = events[0].response;
  while (events.at(-1).type !== "response.completed")
    events.push(
      ...(await read(
        await client.responses.retrieve(id, {
          stream: true,
          starting_after: events.at(-1).sequence_number,
        }),
        150,
      )),
    );
  assert.deepEqual(await read(await client.responses.retrieve(id, { stream: true })), events);
});

test("cancelled", async () => {
  const { id } = await client.responses.create({
    model: "demo",
    input: "!slow hi",
    background: true,
  });
  assert.equal((await client.responses.cancel(id)).status, "cancelled");
  const last = (await read(await client.responses.retrieve(id, { stream: true }))).at(-1);
  assert.deepEqual([last.type, last.response.status], ["response.incomplete", "cancelled"]);
});

test("a chat, and what goes wrong in one", async () => {
  const chat = client.chat.completions.stream({
    model: "demo",
    messages: [{ role: "user", content: "!short hi" }],
    stream_options: { include_usage: true },
  });
  const completion = await chat.finalChatCompletion();
  assert.match(completion.choices[0].message.content, /^Hello! 👋/);
  assert.ok(completion.usage.total_tokens > 0);
  const failing = await client.chat.completions.create({
    model: "demo",
    messages: [{ role: "user", content: "!context" }],
    stream: true,
  });
  await assert.rejects(read(failing), { code: "context_length_exceeded" });
  await assert.rejects(
    client.chat.completions.create({ model: "nope", messages: [{ role: "user", content: "x" }] }),
    { status: 404, code: "model_not_found" },
  );
});
