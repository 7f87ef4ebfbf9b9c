/**
 * What the AI SDK and OpenAI's own client for Node make of tools at TOKENWIRE_URL. Run by
 * tests/e2e/test_openai_clients.py.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenResponses } from "@ai-sdk/open-responses";
import { generateText, isStepCount, streamText, tool } from "ai";
import OpenAI from "openai";
import { z } from "zod";

const baseURL = `${process.env.TOKENWIRE_URL}/v1`;
const provider = createOpenAI({ baseURL, apiKey: "none" });
const open = createOpenResponses({
  name: "tokenwire",
  url: `${baseURL}/responses`,
  apiKey: "none",
});
const MODELS = {
  chat: provider.chat("demo"),
  responses: provider.responses("demo"),
  "open responses": open("demo"),
};
const ASKED = '!think !tool weather {"city": "Oslo"} !tool weather {"city": "Rome"}';

for (const [name, model] of Object.entries(MODELS))
  for (const ask of [generateText, streamText])
    test(`${ask.name} executes calls of ${name}, and sends the history again`, async () => {
      const ran = [];
      const weather = tool({
        inputSchema: z.object({ city: z.string() }),
        execute: ({ city }) => `Sunny in ${ran.push(city) && city}.`,
      });
      const asks = (messages) =>
        ask({ model, tools: { weather }, messages, stopWhen: isStepCount(4), maxRetries: 0 });
      const first = [{ role: "user", content: ASKED }];
      const answer = asks(first);
      const text = await (await answer).text;
      assert.match(text, /Sunny in Oslo\.[^]*Sunny in Rome\./);
      assert.deepEqual(ran, ["Oslo", "Rome"]);
      const { messages } = await (await answer).response;
      const later = await asks([...first, ...messages, { role: "user", content: "!short hi" }]);
      assert.match(await later.text, /^Hello! 👋/);
      assert.equal(ran.length, 2);
    });

test("a stream of OpenAI's client assembles the call", async () => {
  const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
  const weather = { type: "function", name: "weather", parameters: { type: "object" } };
  const stream = client.responses.stream({ model: "demo", input: "weather", tools: [weather] });
  const { id, output } = await stream.finalResponse();
  const [call] = output.filter((item) => item.type === "function_call");
  assert.equal(call.name, "weather");
  const input = [{ type: "function_call_output", call_id: call.call_id, output: "Sunny." }];
  const ended = await client.responses.create({ model: "demo", input, previous_response_id: id });
  assert.match(ended.output_text, /Sunny\./);
});

for (const stream of [false, true])
  test(`a call runs once it is allowed, also if the request is repeated (${stream})`, async () => {
    let cut = 0;
    const breaking = async (...request) => {
      const answer = await fetch(...request);
      if (cut++) return answer;
      await answer.body.cancel();
      throw new TypeError("the connection broke");
    };
    const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
    const repeating = new OpenAI({ baseURL, apiKey: "none", maxRetries: 1, fetch: breaking });
    const tools = [{ type: "mcp", server_label: "tokenwire" }];
    const asked = await client.responses.create({
      model: "demo",
      input: `!tool pay {"to": "node-${stream}"}`,
      tools,
    });
    const [request] = asked.output;
    assert.equal(request.type, "mcp_approval_request");
    const decision = {
      type: "mcp_approval_response",
      approval_request_id: request.id,
      approve: true,
    };
    const body = { model: "demo", input: [decision], previous_response_id: asked.id, tools };
    const ended = stream
      ? await repeating.responses.stream(body).finalResponse()
      : await repeating.responses.create(body);
    assert.equal(cut, 2);
    assert.equal(ended.output[0].output, `Paid node-${stream}.`);
    assert.match(ended.output_text, /Paid node-/);
    const no = { ...decision, approve: false };
    const refused = client.responses.create({ ...body, input: [no] });
    await assert.rejects(refused, { status: 409, code: "already_decided" });
  });
