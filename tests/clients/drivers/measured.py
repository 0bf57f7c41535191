"""Run a client and say, as a last step, how much memory it had at most: `measured.py COMMAND…`, or with `--only` no step but this.

The system counts it (`ru_maxrss`, in KiB), so it is the same for clients of all languages.
"""

import resource
import subprocess
import sys

arguments = sys.argv[1:]
only = arguments[0] == "--only"
done = subprocess.run(arguments[only:], check=False, stdout=subprocess.DEVNULL if only else None)
print(f"peak\t{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}", flush=True)
sys.exit(done.returncode)
