"""Builds the compiled row-packet modules when a compiler is there.

The package works without them: `shard.wire._rows_py` and `_sorting_py` are the pure-Python twins, and
`shard.wire.rows` and `sorting` pick whichever imports. `optional=True` makes a missing compiler
a slower installation and not a failed one.
"""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    ext_modules=cythonize(
        [
            Extension(f"shard.wire.{name}", [f"shard/wire/{name}.pyx"], optional=True)
            for name in ("_rows", "_sorting")
        ],
        compiler_directives={"language_level": "3"},
    )
)
