"""`python -m benchmarks [name ...]`: the named benchmarks, or all of them, each in its own
process.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    known = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    wanted = sys.argv[1:] or known
    if unknown := [name for name in wanted if name not in known]:
        sys.stderr.write(
            f"no such benchmark: {', '.join(unknown)} (there are {', '.join(known)})\n"
        )
        return 2
    failed = 0
    for name in wanted:
        print(f"\n## {name.replace('_', ' ')}\n", flush=True)
        failed += (
            subprocess.run(
                [sys.executable, "-m", f"benchmarks.{name}"], cwd=HERE.parent, check=False
            ).returncode
            != 0
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
