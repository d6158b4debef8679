"""Every source there is, in an explicit tuple."""

from lakehouse.sources import mimic_iii, mimic_iv, monitor_csv
from lakehouse.sources.source import Source

SOURCES: tuple[Source, ...] = (monitor_csv.SOURCE, mimic_iii.SOURCE, mimic_iv.SOURCE)
"""Every source that can be read."""


def source_named(name: str) -> Source:
    """The source of this name; KeyError, which lists the names, otherwise."""
    for source in SOURCES:
        if source.name == name:
            return source
    raise KeyError(f"no source named {name}; there are {', '.join(source.name for source in SOURCES)}")
