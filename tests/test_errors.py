"""Failures as other programs see them: the OSError that a file system raises, and through a pickle."""

import errno
import pickle

import pytest

from cvfs import errors
from cvfs.errors import (
    AttributeUnsupported,
    CvfsError,
    IsADirectory,
    MissingObject,
    NoSuchAttribute,
    NotADirectory,
    NotALink,
    NotFound,
    PathError,
    ReadOnly,
    StoreError,
    TooManyLinks,
    TrustError,
    Unreachable,
)


@pytest.mark.parametrize(
    ("kind", "known_as", "code"),
    [
        (NotFound, FileNotFoundError, errno.ENOENT),
        (NotADirectory, NotADirectoryError, errno.ENOTDIR),
        (IsADirectory, IsADirectoryError, errno.EISDIR),
        (NotALink, OSError, errno.EINVAL),
        (TooManyLinks, OSError, errno.ELOOP),
        (NoSuchAttribute, OSError, errno.ENODATA),
        (AttributeUnsupported, NoSuchAttribute, errno.EOPNOTSUPP),
        (ReadOnly, OSError, errno.EROFS),
    ],
)
def test_what_a_path_is_at_fault_for_is_an_os_error(kind, known_as, code):
    with pytest.raises(known_as, match=r"^/a: it says what$") as caught:
        raise kind("/a: it says what")
    assert caught.value.errno == code
    assert isinstance(caught.value, PathError)


@pytest.mark.parametrize("kind", [StoreError, MissingObject, Unreachable, TrustError, errors.FormatError])
def test_what_is_not_reachable_is_never_taken_for_absent(kind):
    assert issubclass(kind, CvfsError)
    assert not issubclass(kind, OSError)


@pytest.mark.parametrize(
    "error", [NotFound("/a: none"), Unreachable("no answer"), TrustError("whitelist", "expired"), ReadOnly("no")]
)
def test_a_worker_process_can_tell_its_failure(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.errno) == (type(error), str(error), error.errno)
