"""Addresses of clusters, from a directory and from a URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.address import Address
from skyshard.cluster.connect import from_dir, from_url
from skyshard.cluster.supervisor import LONGEST_BACKOFF_S, backoff
from skyshard.errors import UserError


def test_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("abc\n")
    (tmp_path / "password").write_text("p:w\n")
    found = from_url("mysql://load%40er@db.example:3307/", secret, tmp_path / "password")
    assert found.home == Address("load@er", "p:w", host="db.example", port=3307)
    assert found.secret == b"abc"
    with pytest.raises(UserError, match="use --password-file"):
        from_url("mysql://u:geheim@db.example/", secret)
    assert from_url("mysql://db.example", secret).home == Address(
        "skyshard", "", host="db.example", port=3306
    )
    monkeypatch.setenv("SKYSHARD_HOME_PASSWORD", "of the environment")
    assert from_url("mysql://db.example", secret).home.password == "of the environment"


@pytest.mark.parametrize("url", ["db.example", "http://db.example/", "mysql://u@h:port/", "mysql:///x"])
def test_a_bad_url_says_what_is_expected(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="expected mysql://"):
        from_url(url, tmp_path / "secret")


def test_no_secret_and_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the secret file"):
        from_url("mysql://h/", tmp_path / "secret")
    with pytest.raises(UserError, match="there is no cluster"):
        from_dir(tmp_path)
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(UserError, match="not a cluster's state"):
        from_dir(tmp_path)


def test_backoff_grows_to_a_limit() -> None:
    pauses = [backoff(failures) for failures in range(1, 40)]
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_BACKOFF_S
