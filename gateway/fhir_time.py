"""FHIR dateTime and instant."""

import re
from datetime import UTC, datetime
from typing import Any

from gateway.fhir_error import refused
from gateway.site import NoZoneError, Site

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MICROSECONDS = re.compile(r"(\.\d{6})\d+")


def instant(text: Any, site: Site, expression: str) -> datetime:
    """A FHIR dateTime as an aware instant. Raises FhirError.

    A day begins at midnight of the site's zone, or UTC. A month or a year is no time of a measurement.
    """
    try:
        moment = datetime.fromisoformat(_MICROSECONDS.sub(r"\1", text))
    except (TypeError, ValueError) as error:  # the library takes a number too, as seconds of the epoch: FHIR does not
        raise refused("value", f"{text} names no instant or day", expression) from error
    if moment.tzinfo is not None:
        return moment
    if _DAY.fullmatch(text):
        return moment.replace(tzinfo=site.zone or UTC)
    if site.zone is None:
        raise refused("value", str(NoZoneError(text)), expression)
    return moment.replace(tzinfo=site.zone)
