"""A request's body: of a declared kind, and within the limit."""

from fastapi import Request

from gateway.problem import Problem


async def read_body(request: Request, limit: int, kinds: tuple[str, ...]) -> tuple[bytes, str]:
    """The whole body and its media type, one of ``kinds``. Raises Problem.

    A body over the limit is refused as soon as that is known, without keeping the rest.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in kinds:
        raise Problem(415, f"send {' or '.join(kinds)}")
    too_large = Problem(413, f"the body is larger than {limit} bytes; send less at a time")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body), kind
