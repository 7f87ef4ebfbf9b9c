"""launcher.__main__: which environment each process gets."""

from tokenwire.config.settings import ROOT, Settings
from tokenwire.launcher.__main__ import _environments
from tokenwire.launcher.procfile import commands


def test_metrics_begin_at_the_given_port() -> None:
    """Each of our processes takes the next port. The embedded server comes first and takes none."""
    processes = commands(
        "\n".join((ROOT / name).read_text() for name in ("Procfile.dev", "Procfile")),
        {},
        {"worker": 2},
    )
    environment_of = _environments(Settings(mode="development", metrics_port=9100), {}, processes)
    ports = {command.name: environment_of(command).get("METRICS_PORT") for command in processes}
    assert ports == {
        "redis": None,
        "web": "9100",
        "broadcaster": "9101",
        "worker.1": "9102",
        "worker.2": "9103",
    }
