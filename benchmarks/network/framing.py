"""Where HTTP/1.1 messages begin and end in a stream that goes by: counted, not understood; nothing is kept of a body."""

from collections import deque
from collections.abc import Callable

_END = b"\r\n\r\n"
_LONGEST_HEAD = 65536


class Unframed(Exception):
    """What goes by is no HTTP with heads of reasonable length and lengths that are told."""


class Messages:
    """One direction of one connection. `length_of` tells from a head how many bytes of body follow it."""

    def __init__(self, length_of: Callable[[bytes], int]) -> None:
        self._length_of = length_of
        self._head = bytearray()
        self._left = 0
        self.heads = 0
        self.body_bytes = 0

    def feed(self, data: bytes | memoryview) -> None:
        """The next bytes, however they are cut. Raises Unframed."""
        view = memoryview(data)
        while view:
            view = self._body(view) if self._left else self._more_of_head(view)

    def _body(self, view: memoryview) -> memoryview:
        taken = min(self._left, len(view))
        self._left -= taken
        self.body_bytes += taken
        return view[taken:]

    def _more_of_head(self, view: memoryview) -> memoryview:
        known = len(self._head)
        self._head += view[:_LONGEST_HEAD]
        end = self._head.find(_END, max(0, known - len(_END)))
        if end < 0:
            if len(self._head) >= _LONGEST_HEAD:
                raise Unframed("a head without end")
            return view[len(view) :]
        head = bytes(self._head[:end])
        self._head.clear()
        self.heads += 1
        self._left = self._length_of(head)
        return view[end + len(_END) - known :]


class Exchange:
    """Both directions of one connection: requests without bodies, and what answers them, in order."""

    def __init__(self, asked: Callable[[bytes], None]) -> None:
        self._asked = asked
        self._methods: deque[bytes] = deque()
        self.requests = Messages(self._request)
        self.answers = Messages(self._answer)

    def _request(self, head: bytes) -> int:
        method, _, rest = head.partition(b" ")
        self._methods.append(method)
        self._asked(rest.partition(b" ")[0])
        return _length(head)

    def _answer(self, head: bytes) -> int:
        status = head.partition(b" ")[2][:3]
        if status.startswith(b"1"):
            return 0
        if not self._methods:
            raise Unframed("an answer that nobody asked for")
        if self._methods.popleft() == b"HEAD" or status in (b"204", b"304"):
            return 0
        return _length(head)


def _length(head: bytes) -> int:
    """Of the body. Raises Unframed where it is told by other means than its length."""
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        match name.strip().lower(), value.strip():
            case b"content-length", digits if digits.isdigit():
                length = int(digits)
            case b"transfer-encoding", _:
                raise Unframed("a body of unknown length")
    return length
