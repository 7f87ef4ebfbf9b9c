/**
 * The HTTP API as the page uses it: requests, problem documents as errors with a sentence for
 * people, idempotency keys.
 */

/**
 * `code` is stable, `message` may be shown; `status` 0: no answer came. `passing`: the same request
 * may succeed later.
 */
export class ApiError extends Error {
  constructor(message, { code, status, retryAfter = 0 }) {
    super(message);
    Object.assign(this, { code, status, retryAfter });
  }

  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** Ask the server; the decoded JSON of its answer, null for 204. Throws ApiError. */
export async function ask(method, path, { body, key } = {}) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(navigator.onLine ? "The server does not answer." : "You are offline.", {
      code: "unreachable",
      status: 0,
    });
  }
  if (!answer.ok) throw await problem(answer);
  return answer.status === 204 ? null : answer.json();
}

async function problem(answer) {
  const told = await answer.json().catch(() => ({}));
  const sentence = [told.detail, told.title].find((text) => typeof text === "string" && text);
  return new ApiError(sentence ?? `The server answered ${answer.status}.`, {
    code: String(told.code ?? answer.status),
    status: answer.status,
    retryAfter: Number(answer.headers.get("Retry-After")) || 0,
  });
}

/** A key that makes one post happen once, however often it is sent. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}

const conversation = (id) => `/api/conversations/${encodeURIComponent(id)}`;

export const api = {
  me: () => ask("GET", "/api/me"),
  models: () => ask("GET", "/api/models"),
  conversations: (before) =>
    ask(
      "GET",
      `/api/conversations?limit=40${before ? `&before=${encodeURIComponent(before)}` : ""}`,
    ),
  create: (body, key) => ask("POST", "/api/conversations", { body, key }),
  earlier: (id, before) =>
    ask("GET", `${conversation(id)}?limit=100&before=${encodeURIComponent(before)}`),
  change: (id, body) => ask("PATCH", conversation(id), { body }),
  remove: (id) => ask("DELETE", conversation(id)),
  post: (id, content, key) =>
    ask("POST", `${conversation(id)}/messages`, { body: { content }, key }),
  regenerate: (id, key) =>
    ask("POST", `/api/messages/${encodeURIComponent(id)}/regenerate`, { key }),
  cancel: (id) => ask("POST", `${conversation(id)}/cancel`),
};
