"""Remembers what was decided about queries with parameters: programs prepare the same few texts again and again.

A decision depends on the text, the session's settings, the catalogue and the known views. If the text may name a view, it
depends on the view's definition as well, and is not remembered.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict

from proxy.home.metadata import CatalogueSnapshot
from proxy.home.settings import SessionSettings
from proxy.home.views import HomeViews
from proxy.session.engine import Distributed, Route

State = tuple[CatalogueSnapshot, frozenset[tuple[str, str]], frozenset[tuple[str, str]]]
"""The catalogue, and the views that read its sharded and its replicated tables."""
MOST = 200
"""Queries; each keeps its tree."""
MOST_CHARACTERS = 4096
"""A longer query is not remembered."""


class RouteCache:
    """Routes of queries with parameters, by text and settings.

    Parameters
    ----------
    views : HomeViews
        What is known of views; once it is another, all is forgotten.
    """

    def __init__(self, views: HomeViews) -> None:
        self._views = views
        self._known: OrderedDict[tuple[object, ...], Distributed] = OrderedDict()
        self._under: State | None = None

    def state(self, contents: CatalogueSnapshot) -> State:
        """Return what decisions depend on at this moment: the catalogue and the known views."""
        return contents, self._views.names, self._views.replicated

    def get(self, text: str, settings: SessionSettings, contents: CatalogueSnapshot) -> Distributed | None:
        """Return the route of a query, if it was decided about under such settings and this very catalogue."""
        if not self._known or len(text) > MOST_CHARACTERS or not _same(self._under, self.state(contents)):
            return None
        key = text, settings.meaning
        found = self._known.get(key)
        if found is None:
            return None
        self._known.move_to_end(key)
        return dataclasses.replace(found, settings=settings)

    def keep(self, text: str, settings: SessionSettings, under: State, route: Route) -> None:
        """Remember a decision, if another session may be given it; `under` is the state before it was made."""
        if not isinstance(route, Distributed) or not route.statement.parameters:
            return
        if (
            len(text) > MOST_CHARACTERS
            or self._views.may_be_in(text)
            or not _same(under, self.state(route.contents))
        ):
            return
        if not _same(self._under, under):
            self._known.clear()
            self._under = under
        self._known[text, settings.meaning] = route
        if len(self._known) > MOST:
            self._known.popitem(last=False)


def _same(first: State | None, second: State) -> bool:
    """Whether two states have the very same catalogue and equal views."""
    return first is not None and first[0] is second[0] and first[1:] == second[1:]
