"""What commands about an ECG need beside the core installation."""

from importlib.util import find_spec

from wardhouse.errors import Failure


def require_packages() -> None:
    """Raise Failure where the group ``ecg`` is not installed."""
    if find_spec("wfdb") is None:
        raise Failure("the packages of ECG are not installed: `uv sync --group ecg` brings them")
