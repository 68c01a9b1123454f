"""Find the cause of an error about a file, and what to do about it.

Libraries raise a dozen kinds of errors, and most do not name the file. `CAUSES` says how each cause is recognised.
"""

import errno
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cause:
    """A reason why a file cannot be read, and how its errors are recognised.

    Attributes
    ----------
    what, advice : str
        Cause, and what to do about it, as parts of a message.
    kinds : tuple of type
        Types of the errors with this cause.
    numbers : tuple of int
        System error numbers with this cause.
    words : str
        Regular expression that is found in the text of errors with this cause.
    """

    what: str
    advice: str
    kinds: tuple[type[Exception], ...] = ()
    numbers: tuple[int, ...] = ()
    words: str = r"(?!)"

    def explains(self, error: BaseException) -> bool:
        """Tell whether an error has this cause: by its type, its number or its text."""
        number = getattr(error, "errno", None)
        return isinstance(error, self.kinds) or number in self.numbers or re.search(self.words, str(error)) is not None


NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""System error numbers of a file system without locks."""
ANOTHER_FORMAT = Cause(
    "it is of another format",
    "see what it is with `file`, and give it the ending of its format",
    words=r"signature not found|not a \w+ file|not an? \w+ (file|image|data stream)|Map ID string not found",
)
CAUSES = (
    Cause(
        "another program has it open for writing, or ended without closing it",
        "close it there and run again; if no program has it open, run h5clear --status on a copy of the file",
        words=r"h5clear",
    ),
    Cause(
        "another program has it open for writing",
        "close it there and run again; if nobody writes it, set HDF5_USE_FILE_LOCKING=FALSE in the environment",
        kinds=(BlockingIOError,),
        words=rf"unable to lock file, errno = ({errno.EAGAIN}|{errno.EACCES})\b|file is already open",
    ),
    Cause(
        "its file system does not know file locks",
        "set HDF5_USE_FILE_LOCKING=FALSE in the environment, or copy the file to a local disk",
        numbers=NO_LOCKS,
        words=r"unable to lock file",
    ),
    Cause(
        "you may not read it",
        "ask its owner, or change its permissions with chmod",
        kinds=(PermissionError,),
        numbers=(errno.EACCES, errno.EPERM),
    ),
    Cause("it is a folder", "name a file, or the folder that holds the sections", kinds=(IsADirectoryError,)),
    Cause("it is not there", "correct the path, or bring the file back", kinds=(FileNotFoundError,)),
    Cause("links lead in a circle", "correct the link that the error names", numbers=(errno.ELOOP,)),
    Cause(
        "the disk or the network does not answer",
        "run again when it does; what is finished is kept",
        kinds=(TimeoutError, ConnectionError),
        numbers=(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENXIO, errno.EHOSTDOWN),
    ),
    Cause(
        "there is not enough memory",
        "run fewer jobs at once, or give the job more memory",
        kinds=(MemoryError,),
        numbers=(errno.ENOMEM,),
    ),
    Cause(
        "it is compressed by a filter that HDF5 does not have here",
        "pip install hdf5plugin, or write the file again with gzip (h5repack -f GZIP=1)",
        words=r"can't open directory|required filter|filter .*(is )?not (registered|available)|filter plugin",
    ),
    Cause(
        "it is compressed in a way that no library here can read",
        "write it again without compression, or with zlib (deflate) or zstd",
        words=(
            r"not a known COMPRESSION|COMPRESSION\.\w+: \d+> not supported|requires the .* package|"
            r"[Uu]nknown (codec|compress)|codec not available|DelayedImportError|could not import name"
        ),
    ),
    Cause(
        "it is cut short",
        "compare its size with that of the original, then copy or export it again",
        kinds=(EOFError,),
        words=(
            r"truncated|too small|cut short|[Uu]nexpected end|enough bytes|bad byte number|corrupted IFD|"
            r"end of file|addr overflow|Expected .* bytes|bytes long|File is not a zip file"
        ),
    ),
    ANOTHER_FORMAT,
)
EMPTY = Cause("it is empty", "copy or export it again")
DAMAGED = Cause("it is damaged, or written in an unusual way", "copy or export it again")
"""Cause of an error that none of `CAUSES` explains."""


def cause_of(error: BaseException, path: Path | str = "") -> Cause:
    """Return the first cause that explains an error about a file.

    >>> cause_of(BlockingIOError(11, "unable to lock file")).what
    'another program has it open for writing'
    """
    with suppress(OSError):
        if os.path.isfile(path) and os.path.getsize(path) == 0:
            return EMPTY
    return next((cause for cause in CAUSES if cause.explains(error)), DAMAGED)
