"""Bad copies are known until the catalogue changes, or for a while."""

from proxy.execute.copies import FORGET_S, MANY, Copies

PLACEMENT = {1: (7, 8), 2: (7, 8), 3: (8,)}


def test_a_bad_copy_is_known_to_later_queries_of_its_database():
    copies = Copies(lambda: 0.0)
    copies.note("lab", 5, 1, 7)
    assert copies.bad("lab", 5, PLACEMENT) == {(1, 7)}
    assert copies.bad("other", 5, PLACEMENT) == set()


def test_it_is_forgotten_with_the_next_version():
    copies = Copies(lambda: 0.0)
    copies.note("lab", 5, 1, 7)
    assert copies.bad("lab", 6, PLACEMENT) == set()
    copies.note("lab", 5, 1, 7)  # by a query that was planned before
    assert copies.bad("lab", 6, PLACEMENT) == set()


def test_it_is_tried_again_after_a_while():
    now = 0.0
    copies = Copies(lambda: now)
    copies.note("lab", 5, 1, 7)
    now = FORGET_S + 1
    assert copies.bad("lab", 5, PLACEMENT) == set()
    assert len(copies) == 0


def test_many_of_a_worker_stand_for_all():
    copies = Copies(lambda: 0.0)
    for chunk in range(100, 100 + MANY):
        copies.note("lab", 5, chunk, 8)
    assert copies.bad("lab", 5, PLACEMENT) == {(1, 8), (2, 8), (3, 8)}
