"""Which storage a repository is in, by its settings; asks nobody yet."""

from cvfs.errors import UsageError
from cvfs_server.settings import RepositorySettings
from cvfs_server.storage.base import Storage
from cvfs_server.storage.local import LocalStorage
from cvfs_server.storage.s3_settings import S3Upstream


def storage_of(settings: RepositorySettings) -> Storage:
    """Where the repository's files are written. Works as a copy in other processes.

    Raises NotFound or UsageError for an S3 configuration that is not there or makes no sense.
    """
    return _in_s3(settings.s3) if settings.s3 else LocalStorage(settings.storage)


def _in_s3(upstream: S3Upstream) -> Storage:
    try:
        # Here: it takes a third of a second, which a repository on this machine must not cost, and may not be installed.
        from cvfs_server.storage.s3 import S3Storage  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"boto3", "botocore"}:
            raise
        raise UsageError(
            f"{upstream}: storing in S3 needs the package boto3: install it, or cvfs with its extra, cvfs[s3]"
        ) from error
    return S3Storage.at(upstream)
