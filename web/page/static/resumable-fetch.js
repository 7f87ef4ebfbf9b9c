/**
 * A `fetch` for the AI SDK that outlives dropped connections: `new DefaultChatTransport({ fetch:
 * resumableFetch() })`.
 *
 * The response's body goes on as if nothing had happened: after a break it asks `GET {api}/{chat
 * id}/stream` for what follows the last
 * `id:` that it saw, until `[DONE]` has come. What the page itself aborts stays aborted. Works with
 * `ai` 5, 6 and 7.
 */
export function resumableFetch({
  fetch = globalThis.fetch,
  tries = 10,
  pause = (n) => Math.min(250 * 2 ** n, 8000) * (0.5 + Math.random() / 2),
} = {}) {
  return async (input, init = {}) => {
    const response = await fetch(input, init);
    if (
      !response.ok ||
      !response.body ||
      !/event-stream/.test(response.headers.get("content-type"))
    )
      return response;
    const address = streamAddress(String(input.url ?? input), init);
    return new Response(goingOn(response, address, init, { fetch, tries, pause }), {
      status: response.status,
      headers: response.headers,
    });
  };
}

function streamAddress(url, init) {
  if (init.method !== "POST") return url;
  const [path, query] = url.split("?");
  const stream = `${path}/${encodeURIComponent(JSON.parse(init.body).id)}/stream`;
  return query === undefined ? stream : `${stream}?${query}`;
}

function goingOn(response, address, init, { fetch, tries, pause }) {
  let reader = response.body.getReader();
  let [last, done, rest, failures] = [null, false, "", 0];
  const decoder = new TextDecoder();
  const encoder = new TextEncoder();

  // Only whole events are passed on: what a break cuts in two comes again.
  const take = (bytes) => {
    const blocks = (rest + decoder.decode(bytes, { stream: true })).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      last = /^id: ?(.+)$/m.exec(block)?.[1] ?? last;
      done ||= /^data: ?\[DONE\]$/m.test(block);
    }
    return encoder.encode(blocks.map((block) => `${block}\n\n`).join(""));
  };

  const reconnect = async () => {
    [rest] = [""];
    decoder.decode();
    await new Promise((resolve) => setTimeout(resolve, pause(failures++)));
    const headers = {
      ...Object.fromEntries(new Headers(init.headers)),
      ...(last === null ? {} : { "last-event-id": last }),
    };
    const again = await fetch(address, {
      method: "GET",
      headers,
      credentials: init.credentials,
      signal: init.signal,
    });
    if (again.status === 204) return false;
    if (!again.ok)
      throw Object.assign(new Error(await again.text()), { final: again.status < 500 });
    reader = again.body.getReader();
    return true;
  };

  return new ReadableStream({
    async pull(controller) {
      for (;;) {
        let lost = new Error("the stream ended too early");
        try {
          const { value } = await reader.read();
          if (value) {
            const bytes = take(value);
            failures = bytes.length ? 0 : failures;
            if (bytes.length) return controller.enqueue(bytes);
            continue;
          }
          if (done) return controller.close();
        } catch (error) {
          if (init.signal?.aborted) return controller.error(error);
          lost = error;
        }
        for (;;) {
          if (failures >= tries) return controller.error(lost);
          try {
            if (await reconnect()) break;
            return controller.close();
          } catch (error) {
            if (init.signal?.aborted || error.final) return controller.error(error);
            lost = error;
          }
        }
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
}
