"""HL7 v2 messages: reading, and answering. Pure. What they mean is in gateway.hl7v2_records.

The library hl7 splits a message. Escape sequences and times are read here: its own reading logs the field, which is a
patient's data, and repeats a sequence as often as it asks.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import hl7

from gateway.site import NoZoneError

_CHARSETS = {
    "": "utf-8",
    "ASCII": "ascii",
    "UNICODE UTF-8": "utf-8",
    "UNICODE": "utf-8",
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
}
_TYPES = {("ORU", "R01"), ("ADT", "A01"), ("ADT", "A02"), ("ADT", "A03"), ("ADT", "A08")}
_VERSION = re.compile(r"2\.[1-9](\..*)?")
_TIME = re.compile(r"(\d{8})(\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?\d*)?)?)?([+-]\d{4})?")
_HEX = re.compile(r"X((?:[0-9A-Fa-f]{2})+)")
_MOST_TEXT = 200  # of a reason in an answer

_CONTENT, _TYPE, _EVENT, _VERSION_CODE = "207", "200", "201", "203"


@dataclass(frozen=True)
class Header:
    """What an answer takes from the message that it answers; separators as the message has them."""

    field: str = "|"
    encoding: str = "^~\\&"
    application: str = ""
    facility: str = ""
    to_application: str = ""
    to_facility: str = ""
    kind: str = ""
    event: str = ""
    control_id: str = ""
    processing: str = "P"
    version: str = "2.5.1"
    charset: str = ""


class RejectedError(Exception):
    """A message that is not taken: ``code`` is AR (type, version, not HL7) or AE (its content), the text says why."""

    def __init__(self, code: str, text: str, condition: str = _CONTENT, header: Header | None = None) -> None:
        super().__init__(text)
        self.code, self.condition, self.header = code, condition, header or Header()


@dataclass(frozen=True)
class Message:
    """A message that is of a kind we take."""

    header: Header
    segments: tuple["Segment", ...]
    zone: tzinfo | None
    """The offset of MSH-7, which holds for all times of the message that say none."""

    def named(self, name: str) -> Iterator["Segment"]:
        """The segments of this name, in order."""
        return (segment for segment in self.segments if segment.name == name)

    def first(self, name: str) -> "Segment | None":
        """The first segment of this name."""
        return next(self.named(name), None)


class Segment:
    """One segment; fields, components and the like are counted from 1, and empty where they are missing."""

    def __init__(self, content: Any, header: Header) -> None:
        self._content, self._header = content, header
        self.name = str(content[0])

    def text(self, field: int, component: int = 1, *, subcomponent: int = 1, repeat: int = 1) -> str:
        """A text without escape sequences and blanks around it; ``""`` (delete) is as none."""
        found = self._content(field) if field < len(self._content) else ""
        for number in (repeat, component, subcomponent):
            # The library splits no further than a text goes: what is not split is the first of its parts.
            if not isinstance(found, hl7.Container):
                found = found if number == 1 else ""
            else:
                found = found[number - 1] if number <= len(found) else ""
        while isinstance(found, hl7.Container):
            found = found[0] if found else ""
        text = unescape(found, self._header).strip()
        return "" if text == '""' else text

    def repeats(self, field: int) -> range:
        """The numbers of a field's repetitions."""
        return range(1, len(self._content(field)) + 1) if field < len(self._content) else range(0)


def read(raw: bytes) -> Message:
    """The message of a frame. Raises RejectedError for what is not HL7 v2 of a kind we take."""
    text = _decoded(raw)
    header = _header(text.split("\r")[0])
    if (header.kind, header.event) not in _TYPES:
        taken = ", ".join(sorted("^".join(one) for one in _TYPES))
        condition = _EVENT if header.kind in {kind for kind, _ in _TYPES} else _TYPE
        raise RejectedError("AR", f"{header.kind}^{header.event} is not taken: {taken}", condition, header)
    if not _VERSION.fullmatch(header.version):
        raise RejectedError("AR", f"version {header.version or 'none'} is not taken: 2.x is", _VERSION_CODE, header)
    if not header.control_id:
        raise RejectedError("AR", "MSH-10, the message control id, is empty", _CONTENT, header)
    try:
        split = hl7.parse(text)
    except (hl7.HL7Exception, ValueError, IndexError, KeyError) as error:
        raise RejectedError("AR", "the segments cannot be told apart", _CONTENT, header) from error
    segments = tuple(Segment(one, header) for one in split if str(one[0]))
    sent = segments[0].text(7)
    return Message(header, segments, offset(sent))


def _decoded(raw: bytes) -> str:
    """The text, by MSH-18, with a carriage return behind each segment. Raises RejectedError."""
    head = read_header(raw)
    charset = _CHARSETS.get(head.charset)
    if charset is None:
        raise RejectedError("AE", f"MSH-18 names the charset {head.charset}, which is not read", _CONTENT, head)
    try:
        text = raw.decode(charset).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        told = head.charset or "UTF-8, as MSH-18 is empty"
        raise RejectedError("AE", f"byte {error.start} is not {told}", _CONTENT, head) from error
    return "\r".join(line for line in re.split(r"[\r\n]+", text.strip()) if line)


def read_header(raw: bytes) -> Header:
    """The header of a message whose charset is not known yet, or of its beginning. Raises RejectedError."""
    return _header(raw.lstrip(b"\xef\xbb\xbf\r\n ").split(b"\r")[0].split(b"\n")[0].decode("latin-1"))


def _header(line: str) -> Header:
    """The header, read without the library: an answer needs it even where the rest is broken. Raises RejectedError."""
    if not line.startswith("MSH") or len(line) < len("MSH|^~\\&"):
        raise RejectedError("AR", "the message does not begin with a segment MSH")
    field = line[3]
    encoding = line.split(field)[1]
    # Some senders write the escape character twice, which does no harm; others named twice cannot be told apart.
    parts = encoding.replace(encoding[2] * 2, encoding[2], 1) if len(encoding) > 3 else encoding
    distinct = len(set(parts)) == len(parts)
    if field.isalnum() or field.isspace() or not 3 <= len(encoding) <= 5 or encoding.isalnum() or not distinct:
        raise RejectedError("AR", "MSH-1 and MSH-2 do not name the separators")
    # MSH-1 is the separator itself, so that MSH-3 is the third of what it parts.
    fields = ["", *line.split(field), *[""] * 20]
    first = [one.split(encoding[0]) for one in fields]
    return Header(
        field=field,
        encoding=encoding,
        application=fields[3],
        facility=fields[4],
        to_application=fields[5],
        to_facility=fields[6],
        kind=first[9][0],
        event=first[9][1] if len(first[9]) > 1 else "",
        control_id=fields[10],
        processing=fields[11] or "P",
        version=first[12][0],
        charset=fields[18].split(encoding[1])[0],
    )


def unescape(text: str, header: Header) -> str:
    """A text without escape sequences: separators, hexadecimal bytes (UTF-8) and line breaks; others are left out."""
    escape = header.encoding[2]
    if escape not in text:
        return text
    known = {name: letter for letter, name in _names(header).items()} | {".br": "\n"}

    def replaced(match: re.Match[str]) -> str:
        sequence = match[1]
        if found := _HEX.fullmatch(sequence):
            return bytes.fromhex(found[1]).decode("utf-8", "replace")
        return known.get(sequence, "")

    return re.sub(f"{re.escape(escape)}([^{re.escape(escape)}]*){re.escape(escape)}", replaced, text)


def offset(text: str) -> tzinfo | None:
    """The offset from UTC that an HL7 time says; None where it says none."""
    match = _TIME.fullmatch(text)
    if match is None or match[3] is None:
        return None
    minutes = int(match[3][1:3]) * 60 + int(match[3][3:])
    return timezone(timedelta(minutes=-minutes if match[3][0] == "-" else minutes)) if minutes < 24 * 60 else None


def instant(text: str, zone: tzinfo | None) -> datetime:
    """An HL7 time (``YYYYMMDD[HH[MM[SS[.SSSS]]]][+ZZZZ]``) as an aware instant.

    ``zone`` is that of times that say none. A day begins at midnight there, or in UTC. Raises ValueError for what is no
    time, and NoZoneError (a ValueError) for a time without an offset where there is no zone.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text} is no time: YYYYMMDDHHMMSS+ZZZZ is")
    day, time, own = match.groups()
    moment = datetime.fromisoformat(f"{day[:4]}-{day[4:6]}-{day[6:]}T{_clock(time or '')}")
    if own is not None and (said := offset(text)) is not None:
        return moment.replace(tzinfo=said)
    if own is not None:
        raise ValueError(f"{text} has no offset that there is")
    if zone is None and time:
        raise NoZoneError(text)
    return moment.replace(tzinfo=zone or UTC)


def _clock(digits: str) -> str:
    whole, _, fraction = digits.partition(".")
    filled = whole.ljust(6, "0")
    return f"{filled[:2]}:{filled[2:4]}:{filled[4:6]}.{fraction[:6].ljust(6, '0')}"


def acknowledgement(header: Header, code: str, now: datetime, text: str = "", condition: str = _CONTENT) -> bytes:
    """The answer to a message: AA, or AE or AR with the reason in MSA-3 and ERR."""
    f, component = header.field, header.encoding[0]
    reason = _escaped(" ".join(text.split())[:_MOST_TEXT], header)
    stamp = now.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
    kind = component.join(["ACK", header.event, "ACK"] if header.event else ["ACK"])
    msh = ["MSH", header.encoding, header.to_application, header.to_facility, header.application, header.facility]
    msh += [stamp, "", kind, header.control_id, header.processing, header.version, *[""] * 5, "UNICODE UTF-8"]
    segments = [msh, ["MSA", code, header.control_id, *([reason] if reason else [])]]
    if code != "AA":
        segments.append(["ERR", "", "", component.join([condition, "", "HL70357"]), "E", "", "", "", reason])
    return "".join(f.join(segment) + "\r" for segment in segments).encode()


def _names(header: Header) -> dict[str, str]:
    """What escape sequences call the separators."""
    return {header.field: "F"} | dict(zip(header.encoding, "SRET", strict=False))


def _escaped(text: str, header: Header) -> str:
    names, escape = _names(header), header.encoding[2]
    return "".join(f"{escape}{names[letter]}{escape}" if letter in names else letter for letter in text)
