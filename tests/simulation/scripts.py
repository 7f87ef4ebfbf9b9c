"""The real Lua scripts beside the simulation's log: each call goes to both, and both must answer
and publish the same.

The scripts run on a real server. The simulation answers their questions about time and identity:
`redis` in the scripts is a table that knows the virtual clock and the virtual server, and passes
everything else on. So a schedule's restarts, losses and failovers affect them as they do
`streams.log.memory`.
"""

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import redis

from tests.simulation.redis import Memory, Server
from tokenwire.streams.log import keys, ports
from tokenwire.streams.log import redis as real
from tokenwire.streams.log.wire import KEY_COUNT

_VIRTUAL = b"""
local server = redis
local function ask(how)
  return function(command, ...)
    if command == 'TIME' then
      local now = tonumber(server.call('GET', 'virtual:ms'))
      return {string.format('%.0f', math.floor(now / 1000)),
        string.format('%.0f', now % 1000 * 1000)}
    elseif command == 'INFO' then
      return server.call('GET', 'virtual:info')
    elseif command == 'PUBLISH' then
      server.call('RPUSH', 'virtual:published', ...)
    end
    return how(command, ...)
  end
end
local redis = setmetatable({call = ask(server.call), pcall = ask(server.pcall)}, {__index = server})
"""
METHODS = (
    "claim",
    "append",
    "rejoin",
    "adopt",
    "announce",
    "renew",
    "release",
    "leased",
    "request_cancel",
    "delete",
    "read",
    "pack",
)


class Scripts(real.RedisLog):
    """`RedisLog` whose scripts run at once, in virtual time. `epoch`: the name of one that begins
    in this call.
    """

    def __init__(self, url: str, limits: ports.Limits) -> None:
        super().__init__(url, limits)
        self.client = redis.Redis.from_url(url, protocol=2)
        self.ms = 0
        self.epoch = ""
        self.published: list[tuple[bytes, bytes]] = []
        self._known: dict[bytes, str] = {}

    async def _run(self, script: Any, conversation_id: str, *arguments: Any) -> list[Any]:
        values = (*keys.keys(conversation_id), self.epoch, *self._window, *arguments)
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.set("virtual:ms", self.ms)
            pipeline.evalsha(self._digest(script.text), KEY_COUNT, *values)
            pipeline.lrange("virtual:published", 0, -1)
            pipeline.delete("virtual:published")
            _, reply, published, _ = pipeline.execute()
        self.published = list(zip(published[::2], published[1::2], strict=True))
        if reply[0] != b"OK":
            real._refuse(reply)
        found: list[Any] = reply
        return found

    def _digest(self, text: bytes) -> str:
        if text not in self._known:
            self._known[text] = self.client.script_load(_VIRTUAL + text)
        return self._known[text]

    def be(self, run: int) -> None:
        """Another life of the server."""
        self.client.set(
            "virtual:info",
            f"# Server\r\nrun_id:{run:040x}\r\n# Replication\r\nmaster_replid:{run:040x}\r\n",
        )

    def begin(self, run: int) -> None:
        """With nothing."""
        self.client.flushdb()
        self.be(run)

    def save(self, names: Sequence[str] | None = None) -> dict[bytes, bytes]:
        """These keys, or all keys of logs, as a replica holds them."""
        wanted: list[Any] = (
            self.client.keys("tw2:*") if names is None else [name.encode() for name in names]
        )
        dumped = ((key, self.client.dump(key)) for key in wanted)
        return {key: value for key, value in dumped if value is not None}

    def put_back(self, conversation_id: str, saved: dict[bytes, bytes]) -> None:
        """Let a conversation's log be what it was."""
        self.client.delete(*keys.keys(conversation_id))
        for key, value in saved.items():
            self.client.restore(key, 0, value)

    def fail_over(self, saved: dict[bytes, bytes], run: int) -> None:
        """Be a server that holds only this."""
        self.begin(run)
        for key, value in saved.items():
            self.client.restore(key, 0, value)


class Compared(Server):
    """The simulation's server with the scripts beside it. `differences`: where and about what they
    differed.
    """

    def __init__(self, url: str, clock: Callable[[], float], limits: ports.Limits) -> None:
        # Scripts count whole milliseconds. Fractions keep sums exact, so that a lease ends for both
        # at the same moment.
        exact: Any = lambda: Fraction(int(clock() * 1000), 1000)  # noqa: E731 - no float
        super().__init__(exact, limits)
        self._scripts = Scripts(url, limits)
        self._scripts.begin(self._run)
        self._heard: list[tuple[bytes, bytes]] = []
        self._before: deque[tuple[object, tuple[str, dict[bytes, bytes]]]] = deque(maxlen=1000)
        """The keys of its conversation for each entry of the journal. More of them, since the
        journal takes entries back.
        """
        self.calls = 0
        self.differences: list[str] = []

    def restart(self, *, lose_data: bool = False) -> None:
        """Restart both servers, the one in memory and that of the scripts."""
        super().restart(lose_data=lose_data)
        (self._scripts.begin if lose_data else self._scripts.be)(self._run)

    def save(self) -> Memory:
        """The data of both servers."""
        return {**super().save(), "keys": self._scripts.save()}

    def fail_over(self, saved: Memory) -> None:
        """Fail over on both servers to what was saved."""
        super().fail_over(saved)
        self._scripts.fail_over(saved["keys"], self._run)

    def lose_the_end(self, count: int) -> None:
        """Lose the last writes on both servers."""
        lost = list(self.journal or ())[::-1][:count]
        super().lose_the_end(count)
        for entry in lost:
            self._scripts.put_back(
                *next(saved for of, saved in reversed(self._before) if of is entry)
            )
        self._scripts.be(self._run)

    def note(self, conversation_id: str) -> None:
        """Note the state of a log on both servers."""
        super().note(conversation_id)
        if self.journal is not None:
            self._before.append(
                (
                    self.journal[-1],
                    (conversation_id, self._scripts.save(keys.keys(conversation_id))),
                )
            )

    def close(self) -> None:
        """End the connection."""
        self._scripts.client.close()

    def _publish(self, channel: str, payload: bytes) -> None:
        self._heard.append((channel.encode(), payload))
        super()._publish(channel, payload)

    async def both(self, name: str, *args: Any) -> Any:
        """The answer of the memory log, which the scripts must have given too."""
        conversation_id = getattr(args[0], "conversation_id", args[0])
        exact = [
            Fraction(round(arg * 1000), 1000) if isinstance(arg, float) else arg for arg in args
        ]
        self._heard = []
        here = await _outcome(getattr(Server, name)(self, *exact))
        state = self._states.get(conversation_id)
        self._scripts.ms, self._scripts.epoch = (
            int(self._clock() * 1000),
            state.epoch if state else "none",
        )
        there = await _outcome(getattr(self._scripts, name)(*args))
        self.calls += 1
        if (
            repr(here) != repr(there) or self._heard != self._scripts.published
        ):  # errors are equal if they read alike
            told = (
                f"call {self.calls}, {name}{args}",
                f"memory: {here} {self._heard}",
                f"scripts: {there} {self._scripts.published}",
            )
            self.differences.append("\n  ".join(told))
        if here.refusal is not None:
            raise here.refusal
        return here.answer


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What was answered, or refused."""

    answer: Any = None
    refusal: ports.Refused | None = None


async def _outcome(call: Coroutine[Any, Any, Any]) -> _Outcome:
    try:
        return _Outcome(answer=await call)
    except ports.Refused as refusal:
        return _Outcome(refusal=refusal)


def _compared(name: str) -> Any:
    async def method(self: Compared, *args: Any) -> Any:
        return await self.both(name, *args)

    method.__name__ = name
    return method


for _name in METHODS:
    setattr(Compared, _name, _compared(_name))
