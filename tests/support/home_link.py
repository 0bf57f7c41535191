"""A session's connection to the home server that has logged in, without a client before it."""

import struct

from proxy.home.conversation import Conversation
from shard.wire.packets import packet

_LOCAL_FILES, _PROTOCOL_41, _SECURE, _EOF_IS_OK = 1 << 7, 1 << 9, 1 << 15, 1 << 24


async def logged_in(address):
    """Return it, of account root."""
    link = await Conversation.open(address)
    _, greeting = await link.packet()
    link.deprecate_eof = True
    link.thread_id = int.from_bytes(greeting[greeting.index(b"\0") + 1 :][:4], "little")
    flags = _LOCAL_FILES | _PROTOCOL_41 | _SECURE | _EOF_IS_OK
    await link.send(packet(struct.pack("<IIB23x", flags, 1 << 24, 45) + b"root\0\0", 1))
    assert (await link.packet())[1][:1] == b"\0"
    return link
