"""Builds the compiled row-packet module when a compiler is there.

The package works without it: `shard.wire._rows_py` is the pure-Python twin, and
`shard.wire.rows` picks whichever imports. `optional=True` makes a missing compiler
a slower installation and not a failed one.
"""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    ext_modules=cythonize(
        [Extension("shard.wire._rows", ["shard/wire/_rows.pyx"], optional=True)],
        compiler_directives={"language_level": "3"},
    )
)
