// A front end as an application would write it: unchanged hooks, nothing of Tokenwire but its
// address.
import { experimental_useObject as useObject, useChat, useCompletion } from "@ai-sdk/react";
import { DefaultChatTransport, WebSocketChatTransport } from "ai";
import { useState } from "react";
import { createRoot } from "react-dom/client";
import { z } from "zod";

const { api, chat: id, socket } = Object.fromEntries(new URLSearchParams(location.search));
const textOf = (message) =>
  message.parts
    .filter((part) => part.type === "text")
    .map((part) => part.text)
    .join("");
const recipe = z.object({ recipe: z.object({ name: z.string(), steps: z.array(z.string()) }) });

function transportFor(shown) {
  const lastMessageId = shown.at(-1)?.id ?? "";
  if (socket)
    return new WebSocketChatTransport({
      url: `${api.replace("http", "ws")}/api/chat/ws`,
      prepareReconnectToStreamRequest: () => ({ body: { lastMessageId } }),
    });
  const query = new URLSearchParams({ lastMessageId });
  return new DefaultChatTransport({
    api: `${api}/api/chat`,
    prepareReconnectToStreamRequest: ({ api, id }) => ({
      api: `${api}/${encodeURIComponent(id)}/stream?${query}`,
    }),
  });
}

function Chat({ messages: initial }) {
  const [transport] = useState(() => transportFor(initial));
  const { messages, status, sendMessage, regenerate, stop } = useChat({
    id,
    messages: initial,
    resume: true,
    transport,
  });
  return (
    <main>
      <p id="status">{status}</p>
      <input
        id="prompt"
        onKeyDown={(event) => event.key === "Enter" && sendMessage({ text: event.target.value })}
      />
      <button id="again" onClick={() => regenerate()}>
        again
      </button>
      <button id="leave" onClick={() => stop()}>
        leave
      </button>
      <button
        id="stop"
        onClick={() => fetch(`${api}/api/chat/${encodeURIComponent(id)}/stop`, { method: "POST" })}
      >
        stop
      </button>
      {messages.map((message) => (
        <pre key={message.id} className={message.role} id={message.id}>
          {textOf(message)}
        </pre>
      ))}
    </main>
  );
}

function Single() {
  const completion = useCompletion({ api: `${api}/api/completion` });
  const text = useCompletion({
    api: `${api}/api/completion?protocol=text`,
    streamProtocol: "text",
  });
  const made = useObject({ api: `${api}/api/object?model=json`, schema: recipe });
  return (
    <aside>
      <button
        id="complete"
        onClick={() => {
          completion.complete("!short");
          text.complete("!short");
          made.submit({ dish: "lasagne" });
        }}
      >
        complete
      </button>
      <pre id="completion">{completion.completion}</pre>
      <pre id="text">{text.completion}</pre>
      <pre id="object">{JSON.stringify(made.object)}</pre>
    </aside>
  );
}

const { messages } = await (
  await fetch(`${api}/api/chat/${encodeURIComponent(id)}/messages`)
).json();
createRoot(document.getElementById("root")).render(
  <>
    <Chat messages={messages} />
    <Single />
  </>,
);
