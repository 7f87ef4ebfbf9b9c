"""The `tokenwire` command: its help, and the functions that it calls."""

import importlib
from pathlib import Path

import pytest

from tokenwire import __version__, cli
from tokenwire.worker import __main__ as worker


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each command."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert [name for name in (*cli.PROCESSES, "models") if f"\n    {name}" not in shown] == []


@pytest.mark.parametrize("name", cli.PROCESSES)
def test_each_process_calls_its_main(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `main` of its module. Its result is the exit code, and None is success."""
    module = importlib.import_module(cli.PROCESSES[name][1])
    monkeypatch.setattr(module, "main", lambda: 7)
    assert cli.main([name]) == 7
    monkeypatch.setattr(module, "main", lambda: None)
    assert cli.main([name]) == 0


@pytest.mark.parametrize("arguments", [[], ["serve"], ["web", "--port", "1"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A line on standard error, and exit code 2."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "tokenwire: error:" in capsys.readouterr().err


def test_it_prints_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version of the package."""
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"


def test_models_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the catalogue of MODELS_FILE, in the environment or in .env, or from the one on the
    command line.
    """
    mine, other = tmp_path / "mine.yml", tmp_path / "other.yml"
    mine.write_text("models:\n  house: {provider: demo}\n")
    other.write_text("models:\n  garden: {provider: demo}\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"MODELS_FILE={mine}\n")
    assert cli.main(["models"]) == 0
    assert "house" in capsys.readouterr().out
    assert cli.main(["models", "--models-file", str(other)]) == 0
    shown = capsys.readouterr().out
    assert ("garden" in shown, "house" in shown) == (True, False)


def test_a_wrong_catalogue_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line names the place of the mistake."""
    wrong = tmp_path / "models.yml"
    wrong.write_text("models:\n  house: {provider: demo, modle: x}\n")
    with pytest.raises(SystemExit) as ended:
        cli.main(["models", "--models-file", str(wrong)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"{wrong}: house: modle: is not a known key")


def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the extra that brings it."""

    def refused(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="fastapi.routing")

    monkeypatch.setattr(cli.importlib, "import_module", refused)
    assert cli.main(["web"]) == cli.EXIT_UNAVAILABLE
    assert (
        capsys.readouterr().err
        == "tokenwire: `tokenwire web` needs fastapi.routing: pip install 'tokenwire[server]'\n"
    )


def test_a_mistake_of_ours_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not look like a package to install."""

    def refused(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="tokenwire.wbe")

    monkeypatch.setattr(cli.importlib, "import_module", refused)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["web"])


def test_the_worker_is_dramatiqs_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many threads as the setting says."""
    called: list[object] = []
    monkeypatch.setenv("MODE", "development")
    monkeypatch.setenv("WORKER_THREADS", "7")
    monkeypatch.setattr(worker.cli, "main", called.append)
    assert worker.main() == 0
    [given] = map(vars, called)
    assert (
        given["broker"],
        given["processes"],
        given["threads"],
        given["worker_fork_timeout"],
    ) == ("tokenwire.worker.main", 1, 7, 1000)
