"""Durable, resumable language-model replies: `tokenwire.client`, `tokenwire.providers`, `tokenwire.web` and the others.

In a checkout the packages are links to the folders beside this one; a wheel holds the folders themselves. One name for everything keeps
the packages `models`, `config` and `worker` of a host application apart from ours.
"""

from pathlib import Path

__version__ = "0.1.0"

if not Path(__file__).with_name("config").is_dir():
    # git writes links as small text files where links are switched off, as on Windows by default.
    raise ImportError(
        "this checkout has no links: clone it with `git clone -c core.symlinks=true`, or install the package"
    )
