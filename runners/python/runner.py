"""Starts the runner: `python -I -B -u -X utf8 runner.py`, frames on fd 3."""

import os
import sys

if __name__ == "__main__":
    _folder = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, _folder)
    from pagebox_runner.runner import Runner

    # The runner's own folder is not importable for user code; its working directory is.
    sys.path[0] = ""
    sys.argv = [""]
    os._exit(Runner().serve())
