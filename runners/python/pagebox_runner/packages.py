"""What pip has installed into the session's files: importable at once, without a new context."""

import os
import site
import sys
from typing import Final

PACKAGE_FOLDERS: Final = ("site-packages", "dist-packages")


class UserPackages:
    """The user's site-packages. `-I` keeps them away from the interpreter's start, where a broken one
    could keep the runner from starting; here they come in afterwards."""

    def __init__(self) -> None:
        self._folder = site.getusersitepackages()
        self._read: int | None = None
        # Before what comes with Python here: what the user installs wins.
        places = (i for i, path in enumerate(sys.path) if path.endswith(PACKAGE_FOLDERS))
        sys.path.insert(next(places, len(sys.path)), self._folder)

    def refresh(self) -> None:
        """Sees what was installed since the last call, `.pth` files included."""
        try:
            changed = os.stat(self._folder).st_mtime_ns
        except OSError:
            return
        if changed == self._read:
            return
        self._read = changed
        # A folder that did not exist was remembered as one without modules. (`invalidate_caches` would
        # forget that, too, but it loads `importlib.metadata`, which takes longer than most executions.)
        if sys.path_importer_cache.get(self._folder) is None:
            sys.path_importer_cache.pop(self._folder, None)
        site.addsitedir(self._folder)
