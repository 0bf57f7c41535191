"""Slows down guessing of passwords: failed logins use up an allowance that comes back with time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

ACCOUNT_FAILURES, ACCOUNT_BACK_S = 10, 6.0
"""Failures an address has for one account, and the seconds after which one comes back."""

ADDRESS_FAILURES, ADDRESS_BACK_S = 100, 0.6
"""The same for all accounts together."""

_KNOWN = 10_000


class LoginThrottle:
    """Counts failed logins by client address, and by address and account.

    Parameters
    ----------
    clock : callable
        Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def _buckets(self, address: str, user: str) -> list[tuple[tuple[str, str], int, float]]:
        # an account's key has a letter in front: no account shares the key of a whole address
        return [
            ((address, "u" + user), ACCOUNT_FAILURES, ACCOUNT_BACK_S),
            ((address, ""), ADDRESS_FAILURES, ADDRESS_BACK_S),
        ]

    def _level(self, key: tuple[str, str], back: float) -> float:
        used, at = self._used.get(key, (0.0, 0.0))
        return max(0.0, used - (self._clock() - at) / back)

    def wait(self, address: str, user: str) -> float:
        """Return the seconds until another login may be tried; 0 is now."""
        waits = [
            (self._level(key, back) + 1 - allowed) * back
            for key, allowed, back in self._buckets(address, user)
        ]
        return max(0.0, *waits)

    def failed(self, address: str, user: str) -> None:
        """Note a failed login."""
        for key, _, back in self._buckets(address, user):
            self._used[key] = (self._level(key, back) + 1, self._clock())
            self._used.move_to_end(key)
        while len(self._used) > _KNOWN:
            self._used.popitem(last=False)

    def succeeded(self, address: str, user: str) -> None:
        """Forget an account's failures."""
        self._used.pop((address, "u" + user), None)
