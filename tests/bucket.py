"""A folder that can do what a bucket can: no append, no rename."""

import errno

from etils.epath import backend

from welm_jax.run_files import LiteralPath


class _NoAppendNoRename(type(backend.os_backend)):
    def open(self, path, mode):
        if mode.strip("b") not in ("r", "w"):
            raise OSError(errno.EOPNOTSUPP, f"a bucket does not open with {mode!r}", str(path))
        return super().open(path, mode)

    def rename(self, path, dst):
        raise OSError(errno.EOPNOTSUPP, "a bucket does not rename", str(path))

    replace = rename


class BucketPath(LiteralPath):
    """A path on disk behind such a backend."""

    @property
    def _backend(self):
        return _NoAppendNoRename()
