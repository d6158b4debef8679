"""What every test may use: a folder of its own, the shared example data where it is there, and a real broker."""

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from lakehouse.datadir import DataDir
from lakehouse.topics import TOPICS
from wardhouse.broker import Broker
from wardhouse.settings import Settings
from wardhouse.topics import ensure

# A process of pytest-xdist has a main module without a file: pyspark takes that for a run of its doctests, and ends it.
sys.modules["__main__"].__dict__.setdefault("__file__", pytest.__file__)
# Most Java machines of the tests live for less than a minute, in which the second compiler costs more than it saves.
# With the first alone Java has room for 48 MB of code, which a session fills within minutes: then it compiles no more.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m")
# A test that hypothesis feeds makes a hundred inputs; a night may be spent on more.
if examples := os.environ.get("WARD_FUZZ_EXAMPLES"):
    settings.register_profile("fuzz", max_examples=int(examples), deadline=None)
    settings.load_profile("fuzz")


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """An empty data dir."""
    return DataDir(tmp_path / "ward")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets; each test that needs it has a twin on a small generated fixture."""
    place = os.environ.get("WARD_SHARED_DATA")
    if place is None:
        pytest.skip("WARD_SHARED_DATA does not name a folder of public data sets")
    return Path(place)


@pytest.fixture(scope="session")
def jars() -> Path:
    """The folder that set-up filled."""
    return Settings().jars.resolve()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, jars: Path) -> Iterator[str]:
    """Bootstrap servers of a real broker, one for all tests: each takes topics of its own by ``topics``."""
    with Broker(DataDir(tmp_path_factory.mktemp("broker")), jars) as running:
        yield running.address


_runs = itertools.count()


@pytest.fixture
def topics(broker: str) -> Callable[[], dict[str, str]]:
    """Call it for a fresh set of every declared topic: their names on the broker by declared name."""

    def make() -> dict[str, str]:
        run = next(_runs)
        names = {topic.name: f"{topic.name}.{run}" for topic in TOPICS}
        ensure(broker, TOPICS, names)
        return names

    return make
