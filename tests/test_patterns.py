"""Regular expressions that see clients' text take a time that grows with its length, whatever the text is."""

import importlib
import pkgutil
import re
import time
from pathlib import Path

import pytest

import backend
import proxy
import shard

LENGTH = 20_000
PIECES = [
    "/**/", "/* */ ", " ", "\n", "\t ", "*", "* tables ", "*/", "/*", "(", ")", "()", "'", "''", '"', "`", "``", "\\", "\\'",
    "a", "a ", "a.", "a,", "1", "1.", "1e", "0x", "@", "@a ", "@@", "--", "-- \n", "#\n", ";", ",", "=", "?", "%", "_",
    "select ", "set ", "for ", "as ", "into ", "limit ", "show ", "skyshard_x_limit ", "engine tables ", "processlist",
    "information_schema.", "qserv_result", "submit ", "kill ", "execute immediate ", "é",
]  # fmt: skip
"""What is repeated; before it stands nothing or one word, behind it a character that no pattern wants."""
HEADS = ["", "SELECT ", "SET ", "SHOW ", "SHOW TABLE STATUS ", "KILL ", "SUBMIT ", "/*", "'"]


SOURCES = {
    path.stem: path.read_text()
    for package in (backend, proxy, shard)
    for path in Path(package.__path__[0]).rglob("*.py")
}


def searched(module, name):
    """Whether a pattern is looked for anywhere in a text, and not at its start alone."""
    how = r"(?:search|sub|subn|finditer|findall|split)\b"
    own = re.search(rf"(?<![.\w]){name}\.{how}", SOURCES[module])
    return bool(own) or any(re.search(rf"\b{module}\.{name}\.{how}", source) for source in SOURCES.values())


def patterns():
    for package in (backend, proxy, shard):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            for name, value in vars(module).items():
                if isinstance(value, re.Pattern):
                    module_name = found.name.rpartition(".")[2]
                    yield pytest.param(value, searched(module_name, name), id=f"{found.name}.{name}")


def seconds(look, is_bytes, text):
    subject = text.encode() if is_bytes else text
    started = time.process_time()
    look(subject)
    return time.process_time() - started


@pytest.mark.parametrize(("pattern", "anywhere"), list(patterns()))
def test_no_text_makes_a_pattern_slow(pattern, anywhere):
    look, is_bytes = pattern.search if anywhere else pattern.match, isinstance(pattern.pattern, bytes)
    for piece in PIECES:
        for head in HEADS:
            # an exponential pattern shows in a short text, a quadratic one in a long one
            assert seconds(look, is_bytes, head + piece * 24 + "\x01") < 0.05, (head, piece)
            long = seconds(look, is_bytes, head + piece * (LENGTH // len(piece)) + "\x01")
            assert long < 0.3, (head, piece, long)
