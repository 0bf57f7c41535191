"""Who a session is, and what its user may use: connections and running queries are counted from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.session.limits import Limits, Usage

if TYPE_CHECKING:
    from proxy.jobs.accounts import Lent


class Standing:
    """A session's user, from its login to its end.

    Parameters
    ----------
    usage : Usage
        What this proxy's users have open.

    Attributes
    ----------
    user : str
        Whose the session is; of a job, the user who submitted it.
    job : Lent or None
        The account that a job has been lent: it has limits of its own, and its queries are not its user's.
    """

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self.user = ""
        self.job: Lent | None = None
        self._counted = False

    @property
    def limits(self) -> Limits:
        """What its statements may use."""
        return self._usage.of(self.user) if self.job is None else self.job.limits

    def enter(self, user: str, job: Lent | None) -> None:
        """Count the session for `user`, or mark it as a job's; the previous user's count is released.

        Raises
        ------
        SkyError
            USER_LIMIT: the user has as many as he may; then it is nobody's.
        """
        self.leave()
        self.job = job
        if job is not None:
            self.user = job.user
            return
        self._usage.enter(user)
        self.user, self._counted = user, True

    def leave(self) -> None:
        """Count it no more."""
        if self._counted:
            self._usage.leave(self.user)
            self._counted = False

    def begin_query(self) -> None:
        """Count a query of its user's.

        Raises
        ------
        SkyError
            USER_LIMIT: that is one too many.
        """
        if self.job is None:
            self._usage.begin(self.user)

    def end_query(self) -> None:
        """Count it no more."""
        if self.job is None:
            self._usage.end(self.user)
