/**
 * Tokenwire's client: one conversation that follows its log, in browsers and in Node (22 or later,
 * or with a WebSocket class in the options).
 *
 *     import { subscribe } from "/static/tokenwire.js";
 *     const watch = subscribe(id, {
 *       onchange: () => draw(watch.messages),
 *       onstate: (state) => badge(state.name),
 *     });
 *     ...
 *     watch.close();
 *
 * Or without callbacks, for example in Node:
 *
 *     for await (const { message, event } of watch) if (message?.status === "complete") break;
 */

export type Status =
  "queued" | "streaming" | "retrying" | "waiting" | "complete" | "error" | "cancelled";

/** A row as the API gives it (PROTOCOL.md, section 1). */
export interface Row {
  id: string;
  conversation_id?: string;
  ordinal: number;
  role: "user" | "assistant" | "system" | "tool";
  content?: string;
  reasoning?: string;
  /** The parts in order; texts of `text` and `reasoning` are slices of content and reasoning. */
  parts?: { type: string; length?: number; [field: string]: unknown }[];
  status: Status;
  seq?: number;
  attempt?: number;
  rev: number;
  model?: string | null;
  finish_reason?: string | null;
  error?: { code: string; error: string; retryable: boolean } | null;
  usage?: Record<string, unknown> | null;
  user_id?: string | null;
  parent_id?: string | null;
  /** What the document of a complete answer with a schema says. */
  object?: unknown;
}

/**
 * A row, kept up to date. `parts` is what it consists of, in order. `content` and `reasoning` are
 * the texts of all its `text` and `reasoning` parts.
 */
export interface Message extends Omit<Row, "parts"> {
  content: string;
  reasoning: string;
  parts: Part[];
  seq: number;
  /** While another attempt is awaited. */
  retry: { code: string; delay_ms: number; try: number; max_tries: number } | null;
  /** Whether the terminal event attests what is held; absent if no such event was seen. */
  proven?: boolean;
  /** Who stopped it (`cancelled`). */
  by?: string;
  /** Offsets at which another request continued a broken answer (`complete`). */
  seams?: number[];
}

/**
 * A part of a message. Show types and states that you do not know as nothing. A part with `at`, an
 * offset in `content`, stands inside a text. While an answer is written, the text of its last parts
 * grows in place; if other fields change, another object takes the place of the part.
 */
export type Part =
  | TextPart
  | ReasoningPart
  | ToolCallPart
  | SourcePart
  | FilePart
  | DataPart
  | ProviderPart
  | StepPart;

export interface TextPart {
  type: "text";
  text: string;
}

export interface ReasoningPart {
  type: "reasoning";
  text: string;
  at?: number;
}

export interface ToolCallPart {
  type: "tool_call";
  id: string;
  name: string;
  /** PROTOCOL.md, section 1, has the states. Those of the first line are yet to end. */
  state:
    | ("streaming" | "proposed" | "running" | `awaiting_${"approval" | "client" | "outcome"}`)
    | ("invalid" | "done" | "failed" | "denied" | "withdrawn" | "unknown")
    | (string & {});
  /** The JSON as the model wrote it. */
  input: string;
  /** Who executes it, once the model's turn is proven. */
  runs_at?: "server" | "client" | "caller" | (string & {});
  title?: string;
  result?: unknown;
  /** What the model is told of a call without a result. */
  error?: unknown;
  /** Until when a decision is awaited (ISO 8601). */
  expires_at?: string;
  /** A person was asked. */
  approval?: { decision?: string; by?: string; reason?: string; at?: string };
  /** The JSON that the tool got in place of `input`, if a person edited it. */
  ran_with?: string;
}

/** What an answer cites. */
export interface SourcePart {
  type: "source";
  /** `http` or `https`, without a user or password: it may be a link. */
  url?: string;
  /** Any other address, as the model gave it. Show it as text alone. */
  address?: string;
  file_id?: string;
  title?: string;
  media_type?: string;
  /** `[start, end]` in `content`. */
  cites?: [number, number];
  quote?: string;
  at?: number;
}

/** A file that the model made; without `url` if it was too large to be kept. */
export interface FilePart {
  type: "file";
  media_type: string;
  /** Ours (it begins with `/`), or as of a source. */
  url?: string;
  address?: string;
  name?: string;
  size?: number;
  dropped?: boolean;
}

/** The application's own. */
export interface DataPart {
  type: "data";
  name: string;
  data: unknown;
  id?: string;
}

/** What only the provider understands; its value is not sent. */
export interface ProviderPart {
  type: "provider";
  dialect: string;
  kind: string;
  at?: number;
  dropped?: boolean;
}

/** The model was asked again with more input. */
export interface StepPart {
  type: "step";
  model?: string;
  /** Messages of users that reached the model here. */
  message_ids?: string[];
}

/** An entry of the log. */
export interface Event {
  seq: number;
  type: string;
  message_id?: string;
  [field: string]: unknown;
}

/** `GET /api/conversations/{id}`. */
export interface Snapshot {
  conversation: Record<string, unknown>;
  messages: Row[];
  next?: string | number | null;
  cursor: string | null;
}

/** `POST /api/conversations/{id}/subscription`. */
export interface Grant {
  url: string;
  token: string;
  expires_in: number;
}

/**
 * `connecting` before the first connection, `replaying` while missed events arrive, `live`,
 * `reconnecting` in `delay_ms`, `stopped` for good. `code` is the close code, the status of a
 * request that failed, or 0.
 */
export interface State {
  name: "connecting" | "replaying" | "live" | "reconnecting" | "stopped";
  code?: number;
  delay_ms?: number;
}

/**
 * `event` has changed `message`, or the conversation if there is no `message`. Without both,
 * anything may have changed.
 */
export interface Change {
  message?: Message;
  event?: Event;
}

/**
 * What a callback throws is thrown again outside (`window.onerror`, `uncaughtException`); the
 * subscription continues.
 */
export interface Options {
  /** See `Change`. */
  onchange?(message?: Message, event?: Event): void;
  onstate?(state: State): void;
  /** The class to connect with, where the platform has none (Node 20: that of the package `ws`). */
  WebSocket?: unknown;
  /** Between 0 and 1: the jitter of delays. */
  random?(): number;
}

/**
 * About a tool call that waits (PROTOCOL.md, section 6, *Decisions*). `arguments`: of `approve`, in
 * place of the model's; as a JSON text, its numbers stay as they are. `reason`: of `deny` and
 * `error`. `result`: of `result`. `runs`: how often the call had run when the question was shown.
 */
export interface Decision {
  decision: "approve" | "deny" | "result" | "error" | "repeat" | "go_on";
  arguments?: Record<string, unknown> | string;
  reason?: string;
  result?: unknown;
  runs?: number;
}

/**
 * Reads the conversation and asks for grants. An error may say with a numeric `status` how a
 * request failed, and with `retryAfter` (seconds) when to try again. `decide` is for
 * `Subscription.decide` alone.
 */
export interface Source {
  load(): Promise<Snapshot>;
  grant(): Promise<Grant>;
  decide?(messageId: string, number: number, decision: Decision): Promise<Decided>;
}

/** The call and the decision as they are stored. */
export interface Decided {
  call: Record<string, unknown>;
  decision: Record<string, unknown>;
}

/**
 * Follow a conversation of the server at `base`, which has no default outside a page. `headers`, or
 * what that function gives, go with every request.
 */
export function subscribe(
  conversationId: string,
  options?: Options & {
    base?: string;
    headers?:
      Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);
    fetch?: typeof fetch;
  },
): Subscription;

/**
 * Follows a conversation until `close()`: across lost connections, expired tokens, deploys and lost
 * logs. Iterate over it for what `onchange` is called with; the first `Change` is empty. The
 * iteration ends when the subscription is closed or stopped (`state`); leaving the loop does not
 * close it. A loop that is thousands of changes behind gets one empty `Change` in their place:
 * `messages` has it all.
 */
export class Subscription implements AsyncIterable<Change> {
  /** Throws TypeError where there is no WebSocket to connect with. */
  constructor(options: Options & Source);
  [Symbol.asyncIterator](): AsyncGenerator<Change, void, void>;
  readonly state: State;
  readonly transcript: Transcript;
  /** In order. */
  readonly messages: Message[];
  /** `epoch:seq` of the last event applied; null before the conversation was read. */
  readonly cursor: string | null;
  /** Rows that the answer to a post brought, to be shown at once. */
  admit(rows: Row[]): void;
  /**
   * Decide about the call in the part `number` of a message. Once: the same decision again gets the
   * same answer, any other one an error with the code `already_decided`.
   */
  decide(messageId: string, number: number, decision: Decision): Promise<Decided>;
  /** There may be a network again: connect now. */
  wake(): void;
  close(): void;
}

/** Pure: the state of a conversation. */
export class Transcript {
  readonly conversation: Record<string, unknown> | null;
  readonly messages: Message[];
  /** The `before` of the page of earlier messages; null where there is none. */
  readonly next: string | number | null;
  /** Whether an answer has not ended. */
  readonly running: boolean;
  get(id: string): Message | undefined;
  /** Take a snapshot in place of what is held. */
  load(snapshot: Pick<Snapshot, "conversation" | "messages" | "next">): void;
  /** Put an earlier page in front. */
  prepend(page: Pick<Snapshot, "messages" | "next">): void;
  /**
   * Take a row that a `message` event or the answer to a post brought. It replaces what
   * stood between it and its `parent_id`: an answer that was made again, or an edited message and
   * what followed it.
   */
  admit(row: Row): void;
  /** The log was applied to its end: show what is held, even if more was shown before. */
  release(): void;
  /** The log is another one behind `seq`: rows know of no later event. */
  forked(seq: number): void;
  /**
   * Apply an event in its turn, after `load`. False: what is held cannot be right, and the
   * conversation must be read again.
   */
  apply(event: Event): boolean;
}

/** Pure: puts events into the order of `seq`; repeats vanish, early ones wait. */
export class Order {
  constructor(cursor: { epoch: string; seq: number });
  readonly epoch: string;
  readonly seq: number;
  readonly cursor: string;
  /** Whether an event is missing before others that are here. */
  readonly waiting: boolean;
  /** Whether so many wait that the missing one is not worth waiting for. */
  readonly overfull: boolean;
  /** The events whose turn has come, `event` among them or not. */
  push(event: Event): Event[];
  /** The log goes on under another name; what waits is dropped. */
  fork(epoch: string): void;
}

/** Pure: what follows a close. `failures`: attempts in a row that came to nothing. */
export function afterClose(
  code: number,
  failures: number,
  random?: () => number,
): { then: "stop" | "reconnect" | "token" | "resync"; delay_ms: number };

/** Whether a message's answer has ended. */
export function hasEnded(message: Pick<Message, "status">): boolean;

/** `epoch:seq` taken apart; null for anything else. */
export function parseCursor(text: string | null | undefined): { epoch: string; seq: number } | null;

/** zlib's crc32, unsigned, of the UTF-8 form of a text. */
export function crc32(text: string): number;
