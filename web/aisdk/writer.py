"""Pure: a writer with a method for every kind of chunk, which keeps the rules that clients enforce.

Each method returns the chunks to send, in order, or raises Misuse and changes nothing. The rules: a
message starts once and ends once; text and reasoning are opened before they are written and closed
before a step ends (ai 5 and 6 forget open parts there); a tool's output follows its input; absent
optional fields are left out (null is refused); what a profile does not know is sent in a form that
it knows (see `fallbacks` in docs/ai-sdk.md). Ids of parts repeat within a message, so that they are
the same in every replay.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from tokenwire.protocol.values import present
from tokenwire.web.aisdk.values import (
    PROFILES,
    Misuse,
    Profile,
    UIChunk,
    clean,
    make,
    mapping,
    optional,
    provided,
    string,
)

TextKind = Literal["text", "reasoning"]
ProviderMetadata = Mapping[str, Mapping[str, Any]]
"""Provider metadata: {provider: {key: value}}."""
_REASONS = frozenset({"stop", "length", "content-filter", "tool-calls", "error", "other"})


class _ToolState:
    """The state of a tool call: its name, whether it is dynamic, whether clients hold it as
    executed by the provider, and its progress.
    """

    __slots__ = ("done", "dynamic", "executed", "name", "open")

    def __init__(self, name: str, dynamic: bool, *, executed: bool = False) -> None:
        self.name = name
        self.dynamic = dynamic
        self.executed = executed
        self.open = False
        self.done = False


class Writer:
    """The chunks of one message. `profile`: see `values.Profile`.

    `started`, `open_parts` and `tools` are for a stream that continues another: what its reader
    holds already. `tools` None: it may hold any call.
    """

    def __init__(
        self,
        profile: Profile = "v5",
        *,
        started: bool = False,
        in_step: bool = False,
        open_parts: Mapping[str, TextKind] | None = None,
        tools: Iterable[str] | None = (),
    ) -> None:
        if profile not in PROFILES:
            raise Misuse(f"a profile is one of {', '.join(PROFILES)}")
        self.profile: Profile = profile
        self.ended = False
        self._started = started
        self._in_step = in_step
        self._open: dict[str, TextKind] = dict(open_parts or {})
        self._any_tool = tools is None
        self._tools = {call_id: _ToolState("", dynamic=False) for call_id in tools or ()}
        self._earlier = set(self._tools)  # calls that stand in steps before the open one

    # --- the message and its steps ---

    def start(
        self, message_id: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> list[UIChunk]:
        """The message begins. Give `message_id`: otherwise the client generates one, and cannot
        match a replay.
        """
        if self._started or self.ended:
            raise Misuse("the message has started already")
        name, about = optional("message_id", message_id), mapping("metadata", metadata)
        chunk = make("start", messageId=name, messageMetadata=about)
        self._started = True
        return [chunk]

    def start_step(self) -> list[UIChunk]:
        """A step begins: one call of a model. An open one ends."""
        chunks = self.finish_step() if self._in_step else self._begun()
        self._in_step, self._earlier = True, set(self._tools)
        return [*chunks, {"type": "start-step"}]

    def finish_step(self) -> list[UIChunk]:
        """The step ends; open text and reasoning are closed before."""
        if not self._in_step:
            raise Misuse("no step is open")
        chunks = [*self.close(), {"type": "finish-step"}]
        self._in_step = False
        return chunks

    def reset_step(self, note: Mapping[str, Any] | None = None) -> list[UIChunk]:
        """Withdraw what the step has shown; write again what stays.

        v7 removes the parts of the step. v5 and v6 cannot: open parts are closed, and a
        `data-reset` part (with `note`) marks that earlier parts do not count.
        """
        if self.profile == "v7":
            chunks = [*self._begun(), {"type": "reset-step"}]
            self._open.clear()
            self._tools = {name: self._tools[name] for name in self._earlier}
            for tool in self._tools.values():
                tool.open = False  # clients forget the pieces of every input
            return chunks
        marked = self.data("reset", note or {})
        return self.close() + marked

    def message_metadata(self, metadata: Mapping[str, Any]) -> list[UIChunk]:
        """Metadata of the message, merged deeply into what the client has."""
        return self._plain("message-metadata", messageMetadata=mapping("metadata", metadata) or {})

    def finish(
        self, reason: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> list[UIChunk]:
        """The message is complete. An unknown `reason` becomes `other`."""
        known = None if reason is None else self._reason(string("reason", reason))
        chunk = make("finish", finishReason=known, messageMetadata=mapping("metadata", metadata))
        return self._end(chunk)

    def abort(self, reason: str | None = None) -> list[UIChunk]:
        """The message was stopped; its parts stay. v5 does not get the reason."""
        given = optional("reason", reason)
        return self._end(make("abort", reason=None if self.profile == "v5" else given))

    def error(self, text: str) -> list[UIChunk]:
        """The message failed; its parts stay. The client shows `text` and reads no further."""
        return self._end(make("error", errorText=string("text", text)))

    # --- text and reasoning ---

    def text(self, delta: str) -> list[UIChunk]:
        """A piece of text; opens and closes parts as needed."""
        return self._running("text", delta)

    def reasoning(self, delta: str) -> list[UIChunk]:
        """A piece of reasoning; opens and closes parts as needed."""
        return self._running("reasoning", delta)

    def text_start(
        self, part_id: str = "text", provider_metadata: ProviderMetadata | None = None
    ) -> list[UIChunk]:
        """Open a text part; several may be open."""
        return self._part_start("text", part_id, provider_metadata)

    def text_delta(
        self, delta: str, part_id: str = "text", provider_metadata: ProviderMetadata | None = None
    ) -> list[UIChunk]:
        """A piece of an open text part."""
        return self._part_delta("text", part_id, delta, provider_metadata)

    def text_end(
        self, part_id: str = "text", provider_metadata: ProviderMetadata | None = None
    ) -> list[UIChunk]:
        """Close a text part; its id may be used again."""
        return self._part_end("text", part_id, provider_metadata)

    def reasoning_start(
        self, part_id: str = "reasoning", provider_metadata: ProviderMetadata | None = None
    ) -> list[UIChunk]:
        """Open a reasoning part."""
        return self._part_start("reasoning", part_id, provider_metadata)

    def reasoning_delta(
        self,
        delta: str,
        part_id: str = "reasoning",
        provider_metadata: ProviderMetadata | None = None,
    ) -> list[UIChunk]:
        """A piece of an open reasoning part."""
        return self._part_delta("reasoning", part_id, delta, provider_metadata)

    def reasoning_end(
        self, part_id: str = "reasoning", provider_metadata: ProviderMetadata | None = None
    ) -> list[UIChunk]:
        """Close a reasoning part."""
        return self._part_end("reasoning", part_id, provider_metadata)

    def close(self) -> list[UIChunk]:
        """Close all open text and reasoning."""
        chunks: list[UIChunk] = [
            {"type": f"{kind}-end", "id": part_id} for part_id, kind in self._open.items()
        ]
        self._open.clear()
        return chunks

    # --- tools ---

    def tool_input_start(
        self,
        call_id: str,
        name: str,
        *,
        dynamic: bool = False,
        provider_executed: bool = False,
        title: str | None = None,
        tool_metadata: Mapping[str, Any] | None = None,
        provider_metadata: ProviderMetadata | None = None,
    ) -> list[UIChunk]:
        """A tool call begins, and its input follows in pieces. `dynamic`: the front end does not
        know the tool's types.
        """
        extras = self._call(
            provider_executed,
            title,
            tool_metadata,
            provider_metadata if self.profile != "v5" else None,
        )
        chunks = self._input("tool-input-start", call_id, name, dynamic, extras)
        self._tools[call_id].open = True
        return chunks

    def tool_input_delta(self, call_id: str, delta: str) -> list[UIChunk]:
        """A piece of the JSON text of the input."""
        if not self._tool(call_id).open:
            raise Misuse(f"no input of tool call {call_id!r} is open")
        return self._plain(
            "tool-input-delta", toolCallId=call_id, inputTextDelta=string("delta", delta)
        )

    def tool_input_available(
        self,
        call_id: str,
        name: str,
        input: Any,  # noqa: A002 - the protocol's word
        *,
        dynamic: bool = False,
        provider_executed: bool = False,
        title: str | None = None,
        tool_metadata: Mapping[str, Any] | None = None,
        provider_metadata: ProviderMetadata | None = None,
    ) -> list[UIChunk]:
        """The whole input of a tool call, whether its pieces were sent before or not."""
        extras = self._call(provider_executed, title, tool_metadata, provider_metadata)
        return self._input(
            "tool-input-available", call_id, name, dynamic, extras, input=clean(input)
        )

    def tool_input_error(
        self,
        call_id: str,
        name: str,
        input: Any,  # noqa: A002 - the protocol's word
        text: str,
        *,
        dynamic: bool = False,
        provider_executed: bool = False,
        provider_metadata: ProviderMetadata | None = None,
    ) -> list[UIChunk]:
        """The input of a tool call is not usable: it ends here."""
        extras = self._call(provider_executed, None, None, provider_metadata)
        message = string("text", text)
        chunks = self._input(
            "tool-input-error",
            call_id,
            name,
            dynamic,
            extras,
            input=clean(input),
            errorText=message,
        )
        self._tools[call_id].done = True
        return chunks

    def tool_output_available(
        self,
        call_id: str,
        output: Any,
        *,
        preliminary: bool = False,
        provider_executed: bool = False,
    ) -> list[UIChunk]:
        """The result of a tool. `preliminary`: more follows, each replaces the previous one."""
        tool = self._unanswered(call_id)
        chunk = make(
            "tool-output-available",
            toolCallId=call_id,
            providerExecuted=provider_executed or None,
            dynamic=tool.dynamic or None,
            preliminary=preliminary or None,
        )
        chunk["output"] = clean(output)
        return self._output(tool, chunk, done=not preliminary)

    def tool_output_error(
        self, call_id: str, text: str, *, provider_executed: bool = False
    ) -> list[UIChunk]:
        """The tool failed."""
        tool = self._unanswered(call_id)
        chunk = make(
            "tool-output-error",
            toolCallId=call_id,
            errorText=string("text", text),
            providerExecuted=provider_executed or None,
            dynamic=tool.dynamic or None,
        )
        return self._output(tool, chunk)

    def tool_output_denied(self, call_id: str) -> list[UIChunk]:
        """The user did not allow the call. v5: an error of the tool."""
        if self.profile == "v5":
            return self.tool_output_error(call_id, "The tool call was not allowed.")
        return self._output(
            self._unanswered(call_id), make("tool-output-denied", toolCallId=call_id)
        )

    def tool_approval_request(
        self,
        call_id: str,
        approval_id: str,
        *,
        reason: str | None = None,
        automatic: bool = False,
        signature: str | None = None,
    ) -> list[UIChunk]:
        """The call waits for the user. v5: a `data-approval` part with this id, for the front end
        to show.
        """
        self._unanswered(call_id)
        string("approval_id", approval_id)
        optional("reason", reason)
        optional("signature", signature)
        if self.profile == "v5":
            return self.data(
                "approval",
                present(approvalId=approval_id, toolCallId=call_id, reason=reason),
                part_id=approval_id,
            )
        extras = (
            {"reason": reason, "isAutomatic": automatic or None} if self.profile == "v7" else {}
        )
        return self._plain(
            "tool-approval-request",
            approvalId=approval_id,
            toolCallId=call_id,
            signature=signature,
            **extras,
        )

    def tool_approval_response(
        self, approval_id: str, approved: bool, *, reason: str | None = None
    ) -> list[UIChunk]:
        """The user's decision. v5 and v6: changes the `data-approval` part with this id."""
        string("approval_id", approval_id)
        optional("reason", reason)
        if self.profile == "v7":
            return self._plain(
                "tool-approval-response",
                approvalId=approval_id,
                approved=bool(approved),
                reason=reason,
            )
        return self.data(
            "approval",
            present(approvalId=approval_id, approved=bool(approved), reason=reason),
            part_id=approval_id,
        )

    # --- everything else ---

    def source_url(
        self,
        source_id: str,
        url: str,
        title: str | None = None,
        provider_metadata: ProviderMetadata | None = None,
    ) -> list[UIChunk]:
        """A web page that the answer cites."""
        string("source_id", source_id)
        metadata = provided(provider_metadata)
        return self._plain(
            "source-url",
            sourceId=source_id,
            url=string("url", url),
            title=optional("title", title),
            providerMetadata=metadata,
        )

    def source_document(
        self,
        source_id: str,
        media_type: str,
        title: str,
        filename: str | None = None,
        provider_metadata: ProviderMetadata | None = None,
    ) -> list[UIChunk]:
        """A document that the answer cites."""
        return self._plain(
            "source-document",
            sourceId=string("source_id", source_id),
            mediaType=string("media_type", media_type),
            title=string("title", title),
            filename=optional("filename", filename),
            providerMetadata=provided(provider_metadata),
        )

    def file(
        self, url: str, media_type: str, provider_metadata: ProviderMetadata | None = None
    ) -> list[UIChunk]:
        """A file from the answer; `url` may be a data URL."""
        metadata = provided(provider_metadata)
        return self._plain(
            "file",
            url=string("url", url),
            mediaType=string("media_type", media_type),
            providerMetadata=metadata,
        )

    def reasoning_file(self, url: str, media_type: str) -> list[UIChunk]:
        """A file that belongs to the reasoning. v5 and v6: a file."""
        if self.profile != "v7":
            return self.file(url, media_type)
        return self._plain(
            "reasoning-file", url=string("url", url), mediaType=string("media_type", media_type)
        )

    def data(
        self, name: str, data: Any, *, part_id: str | None = None, transient: bool = False
    ) -> list[UIChunk]:
        """A `data-<name>` part of the application. The same name and id replaces it; `transient`:
        only for `onData`.
        """
        if not string("name", name):
            raise Misuse("a data part needs a name")
        known, value = optional("part_id", part_id), clean(data)
        chunks = self._plain(f"data-{name}", id=known, transient=transient or None)
        chunks[-1]["data"] = value
        return chunks

    def custom(self, kind: str, provider_metadata: ProviderMetadata | None = None) -> list[UIChunk]:
        """A part of a provider's own kind (`provider.type`). v5 and v6: a `data-custom` part."""
        if "." not in string("kind", kind):
            raise Misuse("a kind looks like provider.type")
        metadata = provided(provider_metadata)
        if self.profile == "v7":
            return self._plain("custom", kind=kind, providerMetadata=metadata)
        return self.data("custom", present(kind=kind, providerMetadata=metadata))

    def steering_message(
        self, message_id: str, parts: Iterable[Mapping[str, Any]]
    ) -> list[UIChunk]:
        """A user's message during the answer. v5 and v6: a `data-steering-message` part."""
        given = {"id": string("message_id", message_id), "parts": clean(list(parts))}
        if self.profile == "v7":
            return self._plain("steering-message", **given)
        return self.data("steering-message", given, part_id=message_id)

    # --- how ---

    def _begun(self) -> list[UIChunk]:
        """Every chunk passes here: nothing follows an end, and a message is started when needed."""
        if self.ended:
            raise Misuse("the message has ended")
        return [] if self._started else self.start()

    def _plain(self, kind: str, /, **fields: Any) -> list[UIChunk]:
        return [*self._begun(), make(kind, **fields)]

    def _end(self, chunk: UIChunk) -> list[UIChunk]:
        chunks = [*self._begun(), *(self.finish_step() if self._in_step else self.close()), chunk]
        self.ended = True
        return chunks

    def _reason(self, reason: str) -> str:
        known = reason in _REASONS or (reason == "interrupted" and self.profile == "v7")
        return reason if known else "other"

    def _running(self, kind: TextKind, delta: str) -> list[UIChunk]:
        if not string("delta", delta):
            return []
        chunks = self._begun()
        if self._open != {kind: kind}:
            chunks += self.close() + self._part_start(kind, kind, None)
        return [*chunks, {"type": f"{kind}-delta", "id": kind, "delta": delta}]

    def _part_start(
        self, kind: TextKind, part_id: str, metadata: ProviderMetadata | None
    ) -> list[UIChunk]:
        if string("part_id", part_id) in self._open:
            raise Misuse(f"a part {part_id!r} is open")
        chunks = self._plain(f"{kind}-start", id=part_id, providerMetadata=provided(metadata))
        self._open[part_id] = kind
        return chunks

    def _part_delta(
        self, kind: TextKind, part_id: str, delta: str, metadata: ProviderMetadata | None
    ) -> list[UIChunk]:
        self._need_open(kind, part_id)
        return self._plain(
            f"{kind}-delta",
            id=part_id,
            delta=string("delta", delta),
            providerMetadata=provided(metadata),
        )

    def _part_end(
        self, kind: TextKind, part_id: str, metadata: ProviderMetadata | None
    ) -> list[UIChunk]:
        self._need_open(kind, part_id)
        chunks = self._plain(f"{kind}-end", id=part_id, providerMetadata=provided(metadata))
        del self._open[part_id]
        return chunks

    def _need_open(self, kind: TextKind, part_id: str) -> None:
        if self._open.get(part_id) != kind:
            raise Misuse(f"no {kind} part {part_id!r} is open")

    def _call(
        self,
        executed: bool,
        title: str | None,
        tool_metadata: Mapping[str, Any] | None,
        metadata: ProviderMetadata | None,
    ) -> dict[str, Any]:
        newer, title = self.profile != "v5", optional("title", title)
        return {
            "providerExecuted": executed or None,
            "title": title if newer else None,
            "toolMetadata": mapping("tool_metadata", tool_metadata) if newer else None,
            "providerMetadata": provided(metadata),
        }

    def _input(
        self,
        kind: str,
        call_id: str,
        name: str,
        dynamic: bool,
        extras: dict[str, Any],
        **fields: Any,
    ) -> list[UIChunk]:
        executed = extras["providerExecuted"]
        before = self._tools.get(call_id)
        if before is not None and before.executed and not executed:
            extras["providerExecuted"] = False  # clients keep what no chunk takes back
        chunks = self._plain(
            kind,
            toolCallId=string("call_id", call_id),
            toolName=string("name", name),
            dynamic=dynamic or None,
            **extras,
        )
        chunks[-1].update(fields)  # an input that is null stays
        self._tools[call_id] = _ToolState(name, dynamic, executed=bool(executed))
        return chunks

    def _tool(self, call_id: str) -> _ToolState:
        tool = self._tools.get(string("call_id", call_id))
        if tool is None and self._any_tool:
            tool = self._tools[call_id] = _ToolState("", dynamic=False)
        if tool is None:
            raise Misuse(f"there is no tool call {call_id!r}")
        return tool

    def _unanswered(self, call_id: str) -> _ToolState:
        tool = self._tool(call_id)
        if tool.done:
            raise Misuse(f"tool call {call_id!r} has its output")
        return tool

    def _output(self, tool: _ToolState, chunk: UIChunk, *, done: bool = True) -> list[UIChunk]:
        chunks = [*self._begun(), chunk]
        tool.done = done
        tool.executed = tool.executed or "providerExecuted" in chunk
        return chunks
