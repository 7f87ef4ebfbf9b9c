"""Durable, resumable language-model replies: `tokenwire.client`, `tokenwire.providers`,
`tokenwire.web` and others.

In a checkout the packages are links to the folders beside this one; a wheel holds the folders
themselves. The common name keeps our packages apart from a host application's `models`, `config`
and `worker`.
"""

from pathlib import Path

__version__ = "0.1.0"

if not Path(__file__).with_name("config").is_dir():
    # With links switched off, as on Windows by default, git writes them as small text files.
    raise ImportError(
        "this checkout has no links: clone it with `git clone -c core.symlinks=true`, or "
        "install the package"
    )
