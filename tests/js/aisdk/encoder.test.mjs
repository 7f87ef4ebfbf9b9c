// The real releases read streams that the Python encoder has written (CHUNKS: a JSON file
// {profile: [[chunk, ...], ...]}). Every chunk fits the release's own schema, and the release puts
// the message together without a complaint.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { RELEASES, validator } from "./rig.mjs";

const streams = JSON.parse(readFileSync(process.env.CHUNKS));

async function assembled(ai, chunks) {
  const failures = [];
  const stream = new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(structuredClone(chunk));
      controller.close();
    },
  });
  let message;
  for await (message of ai.readUIMessageStream({
    stream,
    onError: (error) => failures.push(error),
    terminateOnError: false,
  }));
  return { message, failures };
}

describe("what the encoder writes", () => {
  for (const { name, ai, profile } of RELEASES) {
    test(`ai ${name} reads ${profile}`, async () => {
      const validate = await validator(ai);
      for (const chunks of streams[profile]) {
        for (const chunk of chunks) await validate(chunk);
        const told = chunks
          .filter((chunk) => chunk.type === "error")
          .map((chunk) => chunk.errorText);
        const { failures } = await assembled(ai, chunks);
        assert.deepEqual(
          failures.map((failure) => failure.message),
          told,
          JSON.stringify(chunks, null, 1),
        );
      }
    });
  }

  for (const { name, ai, profile } of RELEASES) {
    test(`ai ${name} shows all of ${profile}`, async () => {
      const { message } = await assembled(ai, streams[profile][0]);
      const types = new Set(message.parts.map((part) => part.type));
      const wanted = [
        "step-start",
        "text",
        "reasoning",
        "tool-weather",
        "dynamic-tool",
        "source-url",
        "source-document",
        "file",
        "data-chart",
      ];
      const newer = profile === "v7" ? ["custom", "reasoning-file"] : ["data-custom"];
      for (const type of [...wanted, ...newer])
        assert.ok(types.has(type), `${type} in ${[...types]}`);
      assert.deepEqual(message.parts.find((part) => part.toolCallId === "hostile").input, {
        ___proto__: 1,
        _constructor: { prototype: null },
      });
    });
  }
});
