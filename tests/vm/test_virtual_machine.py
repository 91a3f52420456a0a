"""A stock Debian in a virtual machine becomes a client by what cloud-init is told, and stays one whatever happens.

The tests of this file are one story, told in order: each finds the machine as the one before left it.
"""

import subprocess

import pytest
from processes import CVFS, ENVIRONMENT

FQRN = "vm.example.org"
HOST = "10.0.2.2"
TOP = f"/cvmfs/{FQRN}"
# 1000 lines and 20 steps: the sum of n + k over all n and k.
RESULT = str(20 * sum(range(1000)) + 1000 * sum(range(20)))

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def proxy(lasting_squid):
    return lasting_squid()


@pytest.fixture(scope="module")
def user_data(publisher, proxy, wheels, tmp_path_factory):
    """What `cvfs setup --cloud-init` prints for a site with a Squid, a mirror of its own, and two hooks."""
    hooks = tmp_path_factory.mktemp("hooks")
    (hooks / "before.sh").write_text(
        f"#!/bin/sh -e\nif command -v cvfs || test -e {TOP}; then exit 1; fi\necho before >/var/tmp/story\n"
    )
    (hooks / "after.sh").write_text(f"#!/bin/sh -e\n{TOP}/bin/analysis >>/var/tmp/story\n")
    (hooks / "pip.conf").write_text(f"[global]\ntrusted-host = {HOST}\n")
    # The server is named as the Squid knows it: for the machine itself nobody is there.
    words = ["setup", "--cloud-init", "--systemd", "--key", publisher.key, "--proxy", f"http://{HOST}:{proxy.port}",
             "--url", f"http://127.0.0.1:{publisher.port}/cvmfs/@fqrn@", "--quota", "500", "-o", "CVMFS_TIMEOUT=5",
             "--install", "cvfs[zstd]", "--wheels", wheels, "--file", f"/etc/pip.conf={hooks / 'pip.conf'}",
             "--prolog", hooks / "before.sh", "--epilog", hooks / "after.sh", FQRN]  # fmt: skip
    done = subprocess.run([*CVFS, *map(str, words)], env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, timeout=60)
    return done.stdout.decode()


def objects(requests):
    """The objects among the requests; what is left are documents that say what is new."""
    return [url for url in requests if "/data/" in url]


def test_a_stock_machine_becomes_a_client(machine):
    assert "status: done" in machine.must("cloud-init status --wait --long", 1200)
    assert machine.must("cat /var/tmp/story").split() == ["before", RESULT]
    assert machine.must(
        "cloud-init schema --system || cloud-init schema --config-file /var/lib/cloud/instance/user-data.txt"
    )


def test_programs_run_from_the_mount(machine):
    assert machine.must("grep /cvmfs /proc/mounts").split()[:3] == [FQRN, TOP, "fuse.cvfs"]
    digest = machine.must(f"{TOP}/bin/sha256sum {TOP}/data/events | cut -c1-64")
    assert digest == machine.must(f"sha256sum {TOP}/data/events | cut -c1-64")


def test_all_came_through_the_squid(proxy, publisher):
    asked = objects(proxy.requests())
    assert len(asked) > 20
    assert all(url.startswith(f"http://127.0.0.1:{publisher.port}/cvmfs/{FQRN}/data/") for url in asked)


def test_nothing_is_fetched_again_after_a_reboot(machine, proxy):
    before = len(proxy.requests())
    machine.reboot()
    assert machine.must(f"{TOP}/bin/analysis").strip() == RESULT
    later = proxy.requests()[before:]
    assert later, "nothing was asked: not what is new, either"
    assert objects(later) == []


def test_the_server_may_be_away(machine, proxy, publisher):
    proxy.stop()
    publisher.stop()
    assert machine.must(f"{TOP}/bin/analysis").strip() == RESULT
    failed = machine.run(f"cat {TOP}/data/late", 100)
    assert failed.status == 1
    assert "Input/output error" in failed.output
    publisher.start()
    proxy.start()
    again = f"for n in $(seq 100); do cat {TOP}/data/late && exit; sleep 1; done; exit 1"
    assert "read only when everything is back" in machine.must(again)


# What a set-up may leave behind: nothing. Caches and what the machine does of itself are no part of it.
LISTING = "find /etc /usr/sbin /usr/lib/systemd /var/lib/cvfs /cvmfs -xdev -printf '%p %y %m %l\\n' | grep -v -e /etc/machine-id | sort"


def mounted(machine):
    """The lines of the mount table about the repository."""
    return machine.must(f"grep -c ' {TOP} ' /proc/mounts || true").strip()


@pytest.fixture(scope="module")
def bare(machine):
    """The machine without any set-up: what there is."""
    machine.must("cvfs setup --remove")
    listing = machine.must(LISTING)
    assert f"{TOP} " not in listing
    assert "cvfs@" not in listing
    assert "mount.cvfs" not in listing
    assert "cvfs" not in machine.must("cat /etc/fstab /proc/mounts")
    assert "cvfs" not in machine.must("systemctl list-units --all --no-legend 'cvfs*' 'cvmfs*'")
    return listing


def take_back(machine, bare):
    """What was set up, which leaves nothing; autofs ends in its own time."""
    machine.must("cvfs setup --remove")
    machine.must("for n in $(seq 60); do grep -q cvmfs /proc/mounts || exit 0; sleep 1; done; cat /proc/mounts; exit 1")
    assert machine.must(LISTING) == bare


@pytest.mark.parametrize("style", ["fstab", "autofs"])
def test_another_way_to_mount(machine, bare, style):
    machine.must(f"cvfs setup --{style}")
    assert machine.must(f"{TOP}/bin/analysis").strip() == RESULT
    assert mounted(machine) == "1"
    machine.reboot()
    assert machine.must(f"{TOP}/bin/analysis").strip() == RESULT
    assert mounted(machine) == "1"
    assert "cvfs" not in machine.must("systemctl --failed --no-legend")
    take_back(machine, bare)


def test_the_parent_mount_starts_from_the_cache_alone(machine, bare, proxy, publisher):
    machine.must("cvfs setup --parent")
    assert machine.must(f"{TOP}/bin/analysis").strip() == RESULT
    proxy.stop()
    publisher.stop()
    machine.reboot()
    assert mounted(machine) == "0"
    assert machine.must(f"{TOP}/bin/analysis").strip() == RESULT
    assert mounted(machine) == "1"


def test_the_parent_mount_heals_what_was_killed(machine):
    machine.must(f"kill -9 $(cvfs talk -i {FQRN} pid)")
    assert machine.must(f"{TOP}/bin/analysis").strip() == RESULT


def test_a_power_cut(machine, bare, proxy, publisher):
    publisher.start()
    proxy.start()
    machine.cut_power()
    assert machine.must(f"{TOP}/bin/analysis").strip() == RESULT
    take_back(machine, bare)
    machine.must(f"cvfs fsck {FQRN}")
