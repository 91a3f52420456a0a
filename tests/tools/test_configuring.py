"""The verbs showconfig and chksetup, and how every verb finds its configuration."""

import json
import os
import shutil
import socket
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from cvfs.client import configuration_sources
from cvfs.client.configuration_sources import Sources, etc_directory, settings_of
from cvfs.client.settings.network import NetworkSettings
from cvfs.client.settings.script import Value
from cvfs.client.settings.tree import Configuration, Copy
from cvfs_tools import configuration_checks
from cvfs_tools.cvfs_command import main
from cvfs_tools.repository_options import sources
from cvfs_tools.server_checks import Way, unreachable_ways, ways

FQRN = "tiny.example.org"
ETC = Path(__file__).parent.parent / "data/etc"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("CVMFS_", "CVFS_")):
            monkeypatch.delenv(name)


@pytest.fixture
def etc(tiny, tmp_path):
    """A tree that says all about a fixture, with nothing that could be found fault with."""
    (tmp_path / "etc/keys/example.org").mkdir(parents=True)
    (tmp_path / "etc/domain.d").mkdir()
    (tmp_path / "mounts").mkdir()
    shutil.copy(tiny.public_key, tmp_path / "etc/keys/example.org")
    (tmp_path / "etc/default.conf").write_text(
        f"CVMFS_QUOTA_LIMIT=1000\nCVMFS_CACHE_BASE={tmp_path}/base\nCVMFS_MOUNT_DIR={tmp_path}/mounts\n"
        "CVMFS_DEFAULT_DOMAIN=example.org\nCVMFS_REPOSITORIES=tiny\nCVMFS_HTTP_PROXY=DIRECT\n"
    )
    (tmp_path / "etc/domain.d/example.org.conf").write_text(
        f"CVMFS_SERVER_URL='file://{tiny.root}/@fqrn@'\nCVMFS_KEYS_DIR=/etc/cvmfs/keys/example.org\n"
    )
    return tmp_path / "etc"


@pytest.fixture
def roomy(monkeypatch):
    """A machine with a device and a disk for everything, whatever this one has."""
    real_stat, real_access = os.stat, os.access
    device = os.stat_result((stat.S_IFCHR | 0o666, *[0] * 9))
    monkeypatch.setattr(os, "stat", lambda path, **how: device if path == "/dev/fuse" else real_stat(path, **how))
    monkeypatch.setattr(os, "access", lambda path, mode: path == "/dev/fuse" or real_access(path, mode))
    room = os.statvfs_result((4096, 4096, 2**28, 2**28, 2**28, 1, 1, 1, 0, 255))
    monkeypatch.setattr(configuration_checks.os, "statvfs", lambda _: room)


def cvfs(*words: object):
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="cvfs")


def append(etc: Path, name: str, text: str) -> None:
    (etc / name).parent.mkdir(exist_ok=True)
    with open(etc / name, "a", encoding="ascii") as file:
        file.write(text + "\n")


def test_showconfig_tells_values_and_where_they_come_from(etc, tiny, tmp_path):
    append(etc, "default.local", "CVMFS_HTTP_PROXY='http://p:3128|http://q:3128'\nLAB=x\nCVMFS_SYSLOG_PREFIX=\"it's\"")
    result = cvfs("showconfig", "-s", "--etc", etc, "tiny")
    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert lines[0] == f"CVMFS_REPOSITORY_NAME={FQRN}"
    assert lines[1:] == sorted(lines[1:])
    assert f"CVMFS_CACHE_DIR={tmp_path}/base/shared" in lines
    assert f"CVMFS_QUOTA_LIMIT=1000    # from {etc}/default.conf" in lines
    assert f"CVMFS_HTTP_PROXY='http://p:3128|http://q:3128'    # from {etc}/default.local" in lines
    assert f"CVMFS_SYSLOG_PREFIX='it'\\''s'    # from {etc}/default.local" in lines
    assert f"CVMFS_SERVER_URL=file://{tiny.root}/{FQRN}    # from {etc}/domain.d/example.org.conf" in lines
    assert f"CVMFS_KEYS_DIR={etc}/keys/example.org    # from {etc}/domain.d/example.org.conf" in lines
    assert not [line for line in lines if line.startswith("LAB") or line.endswith("=")]


def test_showconfig_shows_what_is_not_set_too(etc):
    lines = cvfs("showconfig", "--etc", etc, FQRN).stdout.splitlines()
    assert "CVMFS_TRACEFILE=" in lines
    assert len(lines) == len({line.partition("=")[0] for line in lines})


def test_showconfig_of_all_repositories(etc):
    append(etc, "default.local", "CVMFS_REPOSITORIES=tiny,other.example.net")
    lines = cvfs("--etc", etc, "showconfig", "-s").stdout.splitlines()
    assert [line for line in lines if line.startswith(("Running", "CVMFS_REPOSITORY_NAME"))] == [
        f"Running cvfs showconfig -s {FQRN}:",
        f"CVMFS_REPOSITORY_NAME={FQRN}",
        "Running cvfs showconfig -s other.example.net:",
        "CVMFS_REPOSITORY_NAME=other.example.net",
    ]


def test_showconfig_for_programs(etc):
    append(etc, "default.local", "\nLAB=1")
    described = json.loads(cvfs("showconfig", "--json", "--etc", etc, "tiny", "-o", "CVMFS_TIMEOUT=7").stdout)
    parameters = described[0]["parameters"]
    assert described[0]["repository"] == FQRN
    assert parameters["LAB"] == {"value": "1", "file": f"{etc}/default.local", "line": 2}
    assert parameters["CVMFS_TIMEOUT"] == {"value": "7", "file": "the command line", "line": None}
    assert parameters["CVMFS_SERVER_URL"]["value"].endswith(FQRN)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["showconfig", "--etc", "/none/at/all"], "/none/at/all: no directory with a configuration"),
        (["--etc", "/none/at/all", "ls", FQRN], "/none/at/all: no directory with a configuration"),
        (["showconfig", "../x.y"], "is not a repository name"),
    ],
)
def test_what_cannot_be_shown(words, message):
    result = cvfs(*words)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert message in result.stderr


def test_showconfig_without_names_needs_a_list(etc):
    append(etc, "default.local", "CVMFS_REPOSITORIES=")
    assert "CVMFS_REPOSITORIES is not set" in cvfs("showconfig", "--etc", etc).stderr


def test_a_line_that_is_not_understood_is_named(etc):
    append(etc, "default.local", "\nCVMFS_NFILES=$(ulimit -n)")
    result = cvfs("ls", "--etc", etc, "tiny")
    assert result.exit_code == 2
    assert f"{etc}/default.local:2: the command 'ulimit -n' is not run" in result.stderr


@pytest.mark.parametrize("how", ["before the verb", "after the verb", "variable", "mount option"])
def test_every_verb_finds_a_tree_that_was_moved(how, etc, monkeypatch):
    words = {
        "before the verb": ["--etc", etc, "ls", "tiny"],
        "after the verb": ["ls", "--etc", etc, "tiny"],
        "mount option": ["ls", "-o", f"etc={etc}", "tiny"],
        "variable": ["ls", "tiny"],
    }
    if how == "variable":
        monkeypatch.setenv("CVFS_ETC", str(etc))
    result = cvfs(*words[how])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "files" in result.stdout


def test_the_environment_wins_over_files_and_options_over_both(etc, monkeypatch):
    monkeypatch.setenv("CVMFS_TIMEOUT", "6")
    monkeypatch.setenv("CVMFS_TIMEOUT_DIRECT", "6")
    append(etc, "default.local", "CVMFS_TIMEOUT=5\nCVMFS_TIMEOUT_DIRECT=5\nCVMFS_MAX_RETRIES=5")
    chosen = settings_of(Sources({"CVMFS_TIMEOUT_DIRECT": "7"}, etc=str(etc)).configuration("tiny"))
    network = chosen.network
    assert (network.timeout, network.timeout_direct, network.max_retries) == (6, 7, 5)


@pytest.mark.parametrize(
    ("words", "executable"), [("nosuid", True), ("ro,noexec", False), ("noexec,exec", True), ("exec,noexec", False)]
)
def test_a_mount_option_that_forbids_programs_is_obeyed(words, executable, etc):
    """The last word counts, as with mount(8)."""
    chosen = sources(options=(words,), etc=str(etc)).configuration("tiny")
    assert settings_of(chosen).view.executable is executable


def test_the_places_of_the_commands_are_no_parameters(etc, monkeypatch):
    monkeypatch.setenv("CVFS_ETC", str(etc))
    monkeypatch.setenv("CVFS_ROOT", "/site")
    assert not {"CVFS_ETC", "CVFS_ROOT"} & Sources(etc=str(etc)).configuration("tiny").values.keys()


def test_without_root_the_users_own_tree_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert etc_directory() == "/etc/cvmfs"
    monkeypatch.setattr(configuration_sources.os, "geteuid", lambda: 1000)
    assert etc_directory() == "/etc/cvmfs"
    (tmp_path / "cvfs").mkdir()
    assert etc_directory() == str(tmp_path / "cvfs")
    monkeypatch.setenv("CVFS_ETC", str(tmp_path))
    assert etc_directory() == str(tmp_path)


@pytest.mark.parametrize("user", [1000, 0])
def test_where_the_machines_cache_cannot_be_written_it_lies_in_the_users_own_place(etc, tmp_path, monkeypatch, user):
    """Also for the root of a user namespace, to whom the machine's files do not belong."""
    monkeypatch.setattr(configuration_sources.os, "geteuid", lambda: user)
    monkeypatch.setattr(configuration_sources.os, "access", lambda path, _: not path.startswith("/var/lib"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    append(etc, "default.local", "CVMFS_CACHE_BASE=/var/lib/cvmfs")
    assert settings_of(Sources(etc=str(etc)).configuration("tiny")).cache.directory == f"{tmp_path}/home/cvfs/shared"
    append(etc, "default.local", "CVMFS_CACHE_BASE=/big")
    assert settings_of(Sources(etc=str(etc)).configuration("tiny")).cache.directory == "/big/shared"


@pytest.mark.parametrize(
    ("text", "words", "proxy"),
    [
        ("CVMFS_HTTP_PROXY=", [], None),
        ("CVMFS_HTTP_PROXY=\nCVMFS_CLIENT_PROFILE=single", [], "DIRECT"),
        ("CVMFS_HTTP_PROXY=http://p:1", [], "http://p:1"),
        ("CVMFS_HTTP_PROXY=", [("CVMFS_HTTP_PROXY", "http://q:1")], "http://q:1"),
        ("CVMFS_HTTP_PROXY=", [("CVMFS_SERVER_URL", "http://mine")], "DIRECT"),
    ],
)
def test_a_site_must_name_its_proxy(text, words, proxy, etc):
    append(etc, "default.local", text)
    configuration = Sources(dict(words), etc=str(etc)).configuration("tiny")
    if proxy is None:
        result = cvfs("ls", "--etc", etc, "tiny")
        assert result.exit_code == 2
        assert f"{FQRN}: CVMFS_HTTP_PROXY required: set it in {etc}/default.local" in result.stderr
    else:
        assert settings_of(configuration).network.http_proxy == proxy


def test_a_url_needs_no_tree(etc, tiny):
    append(etc, "default.local", "if broken")
    result = cvfs("--etc", etc, "ls", f"file://{tiny.root}/{FQRN}", "-k", tiny.public_key)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CVMFS_STRICT_MOUNT=yes", ""),
        (
            "CVMFS_STRICT_MOUNT=yes\nCVMFS_REPOSITORIES=other",
            f"Not allowed to mount {FQRN}, add it to CVMFS_REPOSITORIES",
        ),
        ("CVMFS_STRICT_MOUNT=yes\nCVMFS_REPOSITORIES=", "CVMFS_REPOSITORIES missing"),
        ("CVMFS_STRICT_MOUNT=no\nCVMFS_REPOSITORIES=other", ""),
    ],
)
def test_strict_mounts(text, message, etc, monkeypatch):
    started = []
    monkeypatch.setattr("cvfs_tools.mounting.mount_in_background", lambda chosen, place, **_: started.append(place))
    monkeypatch.setattr("cvfs_tools.mounting.start_logging", lambda **_: None)
    append(etc, "default.local", text)
    result = cvfs("--etc", etc, "mount", "tiny")
    assert message in result.stderr
    assert started == ([] if message else [f"{etc.parent}/mounts/{FQRN}"])
    assert cvfs("--etc", etc, "ls", "tiny").exit_code == 0


def test_chksetup_prints_ok_when_all_is_well(etc, roomy):
    result = cvfs("chksetup", "--etc", etc)
    assert (result.stdout, result.stderr, result.exit_code) == ("OK\n", "", 0)


@pytest.mark.parametrize(
    ("text", "errors", "line"),
    [
        (
            "CVMFS_SERVER_URL=http://@fqrn@\nCVMFS_HTTP_PROXY=",
            1,
            "Error: required parameter CVMFS_HTTP_PROXY undefined for",
        ),
        ("CVMFS_IGNORE_SIGNATURE=yes", 0, "Warning: CVMFS_IGNORE_SIGNATURE is not supported: signatures are always"),
        ("CVMFS_IGNORE_SIGNATURE=no", 0, "OK"),
        ("CVMFS_TIMEUOT=5", 0, "Warning: CVMFS_TIMEUOT is no parameter of the client"),
        ("CVMFS_MEMCACHE_SIZE=64", 0, "OK"),
        ("CVMFS_QUOTA_LIMIT=999", 0, f"Warning: cache limit for {FQRN} is very low (below 1GB)"),
        ("CVMFS_QUOTA_LIMIT=-1", 0, f"Warning: no cache quota set for {FQRN}."),
        ("CVMFS_QUOTA_LIMIT=1000000", 0, "Warning: less than 15% safety margin on file system hosting the cache for"),
        (
            "CVMFS_QUOTA_LIMIT=2000000",
            1,
            f"Error: file system hosting the cache for {FQRN} too small (quota: 2000000M, ",
        ),
        ("CVMFS_QUOTA_LIMIT=lots", 1, "Error: CVMFS_QUOTA_LIMIT=lots: a number is needed"),
        ("CVMFS_SYSLOG_LEVEL=9", 1, "Error: CVMFS_SYSLOG_LEVEL=9"),
        ("CVMFS_AUTO_UPDATE=perhaps", 1, "Error: CVMFS_AUTO_UPDATE=perhaps"),
        ("CVMFS_NFILES=1024", 0, f"Warning: maximum number of open files is low (1024) for {FQRN}"),
        ("CVMFS_DEBUGLOG=/tmp/x.log", 0, f"Warning: debug mode is on for {FQRN}"),
        ("CVMFS_TRACEFILE=/tmp/x.csv", 0, f"Warning: trace mode is on for {FQRN}"),
        ("CVMFS_USYSLOG=/none/x.log", 1, "Error: log file directory CVMFS_USYSLOG=/none/x.log not writable for"),
        ("CVMFS_NFS_SHARED=/x", 0, "Warning: Setting CVMFS_NFS_SHARED has no effect without CVMFS_NFS_SOURCE."),
        (
            "CVMFS_REPOSITORY_TAG=a\nCVMFS_REPOSITORY_DATE=2026-01-01T00:00:00Z",
            0,
            "Warning: CVMFS_REPOSITORY_TAG wins over",
        ),
        ("CVMFS_ALIEN_CACHE=/x\nCVMFS_SHARED_CACHE=yes", 1, "Error: "),
        ("CVMFS_CONFIG_REPOSITORY=x.y", 1, "Error: CVMFS_CONFIG_REPOSITORY can only be set in"),
        ("CVMFS_MOUNT_DIR=/none/at/all", 1, f"Error: invalid CVMFS_MOUNT_DIR for {FQRN}"),
        ("CVMFS_PUBLIC_KEY=/none.pub", 1, f"Error: public key /none.pub for {FQRN} not accessible"),
        ("CVMFS_REPOSITORIES=", 0, "Warning: CVMFS_REPOSITORIES is not set, no repository was checked"),
        ("A=`id`", 1, "Error: failed to read configuration"),
    ],
)
def test_chksetup_names_what_is_wrong(text, errors, line, etc, roomy):
    append(etc, "default.local", text)
    result = cvfs("chksetup", "--no-network", "--etc", etc)
    assert line in result.stdout
    assert result.exit_code == errors, result.output


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("empty", "Error: no public keys in"),
        ("missing", "Error: public key location"),
        ("wrong", f"for {FQRN} not accessible"),
    ],
)
def test_chksetup_looks_at_the_keys(keys, line, etc, roomy):
    directory = etc / "keys/example.org"
    for key in directory.iterdir():
        key.unlink()
    if keys == "missing":
        directory.rmdir()
    elif keys == "wrong":
        (directory / "x.pub").write_text("no key")
    result = cvfs("chksetup", "--no-network", "--etc", etc)
    assert line in result.stdout
    assert result.exit_code == 1


def test_chksetup_without_the_device(etc, roomy, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: path != "/dev/fuse")
    result = cvfs("chksetup", "--no-network", "--etc", etc)
    assert result.stdout.startswith("Error: /dev/fuse is missing or not accessible")


def test_chksetup_without_a_place_for_the_cache(etc, roomy, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: path == "/dev/fuse")
    result = cvfs("chksetup", "--no-network", "--etc", etc)
    assert f"Error: {etc.parent}/base/shared cannot be made in {etc.parent}" in result.stdout


def test_servers_are_asked_through_every_proxy(tiny, web):
    server = web(tiny.root)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
    good, bad = f"{server.url}/{FQRN}", f"{server.url}/other"
    network = NetworkSettings(servers=(good, bad, f"file://{tiny.root}/{FQRN}"), http_proxy=f"{dead};DIRECT;auto")
    assert len(ways(network)) == 6
    assert set(unreachable_ways(network)) == {Way(good, dead), Way(bad, dead), Way(bad, "DIRECT")}


def test_servers_that_hang_cost_a_bounded_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        servers = tuple(f"{url}/{number}" for number in range(5))
        network = NetworkSettings(servers=servers, timeout=1, timeout_direct=1)
        assert len(unreachable_ways(network)) == 5


def test_chksetup_says_which_way_leads_nowhere(etc, roomy):
    append(etc, "domain.d/example.org.local", "CVMFS_SERVER_URL=file:///none/@fqrn@")
    result = cvfs("chksetup", "--etc", etc)
    line = f"Warning: failed to access file:///none/{FQRN}/.cvmfspublished through proxy DIRECT\n"
    assert (result.stdout, result.exit_code) == (line, 0)


def test_chksetup_keeps_the_password_of_a_proxy(etc, roomy):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    append(etc, "domain.d/example.org.local", "CVMFS_SERVER_URL=http://server.invalid/@fqrn@")
    append(etc, "domain.d/example.org.local", f"CVMFS_HTTP_PROXY=http://me:secret@127.0.0.1:{port}")
    result = cvfs("chksetup", "--etc", etc)
    assert f"through proxy http://127.0.0.1:{port}\n" in result.stdout
    assert "secret" not in result.stdout


def test_a_key_that_is_a_pipe_holds_up_nobody(etc, roomy):
    """Such a file would hold whoever opens it for ever."""
    pipe = etc / "pipe.pub"
    os.mkfifo(pipe)
    append(etc, "domain.d/example.org.local", f"CVMFS_PUBLIC_KEY={pipe}")
    result = cvfs("chksetup", "--no-network", "--etc", etc)
    assert f"{pipe}: not a file" in result.output
    assert result.exit_code == 1


@pytest.mark.parametrize("site", ["cern", "eessi", "galaxy"])
def test_real_trees_are_without_parameters_that_nobody_knows(site, tmp_path):
    result = cvfs("chksetup", "--no-network", "--etc", ETC / site, "-o", "CVMFS_CONFIG_REPOSITORY=")
    assert "is no parameter" not in result.stdout
    assert "not understood" not in result.stdout


def test_blacklists_and_keys_of_the_tree_and_of_the_configuration_repository():
    copied = Copy("/copy", 3)
    plain = settings_of(Configuration(FQRN, "/own/etc", {}, (), copied)).trust
    assert plain.blacklists == ("/own/etc/blacklist", "/copy/etc/cvmfs/blacklist")
    assert plain.keys_dir == "/own/etc/keys"
    values = {"CVMFS_BLACKLIST": Value("/b", "f", 1), "CVMFS_KEYS_DIR": Value("/k", "f", 2)}
    given = settings_of(Configuration(FQRN, "/own/etc", values, (), Copy(None))).trust
    assert (given.blacklists, given.keys_dir) == (("/b",), "/k")


def test_a_faulty_configuration_repository_is_left_out(etc):
    append(etc, "default.conf", "CVMFS_CONFIG_REPOSITORY=config.example.net")
    append(etc, "config.d/config.example.net.conf", "CVMFS_SERVER_URL=file:///none\nCVMFS_TIMEOUT=soon")
    result = cvfs("ls", "--etc", etc, "tiny")
    assert result.exit_code == 0
    described = json.loads(cvfs("showconfig", "--json", "--etc", etc, "tiny").stdout)
    assert described[0]["warnings"] == [
        "configuration repository config.example.net: CVMFS_TIMEOUT=soon: a number is needed; it is left out"
    ]
