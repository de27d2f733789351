"""What pip has installed into the session's files: importable at once, without a new context."""

import os
import site
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
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
        # A folder that does not exist would be remembered as one without modules, even once pip made it.
        sys.path_importer_cache[self._folder] = FileFinder(
            self._folder,
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
            (SourceFileLoader, SOURCE_SUFFIXES),
            (SourcelessFileLoader, BYTECODE_SUFFIXES),
        )

    def refresh(self) -> None:
        """Reads the `.pth` files again if anything was installed since the last call."""
        try:
            changed = os.stat(self._folder).st_mtime_ns
        except OSError:
            return
        if changed == self._read:
            return
        self._read = changed
        site.addsitedir(self._folder)
