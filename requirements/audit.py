"""Whether a locked package has a known hole. Knows the locks; asks PyPI's database by pip-audit.

    python requirements/audit.py

Exit status 1 where one has. A machine that reaches packages through a mirror alone may not reach
the database: that is said, and is no failure, as nothing was found out. pip-audit would pass there,
because it takes a version that it cannot find for one without holes.
"""

import subprocess
import sys
from pathlib import Path

import httpx

DATABASE = "https://pypi.org/pypi"
HOLED = "urllib3/1.24.1"
"""A version whose holes the database has listed since 2019."""
LOCKS = sorted(Path(__file__).parent.rglob("*.txt"))


def obstacle(http: httpx.Client) -> str | None:
    """Why the database cannot be asked; None if it can."""
    try:
        answer = http.get(f"{DATABASE}/{HOLED}/json")
        holes = answer.json().get("vulnerabilities") if answer.is_success else []
    except httpx.HTTPError as error:
        return str(error)
    except ValueError:
        return "what answers there is not JSON"
    if not answer.is_success:
        return f"status {answer.status_code} for {HOLED}"
    return None if holes else f"what answers there knows of no hole in {HOLED}"


def main() -> int:
    """Audits every lock, or says why not."""
    with httpx.Client(timeout=20, follow_redirects=True) as http:
        if why := obstacle(http):
            sys.stdout.write(f"could not reach {DATABASE} ({why}); locks not audited, skipped\n")
            return 0
    return max(audit(lock) for lock in LOCKS)


def audit(lock: Path) -> int:
    """pip-audit's exit status for one lock; on its own, as locks of tools pin otherwise."""
    options = ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "-r", str(lock)]
    return subprocess.run([sys.executable, "-m", "pip_audit", *options], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
