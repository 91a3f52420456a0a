"""The tree of configuration files: precedence, names, and that trees of real sites come out as the original reads them."""

import shutil
from pathlib import Path

import pytest

from cvfs.client.settings.script import Value
from cvfs.client.settings.tree import Configuration, Copy, Tree
from cvfs.errors import FormatError, UsageError

ETC = Path(__file__).parent.parent / "data/etc"
COPIED = ETC / "cern/config-repository"


def write(etc: Path, name: str, text: str) -> None:
    (etc / name).parent.mkdir(parents=True, exist_ok=True)
    (etc / name).write_text(text)


def fixed(**values: str) -> dict[str, Value]:
    return {name: Value(text, "the command line", 0) for name, text in values.items()}


LAYERS = [
    "default.conf",
    "default.d/10-a.conf",
    "default.d/20-b.conf",
    "copy:default.conf",
    "default.local",
    "copy:domain.d/example.org.conf",
    "domain.d/example.org.conf",
    "domain.d/example.org.local",
    "copy:config.d/sw.example.org.conf",
    "config.d/sw.example.org.conf",
    "config.d/sw.example.org.local",
]


@pytest.mark.parametrize("last", range(len(LAYERS)))
def test_later_files_win(last, tmp_path):
    """FORMAT section 9.9: of the files up to `last` each sets W; the last one stays, and X has seen them in order."""
    write(tmp_path, "etc/default.d/00-first.conf", "CVMFS_CONFIG_REPOSITORY=config.example.org\nX=\n")
    for layer in LAYERS[: last + 1]:
        copied, _, name = layer.rpartition(":")
        place = f"copy/etc/cvmfs/{name}" if copied else f"etc/{name}"
        write(tmp_path, place, f'W={layer}\nX="$X {layer}"\n')
    tree = Tree(str(tmp_path / "etc"), fetch=lambda _: Copy(str(tmp_path / "copy"), 1))
    got = tree.of("sw.example.org")
    assert got.text("W") == LAYERS[last]
    assert got.text("X").split() == [layer for layer in LAYERS[: last + 1] if layer != "default.conf"]
    name = LAYERS[last].removeprefix("copy:")
    expected = f"copy/etc/cvmfs/{name}" if LAYERS[last].startswith("copy:") else f"etc/{name}"
    assert got.values["W"] == Value(LAYERS[last], str(tmp_path / expected), 1)


def test_what_is_common_is_read_without_the_configuration_repository(tmp_path):
    write(tmp_path, "default.conf", "CVMFS_CONFIG_REPOSITORY=config.example.org\nA=1\n")
    write(
        tmp_path,
        "default.local",
        "A=2\nCVMFS_REPOSITORIES=' sw , other.example.net,'\nCVMFS_DEFAULT_DOMAIN=example.org\n",
    )
    write(tmp_path, "domain.d/example.org.conf", "A=3\n")
    common = Tree(str(tmp_path), fetch=lambda _: pytest.fail("asked")).common()
    assert common.text("A") == "2"
    assert common.repositories() == ["sw.example.org", "other.example.net"]


def test_a_tree_that_is_not_there_says_nothing(tmp_path):
    assert Tree(str(tmp_path / "none")).of("sw.example.org").values == {}


@pytest.mark.parametrize(
    ("name", "domain", "expected"),
    [
        ("atlas", "cern.ch", "atlas.cern.ch"),
        ("atlas.cern.ch", "example.org", "atlas.cern.ch"),
        ("atlas", " cern.ch ", "atlas.cern.ch"),
    ],
)
def test_short_names(name, domain, expected, tmp_path):
    write(tmp_path, "default.conf", f"CVMFS_DEFAULT_DOMAIN='{domain}'\n")
    write(tmp_path, "config.d/atlas.cern.ch.conf", "A=$CVMFS_FQRN\n")
    got = Tree(str(tmp_path)).of(name)
    assert (got.fqrn, got.text("A")) == (expected, expected)


def test_a_short_name_needs_a_domain(tmp_path):
    with pytest.raises((UsageError, FormatError), match="atlas"):
        Tree(str(tmp_path)).of("atlas")


def test_a_name_does_not_lead_out_of_the_tree(tmp_path):
    with pytest.raises((UsageError, FormatError)):
        Tree(str(tmp_path)).of("../../x.y")


def test_what_is_fixed_wins_and_is_seen_by_files(tmp_path):
    write(tmp_path, "domain.d/example.org.conf", 'CVMFS_USE_CDN=no\n[ "$CVMFS_USE_CDN" = yes ] && S=cdn || S=$SITE\n')
    etc = str(tmp_path)
    assert Tree(etc, fixed(CVMFS_USE_CDN="yes")).of("sw.example.org").text("S") == "cdn"
    plain = Tree(etc, environment={"SITE": "here"}).of("sw.example.org")
    assert (plain.text("S"), plain.text("SITE")) == ("here", "")


class TestConfigurationRepository:
    """Whose files are used, and what happens without them."""

    @pytest.fixture
    def etc(self, tmp_path):
        write(
            tmp_path, "etc/default.conf", "CVMFS_CONFIG_REPOSITORY=config.example.org\nCVMFS_KEYS_DIR=/etc/cvmfs/keys\n"
        )
        write(tmp_path, "etc/config.d/config.example.org.conf", "CVMFS_SERVER_URL=http://config\n")
        write(tmp_path, "copy/etc/cvmfs/domain.d/example.org.conf", "CVMFS_KEYS_DIR=$CVMFS_MOUNT_DIR/x\nA=copied\n")
        return tmp_path / "etc"

    def test_it_is_found_by_the_files_of_this_machine_alone(self, etc, tmp_path):
        asked: list[Configuration] = []

        def fetch(configuration: Configuration) -> Copy:
            asked.append(configuration)
            return Copy(str(tmp_path / "copy"), 4)

        given = fixed(CVMFS_SERVER_URL="http://mine", CVMFS_REPOSITORY_TAG="v1", CVMFS_TIMEOUT="3")
        got = Tree(str(etc), given, fetch=fetch).of("sw.example.org")
        assert [one.fqrn for one in asked] == ["config.example.org"]
        assert asked[0].text("CVMFS_SERVER_URL") == "http://config"
        assert asked[0].text("CVMFS_REPOSITORY_TAG") == ""
        assert asked[0].text("CVMFS_TIMEOUT") == "3"
        assert (got.text("A"), got.text("CVMFS_SERVER_URL")) == ("copied", "http://mine")
        assert got.copy == Copy(str(tmp_path / "copy"), 4)

    def test_it_is_not_asked_about_itself(self, etc):
        tree = Tree(str(etc), fetch=lambda _: pytest.fail("asked"))
        assert tree.of("config.example.org").text("CVMFS_SERVER_URL") == "http://config"

    def test_its_places_are_those_of_the_copy(self, etc, tmp_path):
        text = "CVMFS_MOUNT_DIR=/sw\nCVMFS_PUBLIC_KEY=/sw/config.example.org/etc/cvmfs/keys/a.pub:/etc/cvmfs/b.pub\n"
        write(tmp_path, "etc/default.conf", (etc / "default.conf").read_text() + text)
        got = Tree(str(etc), fetch=lambda _: Copy(str(tmp_path / "copy"), 4)).of("sw.example.org")
        assert got.text("CVMFS_PUBLIC_KEY") == f"{tmp_path}/copy/etc/cvmfs/keys/a.pub:{etc}/b.pub"

    def test_its_places_follow_a_site_that_mounts_elsewhere(self, etc, tmp_path):
        write(tmp_path, "etc/default.local", "CVMFS_MOUNT_DIR=/sw/\n")
        text = "CVMFS_KEYS_DIR=$CVMFS_MOUNT_DIR/$CVMFS_CONFIG_REPOSITORY/etc/cvmfs/keys\n"
        write(tmp_path, "copy/etc/cvmfs/domain.d/example.org.conf", text.replace("DIR/$", "DIR$"))
        got = Tree(str(etc), fetch=lambda _: Copy(str(tmp_path / "copy"), 4)).of("sw.example.org")
        assert got.text("CVMFS_KEYS_DIR") == f"{tmp_path}/copy/etc/cvmfs/keys"

    def test_one_that_cannot_be_had_is_a_warning(self, etc):
        got = Tree(str(etc), fetch=lambda _: Copy(None, None, "it is gone")).of("sw.example.org")
        assert (got.text("A"), got.warnings) == ("", ("it is gone",))

    def test_unless_it_is_required(self, etc, tmp_path):
        write(tmp_path, "etc/default.local", "CVMFS_CONFIG_REPO_REQUIRED=yes\n")
        with pytest.raises(UsageError, match=r"^sw\.example\.org: CVMFS_CONFIG_REPO_REQUIRED is set, but it is gone"):
            Tree(str(etc), fetch=lambda _: Copy(None, None, "it is gone")).of("sw.example.org")
        old = Copy(str(tmp_path / "copy"), 4, "it is old")
        got = Tree(str(etc), fetch=lambda _: old).of("sw.example.org")
        assert (got.text("A"), got.warnings) == ("copied", ("it is old",))

    def test_a_file_of_it_that_is_not_understood_counts_as_not_there(self, etc, tmp_path):
        write(tmp_path, "copy/etc/cvmfs/domain.d/example.org.conf", "A=half\nB=`id`\n")
        got = Tree(str(etc), fetch=lambda _: Copy(str(tmp_path / "copy"), 4)).of("sw.example.org")
        assert got.text("A") == ""
        assert len(got.warnings) == 1
        assert got.warnings[0].startswith(f"{tmp_path}/copy/etc/cvmfs/domain.d/example.org.conf:2: the command 'id'")

    def test_a_file_of_this_machine_that_is_not_understood_is_an_error(self, etc, tmp_path):
        write(tmp_path, "etc/domain.d/example.org.conf", "A=half\nB=`id`\n")
        with pytest.raises(UsageError, match=f"^{etc}/domain.d/example.org.conf:2: "):
            Tree(str(etc)).of("sw.example.org")

    def test_later_files_cannot_change_which_it_is(self, etc, tmp_path):
        write(tmp_path, "etc/default.local", "CVMFS_CONFIG_REPOSITORY=other.example.org\n")
        got = Tree(str(etc), fetch=lambda _: Copy(str(tmp_path / "copy"), 4)).of("sw.example.org")
        assert got.text("CVMFS_CONFIG_REPOSITORY") == "config.example.org"
        assert "CVMFS_CONFIG_REPOSITORY cannot be changed here" in got.warnings[0]

    def test_a_command_line_can_do_without(self, etc):
        tree = Tree(str(etc), fixed(CVMFS_CONFIG_REPOSITORY=""), fetch=lambda _: pytest.fail("asked"))
        assert tree.of("sw.example.org").warnings == ()


def cern(fqrn: str, *, copied: bool = True, **given: str) -> Configuration:
    copy = Copy(str(COPIED), 9) if copied else Copy(None, None, "no answer")
    return Tree(str(ETC / "cern"), fixed(**given), fetch=lambda _: copy).of(fqrn)


def test_the_tree_of_a_cern_site():
    got = cern("atlas")
    squids = "http://squid-1.site.example.org:3128|http://squid-2.site.example.org:3128"
    assert got.fqrn == "atlas.cern.ch"
    assert got.warnings == ()
    assert got.text("CVMFS_HTTP_PROXY") == squids
    assert got.text("CVMFS_FALLBACK_PROXY") == "http://backup-1.example.net:3126;http://backup-2.example.net:3126"
    assert got.text("CVMFS_SERVER_URL") == "http://stratum-one-3.example.net:8000/cvmfs/@fqrn@"
    assert got.text("CVMFS_KEYS_DIR") == f"{COPIED}/etc/cvmfs/keys/cern.ch"
    assert got.values["CVMFS_QUOTA_LIMIT"].file.endswith("cern/default.local")
    assert got.text("CVMFS_PAC_URLS").startswith("http://grid-wpad/wpad.dat;http://wpad/wpad.dat;http://wpad-")
    assert (got.text("CVMFS_USER"), got.text("CMS_LOCAL_SITE")[:6]) == ("cvmfs", "/cvmfs")
    assert cern("cms").text("CVMFS_NFILES") == "524288"


def test_the_tree_of_a_cern_site_without_its_configuration_repository():
    got = cern("atlas", copied=False)
    assert got.text("CVMFS_SERVER_URL").startswith("http://stratum-one-1.example.net/cvmfs/@fqrn@;")
    assert got.text("CVMFS_KEYS_DIR") == f"{ETC}/cern/keys/cern.ch"
    assert got.warnings == ("no answer",)


@pytest.mark.parametrize(
    ("given", "server"),
    [
        ({"CVMFS_HTTP_PROXY": "DIRECT"}, "http://cdn-3.example.net/cvmfs/@fqrn@"),
        ({"CVMFS_HTTP_PROXY": "auto;DIRECT"}, "http://cdn-3.example.net/cvmfs/@fqrn@"),
        ({"CVMFS_USE_CDN": "yes"}, "http://cdn-3.example.net/cvmfs/@fqrn@"),
        ({"CVMFS_HTTP_PROXY": "DIRECT", "CVMFS_USE_CDN": "no"}, "http://stratum-one-3.example.net:8000/cvmfs/@fqrn@"),
    ],
)
def test_who_asks_servers_directly_asks_those_that_bear_it(given, server):
    assert cern("atlas.cern.ch", **given).text("CVMFS_SERVER_URL") == server


def test_other_domains_of_the_configuration_repository():
    got = cern("ligo.osgstorage.org")
    assert got.text("CVMFS_EXTERNAL_URL").count(";") == 2
    assert got.text("CVMFS_CACHE_BASE") == "/var/lib/cvmfs/osgstorage"
    assert got.text("CVMFS_AUTHZ_SEARCH_PATH") == "/cvmfs/cvmfs-config.cern.ch/libexec/authz"
    assert (got.text("CVMFS_MAX_RETRIES"), got.warnings) == ("0", ())
    assert cern("software.eessi.io").text("CVMFS_KEYS_DIR") == f"{COPIED}/etc/cvmfs/keys/eessi.io"
    alice = cern("alice.cern.ch")
    assert alice.text("CVMFS_NFILES") == "131072"
    assert "alice.cern.ch.conf:2: the command 'ulimit -n' is not run" in alice.warnings[0]


def test_the_configuration_repository_of_a_cern_site_itself():
    with_squids = cern("cvmfs-config.cern.ch")
    assert with_squids.text("CVMFS_FALLBACK_PROXY") == "http://backup-proxy.example.net:3126"
    assert cern("cvmfs-config.cern.ch", CVMFS_HTTP_PROXY="DIRECT").text("CVMFS_SERVER_URL").startswith("http://cdn-1")


def test_the_tree_of_an_eessi_client(tmp_path):
    tree = Tree(str(ETC / "eessi"))
    assert tree.common().repositories() == ["software.eessi.io", "dev.eessi.io"]
    got = tree.of("software")
    assert got.text("CVMFS_SERVER_URL").count("example.science") == 2
    assert got.text("CVMFS_KEYS_DIR") == f"{ETC}/eessi/keys/eessi.io"
    assert got.text("EESSI_CPU_FAMILY") in ("x86_64", "aarch64", "riscv64", "generic")
    nightly = tree.of("dev.eessi.io")
    assert (nightly.text("CVMFS_SHARED_CACHE"), nightly.text("CVMFS_QUOTA_LIMIT")) == ("no", "2000")
    assert (nightly.text("EESSI_REPOSITORY"), nightly.warnings) == ("dev.eessi.io", ())


def test_the_tree_of_a_galaxy_server():
    got = Tree(str(ETC / "galaxy")).of("data")
    assert got.fqrn == "data.galaxyproject.org"
    assert got.text("CVMFS_HTTP_PROXY") == "http://proxy.example.org:3128;DIRECT"
    assert got.is_on("CVMFS_STRICT_MOUNT")
    assert got.text("CVMFS_KEYS_DIR") == f"{ETC}/galaxy/keys/galaxyproject.org"


def test_a_moved_tree_reads_the_same(tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(ETC / "galaxy", moved)
    got = Tree(str(moved)).of("data")
    assert got.text("CVMFS_KEYS_DIR") == f"{moved}/keys/galaxyproject.org"
