"""``make bench``: every benchmark, one after the other, each in a process of its own.

``make bench ARGS="live --duration 2m"`` runs one of them with its own options.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def main() -> int:
    """Run the named benchmark, or all; the first exit code that is not 0."""
    name, *options = sys.argv[1:] or [""]
    if name and name not in NAMES:
        print(f"no benchmark {name}: there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for each in [name] if name else NAMES:
        print(f"--- {each}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"bench.bench_{each}", *options], check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
