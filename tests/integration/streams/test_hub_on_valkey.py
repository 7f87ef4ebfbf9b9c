"""The hub and its pub/sub on a real Valkey that is restarted and whose connections are killed."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.listening import closing, listening
from tests.servers.service import free_port
from tests.valkey import Valkey
from tests.waiting import until
from tokenwire.protocol.events import Chunk, Reset
from tokenwire.streams.hub import hub, pubsub
from tokenwire.streams.hub.hub import Hub, RedisPubSub, Tail
from tokenwire.streams.log.ports import Claim, LogUnavailable, Lost
from tokenwire.streams.log.redis import RedisLog

LEASE = 60.0
PATIENCE = 20.0


class Rig:
    """A hub, and a writer of one conversation with its own log."""

    def __init__(self, url: str) -> None:
        self.writing = RedisLog(url)
        self.reading = RedisLog(url)
        self.pubsub = RedisPubSub(url)
        self.hub = Hub(self.reading, self.pubsub)
        self.claim = Claim("c", "m", "", 0)
        self.index = 0

    async def begin(self) -> None:
        await self.hub.start()
        self.claim = await self.writing.claim("c", "m", 0, LEASE)

    async def go_on(self) -> None:
        """Continue as a worker does after Lost."""
        try:
            self.claim = await self.writing.rejoin(self.claim, self.index, LEASE)
        except Lost:
            page = await self.writing.read("c", None, 0, 0)
            told = [Reset("m", 1, 0, 0, 0), *[Chunk("m", 1, 0, "x", 0)] * 2]
            self.claim, _ = await self.writing.adopt(self.claim, page.cursor, told, LEASE)
            self.index = 0

    async def write(self, count: int = 1) -> int:
        appended = await self.writing.append(
            self.claim, self.index, 0, [Chunk("m", 1, 0, "x", 0)] * count
        )
        self.index += 1
        return appended.last_seq


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Rig]:
    rig = Rig(url)
    try:
        await rig.begin()
        yield rig
    finally:
        await rig.hub.aclose()
        await rig.reading.aclose()
        await rig.writing.aclose()


@pytest.fixture
async def rig(valkey: Valkey) -> AsyncIterator[Rig]:
    async with running(valkey.url) as made:
        yield made


class Watcher:
    """Records each seq that a tail brings."""

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self.seen: list[int] = []
        self.cursor = tail.top
        self.epoch = tail.epoch
        tail.listen(self.wake)

    def wake(self) -> None:
        if self.tail.epoch != self.epoch:
            self.epoch, self.cursor, self.seen = self.tail.epoch, self.tail.top, []
            return
        entries = self.tail.since(self.cursor)
        assert entries is not None
        self.seen += [entry.seq for entry in entries]
        self.cursor = self.tail.top

    async def reaches(self, seq: int) -> None:
        await until(lambda: self.cursor == seq)


async def test_a_reader_sees_another_process_write(rig: Rig) -> None:
    """From the opening on, each event once; the last release ends the subscription."""
    await rig.write(3)
    watcher = Watcher(await rig.hub.open("c"))
    for _ in range(20):
        await rig.write(5)
    await watcher.reaches(103)
    assert watcher.seen == list(range(4, 104))


async def test_a_killed_subscription_loses_nothing(rig: Rig, valkey: Valkey) -> None:
    """Pub/sub reconnects, and every tail reads on from its top."""
    watcher = Watcher(await rig.hub.open("c"))
    with valkey.client() as client:
        for _ in range(5):
            await rig.write(3)
            killed = await asyncio.to_thread(
                client.execute_command, "CLIENT", "KILL", "TYPE", "pubsub"
            )
            assert killed == 1
            last = await rig.write(3)
            await watcher.reaches(last)
            await until(lambda: rig.pubsub.connected)
    await rig.write(1)
    await watcher.reaches(31)
    assert watcher.seen == list(range(1, 32))


@pytest.mark.parametrize("lose_data", [False, True])
async def test_a_restarted_server_is_a_new_epoch_for_readers(
    rig: Rig, valkey: Valkey, lose_data: bool
) -> None:
    """Tails notice it themselves and relay what the adopting worker writes."""
    await rig.write(3)
    tail = await rig.hub.open("c")
    old = tail.epoch
    watcher = Watcher(tail)
    await asyncio.to_thread(valkey.restart, lose_data=lose_data)
    await until(lambda: tail.epoch != old)
    with pytest.raises(Lost):
        await rig.write(1)
    await rig.go_on()
    last = await rig.write(4)
    await until(lambda: tail.top == last)
    assert watcher.epoch == rig.claim.epoch
    assert watcher.seen == list(range(watcher.cursor - len(watcher.seen) + 1, last + 1))
    assert len(watcher.seen) >= 4


async def test_a_silent_server_is_disconnected(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection without a reply to PING is replaced."""
    monkeypatch.setattr(pubsub, "PING_SECONDS", 0.1)
    monkeypatch.setattr(pubsub, "CONNECT_SECONDS", 0.2)
    async with running(valkey.url) as rig:
        watcher = Watcher(await rig.hub.open("c"))
        first = rig.pubsub._connection
        valkey.freeze()
        await until(lambda: rig.pubsub._connection is not first)
        valkey.thaw()
        last = await rig.write(2)
        await watcher.reaches(last)
        assert watcher.seen == [1, 2]


async def test_channels_come_and_go_with_readers(
    rig: Rig, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Explicit subscriptions, one per followed conversation, all renewed after a break."""
    monkeypatch.setattr(hub, "GRACE_SECONDS", 0)
    tails = await asyncio.gather(*(rig.hub.open(f"c{n}") for n in range(1200)))
    with valkey.client() as client:
        assert len(client.pubsub_channels("tw2:*")) == 1200
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: len(client.pubsub_channels("tw2:*")) == 1200)
        for tail in tails[1:]:
            rig.hub.release(tail)
        await until(lambda: client.pubsub_channels("tw2:*") == [b"tw2:{c0}"])


def test_the_same_on_uvloop(valkey: Valkey) -> None:
    """The loop of the servers: events, a killed connection, a restarted server."""

    async def scenario() -> None:
        async with running(valkey.url) as rig:
            watcher = Watcher(await rig.hub.open("c"))
            await rig.write(3)
            with valkey.client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            last = await rig.write(2)
            await watcher.reaches(last)
            assert watcher.seen == [1, 2, 3, 4, 5]
            await asyncio.to_thread(valkey.restart)
            await until(lambda: watcher.epoch != rig.claim.epoch)
            with pytest.raises(Lost):
                await rig.write(1)
            await rig.go_on()

    uvloop = pytest.importorskip("uvloop")
    uvloop.run(scenario())


async def test_deletion_reaches_readers(rig: Rig) -> None:
    """At once, whoever follows it."""
    tail = await rig.hub.open("c")
    await rig.writing.delete("c")
    await until(lambda: tail.gone)


async def test_opening_fails_while_the_server_is_away_and_works_when_it_is_back(
    rig: Rig, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LogUnavailable without leftovers; afterwards everything works."""
    monkeypatch.setattr(pubsub, "CONFIRM_SECONDS", 0.3)
    await asyncio.to_thread(valkey.stop)
    with pytest.raises(LogUnavailable):
        await rig.hub.open("other")
    await asyncio.to_thread(valkey.start)
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(LogUnavailable):
                await rig.hub.open("other")
                break


async def test_a_wrong_password_is_no_connection(
    valkey: Valkey, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pub/sub logs it and tries again; the right one works, for a named user too."""
    monkeypatch.setattr(pubsub, "CONFIRM_SECONDS", 0.3)
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "ann", "on", ">pw", "~*", "&*", "+@all")
        client.config_set("requirepass", "s3cret")
    address = f"127.0.0.1:{valkey.port}/0"
    for url in (f"redis://:s3cret@{address}", f"redis://ann:pw@{address}"):
        async with running(url) as rig:
            watcher = Watcher(await rig.hub.open("c"))
            last = await rig.write(1)
            await watcher.reaches(last)
            await rig.writing.release(rig.claim)
    async with aclosing(RedisPubSub(f"redis://:wrong@{address}")) as stranger:
        await stranger.start(lambda _messages: None, lambda _channel: None)
        with pytest.raises(LogUnavailable):
            await stranger.subscribe("tw2:{c}")
    assert "invalid username-password" in caplog.text
    assert "wrong@" not in caplog.text


async def test_rediss_urls(valkey: Valkey, tmp_path: Path) -> None:
    """Log and pub/sub use TLS and check the certificate."""
    context = _certificate(tmp_path)
    port = free_port()
    async with _tls_proxy(port, valkey.port, context):
        async with running(
            f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path / 'cert.pem'}"
        ) as rig:
            watcher = Watcher(await rig.hub.open("c"))
            last = await rig.write(2)
            await watcher.reaches(last)
        async with aclosing(RedisLog(f"rediss://127.0.0.1:{port}/0")) as unknown:
            with pytest.raises(LogUnavailable, match="certificate"):
                await unknown.read("c", None, 0, 1)


def _certificate(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokenwire test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@asynccontextmanager
async def _tls_proxy(port: int, target: int, context: ssl.SSLContext) -> AsyncIterator[None]:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target)
        async with closing(back):
            await asyncio.gather(copy(reader, back), copy(there, writer))

    async with listening(serve, port, context):
        yield
