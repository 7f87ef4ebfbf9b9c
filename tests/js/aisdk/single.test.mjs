// useCompletion's and useObject's own calls against a running Tokenwire.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BASE, RELEASES, get } from "./rig.mjs";

async function complete(ai, { api, streamProtocol, prompt }) {
  const [texts, failures] = [[], []];
  const nothing = () => {};
  const whole = await ai.callCompletionApi({
    api,
    prompt,
    streamProtocol,
    credentials: undefined,
    headers: {},
    body: {},
    fetch: undefined,
    setCompletion: (text) => texts.push(text),
    setLoading: nothing,
    setError: nothing,
    setAbortController: nothing,
    onFinish: undefined,
    onError: (error) => failures.push(error),
  });
  return { whole, last: texts.at(-1), failures };
}

describe("single answers", { concurrency: 3 }, () => {
  for (const { name, ai, profile } of RELEASES) {
    test(`ai ${name} as ${profile}: useCompletion, data and text`, async () => {
      const data = await complete(ai, {
        api: `${BASE}/api/completion?profile=${profile}`,
        streamProtocol: "data",
        prompt: "!short !think",
      });
      assert.match(
        data.whole ?? data.last,
        /^Hello! 👋 This is the demo model: a script, not a mind\.$/,
      );
      const text = await complete(ai, {
        api: `${BASE}/api/completion?protocol=text`,
        streamProtocol: "text",
        prompt: "!short !think",
      });
      assert.equal(text.last, data.last);
      const failed = await complete(ai, {
        api: `${BASE}/api/completion?profile=${profile}`,
        streamProtocol: "data",
        prompt: "!auth",
      });
      assert.equal(failed.failures.length, 1);
    });
  }

  test("useObject: one JSON document in pieces; a failure before it is a status", async () => {
    const post = (path, body) =>
      fetch(`${BASE}${path}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body,
      });
    const response = await post(
      "/api/object?model=json",
      JSON.stringify({ any: ["input", 1, null] }),
    );
    assert.match(response.headers.get("content-type"), /^text\/plain/);
    const pieces = [];
    for await (const piece of response.body.pipeThrough(new TextDecoderStream()))
      pieces.push(piece);
    assert.ok(pieces.length > 1);
    assert.equal(JSON.parse(pieces.join("")).recipe.name, "Lasagne");
    assert.equal((await post("/api/object?schema=nobody", "{}")).status, 422);
    assert.equal((await post("/api/object", "{")).status, 400);
    assert.equal((await post("/api/object", JSON.stringify("!auth"))).status, 502);
  });

  for (const { name, ai } of RELEASES)
    test(`ai ${name}: a repaired document breaks useObject, unless it is whole`, async () => {
      const object = async (query) => {
        const response = await fetch(`${BASE}/api/object?${query}`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify("!misfit Oslo"),
        });
        let [text, last] = ["", undefined];
        const seen = [];
        // As the hook does it.
        await response.body.pipeThrough(new TextDecoderStream()).pipeTo(
          new WritableStream({
            async write(chunk) {
              text += chunk;
              last = (await ai.parsePartialJson(text)).value;
              seen.push(last);
            },
          }),
        );
        return { last, seen };
      };
      await assert.rejects(object("schema=city"));
      const { last, seen } = await object("schema=city&partial=false");
      assert.equal(typeof last.city, "string");
      assert.deepEqual(
        seen.filter((value) => value !== undefined),
        [last],
      );
    });

  test("single answers stand in no list", async () => {
    const { conversations } = await get("/api/conversations");
    assert.ok(conversations.every((conversation) => conversation.title !== "Single answer"));
  });
});
