"""OpenStack Swift with its S3 interface as one process over one directory: the server of the tests of storage in S3.

Run as a program with the directory as its argument; prints the port, then serves until its parent dies. All four of Swift's
servers listen on ports that the system chose, so that nothing has to be agreed on before.
"""

# ruff: noqa: E402  # the library must be patched before anything else is imported
import warnings

warnings.simplefilter("ignore")
import eventlet

eventlet.monkey_patch()
import ctypes
import logging
import os
import signal
import sys
from pathlib import Path

from eventlet import wsgi
from swift.common import storage_policy
from swift.common import utils as swift_utils
from swift.common.ring import RingBuilder
from swift.common.utils import config as swift_config
from swift.common.wsgi import SwiftHttpProtocol, loadapp

# No test cuts its power, and every object waits for the disk four times.
os.fsync = os.fdatasync = lambda _descriptor: None

_PARTS = ("account", "container", "object")
_DEFAULTS = "[DEFAULT]\ndevices = {0}/devices\nmount_check = false\nswift_dir = {0}\nlog_facility =\n"
_PROXY = """
[pipeline:main]
pipeline = catch_errors cache listing_formats s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
"""


def main(directory: Path) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    logging.disable(logging.CRITICAL)
    (directory / "devices" / "disk").mkdir(parents=True)
    (directory / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\n")
    swift_config.SWIFT_CONF_FILE = swift_utils.SWIFT_CONF_FILE = str(directory / "swift.conf")
    for module in (swift_config, swift_utils):
        module.HASH_PATH_SUFFIX, module.HASH_PATH_PREFIX = b"tests", b""
    sockets = {kind: eventlet.listen(("127.0.0.1", 0), backlog=256) for kind in (*_PARTS, "proxy")}
    for kind in _PARTS:
        make_ring(directory / f"{kind}.ring.gz", sockets[kind].getsockname()[1])
    storage_policy.reload_storage_policies()
    pool = eventlet.GreenPool(1000)
    for kind, socket in sockets.items():
        pool.spawn(serve, kind, socket, directory, pool)
    print(sockets["proxy"].getsockname()[1], flush=True)
    pool.waitall()


def make_ring(place: Path, port: int) -> None:
    """One copy of everything, on one device."""
    builder = RingBuilder(2, 1, 0)
    device = {
        "id": 0,
        "region": 1,
        "zone": 0,
        "weight": 1,
        "ip": "127.0.0.1",
        "port": port,
        "device": "disk",
        "meta": "",
    }
    builder.add_dev(device)
    builder.rebalance()
    builder.get_ring().save(str(place))


def serve(kind: str, socket: object, directory: Path, pool: object) -> None:
    text = (
        _PROXY if kind == "proxy" else f"\n[pipeline:main]\npipeline = server\n[app:server]\nuse = egg:swift#{kind}\n"
    )
    place = directory / f"{kind}.conf"
    place.write_text(_DEFAULTS.format(directory) + text)
    app = loadapp(str(place), global_conf={"log_name": kind})
    wsgi.server(socket, app, log=open(os.devnull, "w"), custom_pool=pool, protocol=SwiftHttpProtocol)  # noqa: SIM115


if __name__ == "__main__":
    main(Path(sys.argv[1]))
