"""How long a proxy may answer from an older catalogue, and how long whoever changes it waits for that.

Both stand here because tables may be dropped or replaced only after every proxy has stopped to plan queries on them:
the one must be longer than the other.
"""

from __future__ import annotations

LEASE_S = 1.0
"""Seconds that what a proxy read of the metadata is true for; a proxy that cannot read it again refuses queries then."""
GRACE_S = 2 * LEASE_S
"""Seconds between a change of the metadata and the first statement that touches a table which older plans name."""
NOTICE_S = 1.0
"""Seconds within which proxies notice a commit; they look every half second."""
