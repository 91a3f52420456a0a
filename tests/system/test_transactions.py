"""Transactions as a release manager makes them, in shell scripts: as root, and as an ordinary user in a user namespace."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
from processes import ENVIRONMENT, has_ended

from cvfs.kernel.mount_table import find_mount
from cvfs_server.settings import load_settings
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.record import read_record
from cvfs_server.transaction.transactions import unmount_everything

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

USER = 1000
# Who that is outside of the namespace does not matter: inside there are no rights, and none over the machine's mounts.
BECOME_ORDINARY = ("unshare", "--user", f"--map-user={USER}", f"--map-group={USER}", "--")

EDITS = """
echo new > "$top/new file"
printf more >> "$top/plain"
chmod 600 "$top/mode"
mv "$top/renamed" "$top/moved"
ln "$top/plain" "$top/plain too"
ln "$top/new file" "$top/new link"
rm "$top/linked/one"
rm -r "$top/was a directory"
echo now a file > "$top/was a directory"
rm "$top/was a file"
mkdir -p "$top/was a file/with/depth"
echo below > "$top/was a file/with/depth/file"
rm "$top/was a link"
mkfifo "$top/was a link"
rm -r "$top/made anew"
mkdir -m 711 "$top/made anew"
echo only > "$top/made anew/only"
ln -sf elsewhere "$top/link"
touch -d 1999-09-09 "$top/old" "$top/kept/deep"
chmod 750 "$top/kept" "$top"
rm "$top/kept/deep/gone"
echo > "$top/nested/.cvmfscatalog"
truncate -s 300000 "$top/sparse"
setfattr -n user.test1 -v value "$top/mode" "$top/kept"
echo odd > "$top/$(printf 'new\\nline\\377')"
"""


def apart(found):
    """Without what names share a file: a union forgets that as soon as the kernel forgets the names."""
    return {path: entry._replace(together=()) for path, entry in found.items()}


class Workplace:
    """A repository, a user and the commands he types."""

    def __init__(self, own, directory: Path, login: int = 0) -> None:
        self.own = own
        self.ordinary = bool(login)
        self.layout = Layout.of(own.site, load_settings(own.site, own.fqrn))
        self.union = Path(self.layout.union)
        self._directory = directory
        self._prefix = ("nsenter", "--user", "--preserve-credentials", f"--target={login}", "--") if login else ()
        for name, module in (("cvfs-server", "server_command"), ("cvfs", "cvfs_command")):
            program = f"import sys; from cvfs_tools.{module} import main; main(prog_name='{name}')"
            command = directory / name
            command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{program}" "$@"\n')
            command.chmod(0o755)

    def run(self, script: str, directory: str = "/") -> subprocess.CompletedProcess[str]:
        """A shell script; `$top` is the union, `$name` the repository."""
        environment = ENVIRONMENT | {
            "CVFS_ROOT": self.own.site.root,
            "PATH": f"{self._directory}:{os.environ['PATH']}",
            "top": str(self.union),
            "name": self.own.fqrn,
        }
        return subprocess.run(
            [*self._prefix, "bash", "-c", f"set -e\n{script}"],
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )

    def do(self, script: str, directory: str = "/") -> str:
        """A script that succeeds; what it prints."""
        done = self.run(script, directory)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, script: str, directory: str = "/") -> str:
        """A script that fails with one line."""
        done = self.run(script, directory)
        assert done.returncode != 0
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    @property
    def keeper(self) -> int:
        return read_record(self.layout).keeper

    def seen(self, look):
        """The union by way of the kernel, as it is to be published; outside its owner is root."""
        found = look(os.fsencode(self.union) + b"/.")
        owner = {"uid": USER, "gid": USER} if self.ordinary else {}
        return apart({path: entry._replace(**owner) for path, entry in found.items()})

    def close(self) -> None:
        if find_mount(self.layout.union) or read_record(self.layout):
            self.do(f"cvfs-server umount -l {self.own.fqrn}")


@pytest.fixture(params=["root", "ordinary user"])
def workplace(request, new_repository, tmp_path):
    """The same for both; the repository has a tree with something of everything."""
    if request.param == "root":
        yield from _working_at(new_repository, tmp_path)
        return
    if subprocess.run([*BECOME_ORDINARY, "true"], capture_output=True).returncode:
        pytest.skip("user namespaces are not allowed here")
    # One namespace for all that the user does, as long as he is logged in.
    with subprocess.Popen([*BECOME_ORDINARY, "sh", "-c", "echo; read end"], stdin=PIPE, stdout=PIPE) as login:
        assert login.stdout.readline() == b"\n"
        yield from _working_at(new_repository, tmp_path, login.pid)
        login.stdin.close()


@pytest.fixture
def desk(new_repository, tmp_path):
    """Root's only."""
    yield from _working_at(new_repository, tmp_path)


def _working_at(new_repository, tmp_path, login=0):
    own = new_repository(compression="zlib-fast")
    made = Workplace(own, tmp_path, login)
    _fill(own.tree)
    made.do(f"cvfs-server publish --from {own.tree} -a start $name")
    yield made
    made.close()


def _fill(tree: Path) -> None:
    for name in ("plain", "mode", "was a file", "old", "renamed/deep/file", "was a directory/file", "made anew/before"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    for name in ("kept/deep/gone", "kept/deep/stays", "nested/file", "linked/one"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(os.urandom(9000))
    for name in ("two", "three"):
        os.link(tree / "linked/one", tree / "linked" / name)
    (tree / "link").symlink_to("plain")
    (tree / "was a link").symlink_to("plain")


def test_the_daily_idiom(workplace, client, look, look_through):
    """Everything that is done in a union is there elsewhere, exactly."""
    own = workplace.own
    workplace.do("cvfs-server transaction $name")
    workplace.do(EDITS)
    expected = workplace.seen(look)
    assert expected[b"/moved/deep/file"].content == b"renamed/deep/file"
    workplace.do("cvfs-server publish -a v1 -m 'some text' $name")
    with own.open("v1") as repository:
        published = look_through(repository)
        assert apart(published) == expected
        assert published[b"/plain"].together == (b"/plain", b"/plain too")
        assert published[b"/new file"].together == (b"/new file", b"/new link")
        assert published[b"/linked/two"].together == (b"/linked/three", b"/linked/two")
        assert repository.tree.governing(b"/nested/file").path == b"/nested"
    mounted = client(own, f"file://{own.site.web_root}")
    mounted.mount()
    assert look(os.fsencode(mounted.mountpoint)) == published
    assert [finding for finding in own.check() if not finding.is_warning] == []
    tags = workplace.do("cvfs-server tag -lx $name").splitlines()
    assert any(line.startswith("v1 ") and line.endswith("some text") for line in tags)


def test_several_transactions_one_after_the_other(desk, look, look_through):
    for number in range(3):
        desk.do(
            f"cvfs-server transaction $name; mkdir $top/{number}; echo {number} > $top/{number}/file; rm -rf $top/1"
        )
        expected = desk.seen(look)
        desk.do("cvfs-server publish $name")
        with desk.own.open() as repository:
            assert apart(look_through(repository)) == expected
            assert repository.number == 3 + number


def test_nothing_is_left_of_a_transaction(workplace):
    before = workplace.own.manifest()
    workplace.do("cvfs-server transaction $name; rm -r $top/kept; echo > $top/new")
    keeper = workplace.keeper
    asked = workplace.run("cvfs-server abort $name")
    assert (asked.returncode, "Are you sure (y/N)?" in asked.stdout) == (1, True)
    assert (workplace.union / "new").exists()
    workplace.do("cvfs-server abort -f $name")
    assert workplace.own.manifest() == before
    assert os.listdir(workplace.layout.wastebin) == []
    assert not os.path.exists(workplace.layout.open_mark)
    if workplace.ordinary:
        assert has_ended(keeper)
        assert not os.path.lexists(workplace.union)
    else:
        assert (workplace.union / "kept/deep/stays").exists()
        assert "Read-only file system" in workplace.refused("echo > $top/new")
    assert "is not in a transaction" in workplace.refused("cvfs-server abort -f $name")
    assert "is not in a transaction" in workplace.refused("cvfs-server publish $name")


def test_a_second_transaction(workplace):
    workplace.do("cvfs-server transaction $name")
    assert "is already in a transaction, opened by" in workplace.refused("cvfs-server transaction $name")
    workplace.do(
        "cvfs-server transaction -t 100 $name & sleep 0.2; cvfs-server abort -f $name; wait $!; touch $top/waited"
    )
    assert (workplace.union / "waited").exists()


def test_a_copy_at_the_beginning(workplace, look, look_through):
    workplace.do("cvfs-server transaction -T /kept=/copied $name; echo > $top/copied/more; rm $top/copied/deep/gone")
    expected = workplace.seen(look)
    assert expected[b"/copied/deep/stays"].content == expected[b"/kept/deep/stays"].content
    assert "/copied" in workplace.do("cvfs-server publish -v $name")
    with workplace.own.open() as repository:
        assert apart(look_through(repository)) == expected
    assert [finding for finding in workplace.own.check() if not finding.is_warning] == []


def test_a_transaction_for_a_sub_path(desk):
    desk.do("cvfs-server transaction $name/kept/deep; echo > $top/kept/deep/new; echo > $top/elsewhere")
    assert "/elsewhere: this transaction is for /kept/deep only" in desk.refused("cvfs-server publish $name")
    desk.do("rm $top/elsewhere; cvfs-server publish $name")
    with desk.own.open() as repository:
        assert repository.read("/kept/deep/new") == b"\n"


def test_others_publish_meanwhile(desk, look_through):
    """What does not collide is merged; a conflict names the path, and the transaction stays as it is."""
    own = desk.own
    desk.do("cvfs-server transaction $name; echo mine > $top/kept/mine; echo mine > $top/plain")
    (own.tree / "theirs").write_text("theirs")
    (own.tree / "plain").write_text("also changed")
    desk.do(f"cvfs-server publish --from {own.tree} $name")
    assert "/plain" in desk.refused("cvfs-server publish $name")
    # A name that was deleted and comes back with its old content would still have another time.
    desk.do("echo more >> $top/kept/mine; rm -f $top/plain; cvfs-server abort -f $name")
    desk.do("cvfs-server transaction $name; echo mine > $top/kept/mine")
    (own.tree / "theirs").write_text("again")
    desk.do(f"cvfs-server publish --from {own.tree} $name; cvfs-server publish $name")
    with own.open() as repository:
        assert repository.read("/kept/mine") == b"mine\n"
        assert repository.read("/theirs") == b"again"
        assert repository.read("/plain") == b"also changed"


def test_somebody_uses_the_files(workplace):
    """Who that is gets told; -f does not wait for him."""
    workplace.do("cvfs-server transaction $name; echo > $top/new")
    shown = workplace.refused("cd $top/; sleep 100 & cd /; trap 'kill %1' EXIT; cvfs-server publish $name")
    assert re.search(r"in use by .*sleep \(\d+\)", shown)
    shown = workplace.refused("exec 5>$top/open; sleep 100 & exec 5>&-; trap 'kill %1' EXIT; cvfs-server publish $name")
    assert re.search(r"sleep \(\d+, writes\)", shown)
    assert "Current working directory is in" in workplace.refused("cd $top/; cvfs-server publish $name")
    workplace.do("echo still writable > $top/new")
    workplace.do("cd $top/; sleep 100 & cd /; trap 'kill %1' EXIT; cvfs-server publish -f $name")
    with workplace.own.open() as repository:
        assert repository.read("/new") == b"still writable\n"


def test_what_cannot_be_published_leaves_the_transaction_open(desk):
    desk.do("cvfs-server transaction $name; echo > $top/fine; echo > $top/.cvmfscatalog")
    assert "/.cvmfscatalog" in desk.refused("cvfs-server publish $name")
    desk.do("rm $top/.cvmfscatalog; cvfs-server publish $name")
    with desk.own.open() as repository:
        assert repository.read("/fine") == b"\n"


@pytest.mark.parametrize("rescue", ["mount", "publish", "abort"])
def test_a_killed_client(workplace, rescue):
    """As after a reboot: what was changed is there, and every verb goes on."""
    workplace.do("cvfs-server transaction $name; echo survives > $top/new")
    _kill_clients(workplace.layout)
    if rescue == "abort":
        workplace.do("cvfs-server abort -f $name; cvfs-server transaction $name; test ! -e $top/new")
        return
    if rescue == "mount":
        workplace.do(
            "cvfs-server mount $name; grep -q survives $top/new; echo more >> $top/new; cat $top/kept/deep/stays >/dev/null"
        )
    workplace.do("cvfs-server publish $name")
    with workplace.own.open() as repository:
        assert repository.read("/new").startswith(b"survives\n")


def _kill_clients(layout):
    killed = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(layout.lower) in words:
            os.kill(int(name), signal.SIGKILL)
            assert has_ended(int(name))
            killed += 1
    assert killed


def test_entering(workplace):
    workplace.do("cvfs-server transaction $name")
    shown = workplace.do("cvfs-server enter $name -- sh -c 'pwd; id -u; cat plain; echo inside > inside'").split("\n")
    assert shown[:3] == [str(workplace.union), str(USER if workplace.ordinary else 0), "plain"]
    assert workplace.do("cvfs-server enter -r $name -- id -u") == "0\n"
    assert (workplace.union / "inside").read_text() == "inside\n"
    assert "no-such-program: No such file" in workplace.refused("cvfs-server enter $name no-such-program")


def test_hooks(desk):
    hooks = Path(desk.own.site.root) / "etc/cvmfs/cvmfs_server_hooks.sh"
    names = [f"{verb}_{moment}_hook" for verb in ("transaction", "publish", "abort") for moment in ("before", "after")]
    hooks.write_text("".join(f"{name}() {{ echo {name} $1; }}\n" for name in names))
    shown = desk.do("cvfs-server transaction $name; cvfs-server publish $name")
    assert re.findall(r"(\w+)_hook own", shown) == [
        "transaction_before",
        "transaction_after",
        "publish_before",
        "publish_after",
    ]
    hooks.write_text("transaction_before_hook() { exit 3; }\n")
    assert "transaction_before_hook" in desk.refused("cvfs-server transaction $name")
    assert not os.path.exists(desk.layout.open_mark)


def test_the_publisher_sees_the_newest_revision(desk):
    """Between transactions too, where it was mounted once."""
    desk.do("cvfs-server transaction $name; echo 1 > $top/new; cvfs-server publish $name; grep 1 $top/new")
    desk.do(
        "cd $top; sleep 100 & cd /; cvfs-server transaction $name; echo 2 > $top/new; kill %1; wait || true; cvfs-server publish $name"
    )
    assert (desk.union / "new").read_text() == "2\n"
    desk.do("cvfs-server umount $name")
    assert os.listdir(desk.union) == []
    desk.do("cvfs-server mount -a")
    assert (desk.union / "new").read_text() == "2\n"
    unmount_everything(desk.own.site, desk.own.settings)
    assert os.listdir(desk.union) == []


def test_odd_files_as_root(desk, look, look_through):
    """Owners, devices, attributes that only root sets, and a directory that hides what was published below it."""
    desk.do("cvfs-server transaction $name")
    desk.do(
        """mknod $top/device b 8 1
        chown 5:6 $top/plain $top/kept
        setfattr -n trusted.test -v secret $top/mode
        setfattr -n trusted.test -v secret $top/kept
        chown -h 7:8 $top/link
        rm -r $top/kept/deep; mkdir $top/kept/deep; touch $top/kept/deep/other
        mkdir $top/a; mv $top/a $top/b"""
    )
    expected = desk.seen(look)
    assert set(os.listdir(desk.union / "kept/deep")) == {"other"}
    desk.do("cvfs-server publish $name")
    with desk.own.open() as repository:
        assert apart(look_through(repository)) == expected


def test_a_mark_that_cannot_be_made_is_no_publish_and_leaves_the_transaction_open(desk, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("text")
    desk.do("cvfs-server transaction $name; echo 1 > $top/new")
    os.symlink(victim, desk.layout.publishing_mark)
    assert "nothing was published" in desk.refused("cvfs-server publish $name")
    assert victim.read_text() == "text"
    # The transaction can be written to, and published.
    desk.do("echo 2 > $top/newer; cvfs-server publish $name")
    assert desk.own.manifest().revision == 3


def test_what_is_published_is_closed_although_that_cannot_be_written_down(desk):
    desk.do("cvfs-server transaction $name; echo 1 > $top/new")
    # Where the record would be written first.
    os.mkdir(f"{desk.layout.open_mark}.new")
    desk.do("cvfs-server publish $name")
    assert desk.own.manifest().revision == 3
    assert read_record(desk.layout) is None
    desk.do(f"rmdir {desk.layout.open_mark}.new; cvfs-server transaction $name; cvfs-server abort -f $name")
