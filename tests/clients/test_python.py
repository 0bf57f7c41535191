"""Python's clients: pymysql, mysql-connector-python, MariaDB's connector, pyodbc, asyncmy, SQLAlchemy with pandas."""

import pytest

from tests.clients.conftest import ACCOUNTS, CLIENTS, DRIVERS

PYTHON = str(CLIENTS / "venv" / "bin" / "python")


@pytest.mark.timeout(200)
@pytest.mark.parametrize("mode", ACCOUNTS)
@pytest.mark.parametrize(
    ("client", "named"),
    [
        ("pymysql", "pymysql"),
        ("pyodbc", "pyodbc"),
        ("mysql-connector-python", "mysql-connector-python"),
        ("mariadb-connector-python", "mariadb"),
    ],
)
def test_dbapi(both, need, client, named, mode):
    need(client)
    both.compare(client, [PYTHON, str(DRIVERS / "dbapi.py"), named], mode)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("mode", ACCOUNTS)
def test_asyncmy(both, need, mode):
    need("asyncmy")
    both.compare("asyncmy", [PYTHON, str(DRIVERS / "asyncmy_script.py")], mode)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("mode", ACCOUNTS)
def test_sqlalchemy_and_pandas(both, need, mode):
    for client in ("SQLAlchemy", "pandas"):
        need(client)
    both.compare("SQLAlchemy, pandas", [PYTHON, str(DRIVERS / "sqlalchemy_script.py")], mode)
