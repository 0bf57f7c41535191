from collections.abc import Sequence

class Keyer:
    width: int
    def __init__(
        self, keys: Sequence[tuple[int, int, int, bool]], hidden: int, types: bytes = b""
    ) -> None: ...
    def keyed(self, block: bytes | bytearray | memoryview) -> bytes: ...
