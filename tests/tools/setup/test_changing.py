"""Set-ups of a tree of files: done, done again, replaced, taken back; what an administrator wrote is his."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvfs.errors import FormatError, UsageError
from cvfs_tools.setup.draft import Draft, Regular
from cvfs_tools.setup.performing import SetUp
from cvfs_tools.setup.plan import Directory, File, Lines, Link, Section, joined
from cvfs_tools.setup.record import PLACE, lost_places
from cvfs_tools.setup.showing import shown

UNIT = File("/etc/systemd/system/x.service", b"[Unit]\n")
SCRIPT = File("/etc/auto.x", b"#!/bin/sh\n", 0o755)
LINES = Lines("/etc/fstab", (b"a /a x", b"b /b x"), rb"\S+\s+/[ab]\s")
LINK = Link("/usr/sbin/mount.x", "/opt/x/bin/mount.x")
EVERYTHING = (UNIT, SCRIPT, LINES, LINK, Directory("/cvmfs/a"))
FSTAB = b"# a comment\r\nUUID=1 / ext4 defaults 0 1\n\nother /srv nfs\n"


def section(*steps, name="mounts", **commands):
    return Section(name, steps, **commands)


def told_nothing(_line):
    raise AssertionError(_line)


def set_up(root, *sections, force=False, tell=told_nothing):
    made = SetUp(str(root), force=force)
    outcome = made.plan(list(sections))
    made.perform(outcome, tell)
    return outcome


def remove(root, *, force=False, tell=told_nothing):
    made = SetUp(str(root), force=force)
    outcome = made.plan_removal()
    made.perform(outcome, tell)
    return outcome


def tree(root):
    """All that is there, but for the memory of what was done."""
    found = {}
    for where, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(where, name)
            place = "/" + path.relative_to(root).as_posix()
            content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[place] = (path.lstat().st_mode, content)
    return {place: what for place, what in found.items() if not place.startswith(os.path.dirname(PLACE))}


@pytest.fixture
def root(tmp_path):
    for directory in ("etc", "usr/sbin", "var/lib"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/fstab").write_bytes(FSTAB)
    return tmp_path


@pytest.mark.parametrize("step", EVERYTHING, ids=lambda step: type(step).__name__)
def test_each_step_is_done_and_taken_back(root, step):
    before = tree(root)
    set_up(root, section(step))
    assert tree(root) != before
    remove(root)
    assert tree(root) == before


def test_what_the_steps_come_to(root):
    set_up(root, section(*EVERYTHING))
    now = tree(root)
    assert now["/etc/systemd/system/x.service"] == (0o100644, b"[Unit]\n")
    assert now["/etc/auto.x"] == (0o100755, b"#!/bin/sh\n")
    assert now["/etc/fstab"][1] == FSTAB + b"a /a x\nb /b x\n"
    assert now["/usr/sbin/mount.x"][1] == "/opt/x/bin/mount.x"
    assert now["/cvmfs/a"][1] is None


def test_the_second_time_there_is_nothing_to_do_and_all_is_still_remembered(root):
    before = tree(root)
    set_up(root, section(*EVERYTHING))
    assert set_up(root, section(*EVERYTHING)).changes == []
    remove(root)
    assert tree(root) == before
    assert not (root / PLACE.lstrip("/")).exists()
    assert remove(root).changes == []


def test_the_last_set_up_counts(root):
    before = tree(root)
    set_up(root, section(UNIT, LINK, LINES))
    set_up(root, section(SCRIPT, LINK))
    assert tree(root)["/etc/fstab"][1] == FSTAB
    assert "/etc/systemd" not in tree(root)
    remove(root)
    assert tree(root) == before


def test_sections_are_replaced_one_by_one(root):
    set_up(root, section(UNIT), section(SCRIPT, name="site"))
    set_up(root, section(LINK))
    assert {"/etc/auto.x", "/usr/sbin/mount.x"} <= set(tree(root))
    assert UNIT.place not in tree(root)


def test_a_directory_that_is_used_stays_and_goes_when_it_is_not(root):
    set_up(root, section(Directory("/cvmfs")))
    (root / "cvmfs/theirs").mkdir()
    set_up(root, section(Directory("/cvmfs"), UNIT))
    (root / "cvmfs/theirs").rmdir()
    remove(root)
    assert not (root / "cvmfs").exists()


@pytest.mark.parametrize("step", [UNIT, LINK], ids=["file", "link"])
def test_what_an_administrator_wrote_is_refused_unless_forced_and_comes_back(root, step):
    place = root / step.place.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("his\n")
    place.chmod(0o600)
    before = tree(root)
    with pytest.raises(UsageError, match="is there already"):
        set_up(root, section(step))
    assert tree(root) == before
    set_up(root, section(step), force=True)
    assert tree(root)[step.place] != before[step.place]
    remove(root)
    assert tree(root) == before


def test_what_was_there_as_it_should_be_is_not_ours_to_take_away(root):
    (root / LINK.place.lstrip("/")).symlink_to(LINK.target)
    (root / "cvmfs").mkdir()
    set_up(root, section(LINK, Directory("/cvmfs"), UNIT))
    remove(root)
    assert {LINK.place, "/cvmfs"} <= set(tree(root))


def test_what_an_administrator_changed_stays_until_that_is_forced(root):
    set_up(root, section(UNIT, LINK))
    place = root / UNIT.place.lstrip("/")
    place.write_text("his\n")
    assert remove(root).left == (UNIT.place,)
    assert place.read_text() == "his\n"
    assert LINK.place not in tree(root)
    with pytest.raises(UsageError, match="is there already"):
        set_up(root, section(UNIT))
    remove(root, force=True)
    assert not place.exists()


def test_lines_of_others_that_say_something_else_are_put_aside_in_their_place(root):
    fstab = root / "etc/fstab"
    fstab.write_bytes(b"first\nz /a nfs\nlast\n")
    with pytest.raises(UsageError, match="z /a nfs"):
        set_up(root, section(LINES))
    set_up(root, section(LINES), force=True)
    assert fstab.read_bytes() == b"first\n#cvfs setup# z /a nfs\nlast\na /a x\nb /b x\n"
    remove(root)
    assert fstab.read_bytes() == b"first\nz /a nfs\nlast\n"


def test_lines_that_give_way_are_left_out(root):
    polite = Lines("/etc/fstab", (b"a /a x",), rb"\S+ /a ", gives_way=True)
    set_up(root, section(polite))
    set_up(root, section(polite))
    assert (root / "etc/fstab").read_bytes() == FSTAB + b"a /a x\n"
    remove(root)
    (root / "etc/fstab").write_bytes(b"z /a nfs\n")
    assert set_up(root, section(polite)).changes == []


def test_lines_that_others_wrote_between_stay(root):
    set_up(root, section(LINES))
    with open(root / "etc/fstab", "ab") as file:
        file.write(b"c /c x\n")
    remove(root)
    assert (root / "etc/fstab").read_bytes() == FSTAB + b"c /c x\n"


@pytest.mark.parametrize(
    ("before", "added", "after"),
    [
        (b"first\nlast", b"", b"first\nlast"),
        (b"first\nlast", b"c /c x\n", b"first\nlast\nc /c x\n"),
        (b"", b"", b""),
        (b"\n", b"", b"\n"),
        (b"last\n\n", b"", b"last\n\n"),
    ],
)
def test_the_end_of_a_file_comes_back(root, before, added, after):
    """Many files end without a line end; it is added for our lines only."""
    fstab = root / "etc/fstab"
    fstab.write_bytes(before)
    for _ in range(2):
        set_up(root, section(LINES))
    fstab.write_bytes(fstab.read_bytes() + added)
    remove(root)
    assert fstab.read_bytes() == after


def test_a_file_made_for_lines_goes_with_them_unless_others_write_there(root):
    new = Lines("/etc/cvmfs/default.local", (b"A=1",))
    set_up(root, section(new))
    remove(root)
    assert "/etc/cvmfs" not in tree(root)
    set_up(root, section(new))
    (root / "etc/cvmfs/default.local").write_bytes(b"A=1\nB=2\n")
    remove(root)
    assert (root / "etc/cvmfs/default.local").read_bytes() == b"B=2\n"


def test_a_link_that_leads_out_of_the_tree_is_not_followed(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (root / "etc/systemd").symlink_to(elsewhere)
    with pytest.raises(UsageError, match="leads out"):
        set_up(root, section(UNIT))
    assert os.listdir(elsewhere) == []


def test_a_link_within_the_tree_is_followed(root):
    (root / "sbin").symlink_to("usr/sbin")
    set_up(root, section(Link("/sbin/mount.x", "/opt/x")))
    assert os.readlink(root / "usr/sbin/mount.x") == "/opt/x"


def test_a_place_that_is_something_else(root):
    os.mkfifo(root / "etc/auto.x")
    with pytest.raises(UsageError, match="neither file nor directory"):
        set_up(root, section(SCRIPT))
    (root / "etc/systemd/system/x.service").mkdir(parents=True)
    with pytest.raises(UsageError, match="move it away"):
        set_up(root, section(UNIT), force=True)


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'{"version": 1, "sections": {"mounts": 1}}', b"\xff"])
def test_a_damaged_memory_is_said_and_changes_nothing(root, text):
    path = root / PLACE.lstrip("/")
    path.parent.mkdir()
    path.write_bytes(text)
    before = tree(root)
    for attempt in (remove, lambda top: set_up(top, section(UNIT))):
        with pytest.raises(FormatError, match="damaged"):
            attempt(root)
    assert tree(root) == before


def test_a_set_up_that_was_interrupted_is_taken_back(root, monkeypatch):
    before = tree(root)
    perform = Draft.perform

    def fail(draft):
        draft.put(UNIT.place, None)
        perform(draft)
        raise OSError(28, "No space left on device", "/etc/x")

    monkeypatch.setattr(Draft, "perform", fail)
    with pytest.raises(UsageError, match=r"No space left.*--remove"):
        set_up(root, section(*EVERYTHING))
    monkeypatch.undo()
    assert tree(root) != before
    remove(root)
    assert tree(root) == before


def test_commands_of_a_machine_that_is_not_running_are_told(root):
    lines = []
    commands = {"reload": (("systemctl", "daemon-reload"),), "start": (("systemctl", "start", "x"),)}
    set_up(root, section(UNIT, **commands), tell=lines.append)
    reason = f"the machine of {root} is not running"
    assert lines == [f"not run ({reason}): systemctl daemon-reload", f"not run ({reason}): systemctl start x"]


@pytest.fixture
def here(root, monkeypatch):
    """A tree that counts as this machine's own."""
    monkeypatch.setattr("cvfs_tools.setup.performing.is_this_machine", lambda _root: True)
    return root


def test_commands_are_run_in_order_and_old_ones_before(here, tmp_path_factory):
    said = tmp_path_factory.mktemp("said") / "said"

    def say(word):
        return (("sh", "-c", f"echo {word} >> {said}"),)

    one = section(UNIT, reload=say("reload"), start=say("start"), stop=say("stop"))
    set_up(here, one)
    set_up(here, one)
    set_up(here, section(SCRIPT, start=say("other")))
    set_up(here, one)
    remove(here)
    # A repetition starts what may have been stopped; replacing stops the old and reloads for both.
    assert said.read_text().split() == [
        "reload",
        "start",
        "start",
        "stop",
        "reload",
        "other",
        "reload",
        "start",
        "stop",
        "reload",
    ]


def test_a_command_that_fails_is_told_when_the_rest_is_done(here):
    failing = (("sh", "-c", "echo no such unit >&2; exit 1"), ("/nowhere/systemctl",))
    with pytest.raises(UsageError, match="no such unit"):
        set_up(here, section(UNIT, start=failing))
    assert UNIT.place in tree(here)


def test_a_dry_run_shows_all_and_does_nothing(root):
    before = tree(root)
    commands = {"reload": (("systemctl", "daemon-reload"),), "stop": (("systemctl", "stop", "x"),)}
    made = SetUp(str(root))
    lines = list(shown(made.plan([section(*EVERYTHING, **commands)])))
    assert tree(root) == before
    assert "change  /etc/fstab (0644)" in lines
    assert "        +a /a x" in lines
    assert "make    /cvmfs/a/" in lines
    assert "link    /usr/sbin/mount.x -> /opt/x/bin/mount.x" in lines
    assert lines[-1] == "run     systemctl daemon-reload"
    set_up(root, section(*EVERYTHING, **commands), tell=lambda _: None)
    lines = list(shown(SetUp(str(root)).plan_removal()))
    assert lines[0] == "run     systemctl stop x"
    assert "remove  /usr/sbin/mount.x" in lines
    assert list(shown(SetUp(str(root)).plan([section(*EVERYTHING)]))) == ["nothing to change"]


def test_what_is_gone_or_leads_nowhere_is_found(root):
    set_up(root, section(UNIT, LINES, Directory("/cvmfs"), Link("/usr/sbin/mount.x", "../x"), SCRIPT))
    (root / "usr/x").touch()
    assert lost_places(str(root)) == []
    (root / "usr/x").unlink()
    (root / "etc/auto.x").unlink()
    assert lost_places(str(root)) == ["/usr/sbin/mount.x", "/etc/auto.x"]
    assert lost_places(str(root / "etc")) == []


STEPS = st.sampled_from(
    [*EVERYTHING, Lines("/etc/new", (b"x",)), Directory("/etc/deep/er"), File("/etc/deep/er/file", b"")]
)
SECTIONS = st.builds(
    lambda name, steps: section(*dict.fromkeys(steps), name=name), st.sampled_from(["mounts", "site"]), st.lists(STEPS)
)


@settings(max_examples=25, deadline=None)
@given(st.lists(SECTIONS, max_size=4), st.sampled_from([FSTAB, FSTAB.removesuffix(b"\n"), b""]))
def test_whatever_was_set_up_is_taken_back_whole(tmp_path_factory, sections, fstab):
    root = tmp_path_factory.mktemp("any")
    (root / "etc").mkdir()
    (root / "etc/fstab").write_bytes(fstab)
    before = tree(root)
    for one in sections:
        set_up(root, one)
    remove(root)
    # Directories above the memory of what was done are every machine's.
    assert {place: what for place, what in tree(root).items() if place not in ("/var", "/var/lib")} == before


def test_joined_sections_reload_once():
    one = section(UNIT, reload=(("a",),), start=(("b",),))
    both = joined("mounts", (one, section(LINK, reload=(("a",),), stop=(("c",),))))
    assert both == Section("mounts", (UNIT, LINK), (("a",),), (("b",),), (("c",),))


def test_a_root_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="no such directory"):
        SetUp(str(tmp_path / "none")).plan([])


def test_a_dead_mount_is_a_directory(monkeypatch, tmp_path):
    def dead(_path):
        raise OSError(107, "Transport endpoint is not connected")

    monkeypatch.setattr("cvfs_tools.setup.draft.os.lstat", dead)
    assert not isinstance(Draft(str(tmp_path)).look("/cvmfs"), Regular | None)


def test_a_directory_goes_after_what_another_section_put_there(root):
    before = tree(root)
    set_up(root, section(UNIT, name="site"))
    set_up(root, section(Directory("/etc/deep/er")))
    set_up(root, section(File("/etc/deep/er/file", b""), name="site"))
    remove(root)
    assert tree(root) == before


OWNER = (4711, 4712) if os.geteuid() == 0 else (os.geteuid(), os.getegid())


def own(path, content, mode):
    """A file of somebody's, maybe with a secret in it."""
    path.write_bytes(content)
    path.chmod(mode)
    os.chown(path, *OWNER)


def whose(path):
    status = path.stat()
    return (status.st_uid, status.st_gid), stat.S_IMODE(status.st_mode)


def test_a_file_that_gets_lines_stays_whose_it_is(root):
    own(root / "etc/fstab", FSTAB, 0o640)
    set_up(root, section(LINES))
    assert whose(root / "etc/fstab") == (OWNER, 0o640)
    remove(root)
    assert whose(root / "etc/fstab") == (OWNER, 0o640)
    assert (root / "etc/fstab").read_bytes() == FSTAB


@pytest.mark.parametrize(("mode", "of_record"), [(0o600, 0o600), (0o644, 0o644)])
def test_what_was_put_aside_comes_back_to_its_owner_and_no_secret_is_shown_meanwhile(root, mode, of_record):
    """What is put there instead is not his: the system may run it."""
    place = root / SCRIPT.place.lstrip("/")
    own(place, b"secret", mode)
    set_up(root, section(SCRIPT), force=True)
    assert whose(place) == ((os.geteuid(), os.getegid()), 0o755)
    assert whose(root / PLACE.lstrip("/"))[1] == of_record
    remove(root)
    assert (whose(place), place.read_bytes()) == ((OWNER, mode), b"secret")


def test_a_mount_point_is_taken_back_whatever_is_mounted_there(root, monkeypatch):
    before = tree(root)
    set_up(root, section(Directory("/cvmfs/a")))
    mounted = root / "cvmfs/a/bin"
    mounted.mkdir()
    monkeypatch.setattr("cvfs_tools.setup.draft.os.path.ismount", lambda path: path == os.path.dirname(mounted))
    made = SetUp(str(root))
    outcome = made.plan_removal()
    assert [change.place for change in outcome.changes] == ["/cvmfs/a", "/cvmfs"]
    # As a command of the plan does.
    mounted.rmdir()
    made.perform(outcome, told_nothing)
    assert tree(root) == before


def test_a_mount_point_is_taken_back_when_it_is_free(root, monkeypatch):
    """As autofs leaves its directory: some time after the command that told it to."""
    before = tree(root)
    set_up(root, section(Directory("/cvmfs/a")))
    mounted = root / "cvmfs/a/bin"
    mounted.mkdir()
    made, looks = SetUp(str(root)), iter([True, True, True])

    def ismount(path):
        if path != os.path.dirname(mounted):
            return False
        if next(looks, False):
            return True
        mounted.rmdir()
        return False

    monkeypatch.setattr("cvfs_tools.setup.draft.os.path.ismount", ismount)
    made.perform(made.plan_removal(), told_nothing)
    assert tree(root) == before
