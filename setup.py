"""Builds the compiled row-packet modules when a compiler is there.

The package works without them: `_rows_py`, `_sort_keys_py` and `_merging_py` in `shard.wire` are the
pure-Python twins, and `shard.wire.rows` and `sorting` pick whichever imports. `optional=True` makes a missing compiler
a slower installation and not a failed one.
"""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"shard.wire.{name}",
                [f"shard/wire/{name}.pyx"],
                depends=["shard/wire/_packets.pxd"],
                optional=True,
            )
            for name in ("_rows", "_sort_keys", "_merging")
        ],
        compiler_directives={"language_level": "3"},
    )
)
