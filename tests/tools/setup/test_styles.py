"""What each style of set-up comes to: units that systemd takes, a map that autofs can ask, lines for fstab, files of the site."""

import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from cvfs import interpreter
from cvfs.errors import Locked
from cvfs_tools.cvfs_command import main
from cvfs_tools.setup import autofs, fstab, programs, site_files, units
from cvfs_tools.setup.performing import alone
from cvfs_tools.setup.plan import Directory, File, Lines, Link
from cvfs_tools.setup.site_files import Site

ODD = ["/opt/my python/bin/python", "-c", "print('%d; $x', \"\\\")", "50%"]


def steps_of(section, kind):
    return [step for step in section.steps if isinstance(step, kind)]


def content(section, place):
    (file,) = [step for step in steps_of(section, File) if step.place == place]
    return file.content.decode()


# --- systemd ------------------------------------------------------------------------------------------------------------


def test_the_parent_is_one_unit_that_is_enabled_and_says_when_it_is_ready():
    section = units.parent_unit(["/opt/cvfs/bin/cvfs"], "/cvmfs")
    text = content(section, "/etc/systemd/system/cvfs.service")
    assert "ExecStart=/opt/cvfs/bin/cvfs automount --foreground /cvmfs\n" in text
    assert "Type=notify\n" in text
    assert steps_of(section, Directory) == [Directory("/cvmfs")]
    wanted = "/etc/systemd/system/multi-user.target.wants/cvfs.service"
    assert steps_of(section, Link) == [Link(wanted, "/etc/systemd/system/cvfs.service")]
    assert section.start == (("systemctl", "start", "cvfs.service"),)
    assert section.stop == (("systemctl", "stop", "cvfs.service"),)


def test_a_unit_for_each_repository():
    section = units.single_units(["/opt/cvfs/bin/cvfs"], "/cvmfs", ("a.org", "b.org"))
    assert "mount --foreground %i /cvmfs/%i\n" in content(section, "/etc/systemd/system/cvfs@.service")
    assert [link.place.rpartition("/")[2] for link in steps_of(section, Link)] == [
        "cvfs@a.org.service",
        "cvfs@b.org.service",
    ]
    assert ("systemctl", "stop", "cvfs@b.org.service") in section.stop
    assert steps_of(section, Directory) == [Directory("/cvmfs/a.org"), Directory("/cvmfs/b.org")]


def test_what_a_unit_would_take_for_its_own_is_quoted():
    text = content(units.parent_unit(ODD, "/cvmfs"), "/etc/systemd/system/cvfs.service")
    assert 'ExecStart="/opt/my python/bin/python" -c "print(\'%%d; $$x\', \\"\\\\\\")" 50%% automount --f' in text


def test_systemd_accepts_them(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    program = [shutil.which("true")]
    for section in (units.parent_unit(program, "/cvmfs"), units.single_units(program, "/cvmfs", ("a.org",))):
        for file in steps_of(section, File):
            (tmp_path / file.place.rpartition("/")[2].replace("@.", "@a.org.")).write_bytes(file.content)
    files = sorted(map(str, tmp_path.iterdir()))
    assert len(files) == 2
    command = [analyze, "verify", "--man=no", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    # Other units of the machine may be complained about.
    assert [line for line in done.stderr.splitlines() if "cvfs" in line] == []


# --- autofs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("atlas.cern.ch", "-fstype=cvfs :atlas.cern.ch\n"),
        ("a-b_c.9.org", "-fstype=cvfs :a-b_c.9.org\n"),
        *(
            (key, "")
            for key in ["nodot", ".git", "a.", "", "-o.x", "a b.org", "a.org;ls", "$(ls).org", "../x.org", "\u00fc.org"]
        ),
    ],
)
def test_the_map_knows_names_of_repositories_and_nothing_else(tmp_path, key, answer):
    script = tmp_path / "auto.cvfs"
    script.write_text(content(autofs.autofs_map("/cvmfs"), "/etc/auto.cvfs"))
    done = subprocess.run(["sh", str(script), key], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr, done.returncode) == (answer, "", 0 if answer else 1)


def test_autofs_finds_the_map():
    section = autofs.autofs_map("/cvmfs")
    assert content(section, "/etc/auto.master.d/cvfs.autofs").splitlines()[-1].split()[:2] == [
        "/cvmfs",
        "/etc/auto.cvfs",
    ]
    (script,) = [file for file in steps_of(section, File) if file.place == "/etc/auto.cvfs"]
    assert script.mode == 0o755


# --- fstab --------------------------------------------------------------------------------------------------------------


def test_a_line_and_a_mount_point_for_each_repository():
    section = fstab.fstab_lines("/cvmfs", ("a.org", "b.org"))
    assert steps_of(section, Directory) == [Directory("/cvmfs/a.org"), Directory("/cvmfs/b.org")]
    words = section.stop[0]
    # What somebody unmounted by hand is no failure.
    assert subprocess.run([*words[:-1], "/nowhere"], capture_output=True).returncode == 0
    assert words[-1] == "/cvmfs/a.org"
    (lines,) = steps_of(section, Lines)
    assert lines.lines[1] == b"b.org /cvmfs/b.org cvfs defaults,_netdev,nodev,nosuid 0 0"


@pytest.mark.parametrize(
    ("line", "is_against"),
    [
        (b"a.org /cvmfs/a.org cvmfs defaults 0 0", True),
        (b"  x\t/cvmfs/a.org/\tnfs ro", True),
        (b"# a.org /cvmfs/a.org cvmfs defaults 0 0", False),
        (b"a.org /cvmfs/aXorg cvmfs defaults 0 0", False),
        (b"a.org /cvmfs/a.org.uk cvmfs defaults 0 0", False),
        (b"a.org /srv/cvmfs/a.org cvmfs defaults 0 0", False),
    ],
)
def test_lines_of_others_for_the_same_place(line, is_against):
    from cvfs_tools.setup.text_lines import conflicts

    (ours,) = steps_of(fstab.fstab_lines("/cvmfs", ("a.org",)), Lines)
    assert bool(conflicts(line + b"\n", ours.lines, ours.against)) is is_against


# --- programs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "places"),
    [
        (["/opt/bin/mount.cvfs"], ["/usr/sbin/mount.cvfs", "/usr/sbin/mount.fuse.cvfs"]),
        (["/usr/sbin/mount.cvfs"], ["/usr/sbin/mount.fuse.cvfs"]),
        (["/sbin/mount.cvfs"], ["/usr/sbin/mount.fuse.cvfs"]),
    ],
)
def test_mount_finds_its_helper(monkeypatch, words, places):
    monkeypatch.setattr(interpreter, "command", lambda _program: words)
    assert programs.helpers().steps == tuple(Link(place, words[0]) for place in places)


def test_a_helper_that_is_no_file_of_its_own_gets_one(monkeypatch, tmp_path):
    words = [sys.executable, "-c", "import sys; print(sys.argv[1:])", "it's"]
    monkeypatch.setattr(interpreter, "command", lambda _program: words)
    step, _ = programs.helpers().steps
    assert (step.place, step.mode) == ("/usr/sbin/mount.cvfs", 0o755)
    script = tmp_path / "mount.cvfs"
    script.write_bytes(step.content)
    done = subprocess.run(["sh", script, "a b", "-o", "ro"], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[\"it's\", 'a b', '-o', 'ro']\n"


def test_tables_that_say_cvmfs_are_served_if_that_is_wished():
    places = [step.place for step in programs.helpers("/opt/bin", as_cvmfs=True).steps]
    assert places == ["/usr/sbin/mount.cvfs", "/usr/sbin/mount.fuse.cvfs", "/usr/sbin/mount.cvmfs"]


# --- the site -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "line"),
    [
        (Site(proxy="http://a:3128|http://b:3128;DIRECT"), b"CVMFS_HTTP_PROXY='http://a:3128|http://b:3128;DIRECT'"),
        (Site(("a.org", "b.org")), b"CVMFS_REPOSITORIES=a.org,b.org"),
        (Site(single=True), b"CVMFS_CLIENT_PROFILE=single"),
        (Site(quota=4000), b"CVMFS_QUOTA_LIMIT=4000"),
    ],
)
def test_what_a_site_says_is_a_line_that_a_shell_understands(site, line):
    (step,) = site_files.site_files(site).steps
    assert (step.place, step.lines) == ("/etc/cvmfs/default.local", (line,))


def test_servers_and_keys_are_files():
    site = Site(("a.org",), url="http://s/cvmfs/@fqrn@", keys={"x/a.org.pub": b"PEM"})
    _, servers, key = site_files.site_files(site).steps
    assert servers == File("/etc/cvmfs/config.d/a.org.conf", b"CVMFS_SERVER_URL=http://s/cvmfs/@fqrn@\n")
    assert key == File("/etc/cvmfs/keys/a.org.pub", b"PEM")


# --- the verb -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def setup(tmp_path):
    (tmp_path / "etc/cvmfs").mkdir(parents=True)
    (tmp_path / "etc/cvmfs/default.local").write_text("CVMFS_REPOSITORIES=a.org,b.org\nCVMFS_MOUNT_DIR=/sw\n")

    def run(*words):
        return CliRunner().invoke(
            main, ["setup", "--root", str(tmp_path), "--bin", "/opt/bin", *words], prog_name="cvfs"
        )

    return run


@pytest.mark.parametrize(
    ("words", "places"),
    [
        ((), ["etc/systemd/system/cvfs.service", "sw"]),
        (("--parent",), ["etc/systemd/system/cvfs.service"]),
        (("--systemd",), ["etc/systemd/system/multi-user.target.wants/cvfs@b.org.service", "sw"]),
        (("--systemd", "c.org"), ["etc/systemd/system/multi-user.target.wants/cvfs@c.org.service"]),
        (("--autofs",), ["etc/auto.cvfs", "etc/auto.master.d/cvfs.autofs"]),
        (("--fstab",), ["etc/fstab", "sw/a.org", "sw/b.org"]),
        (("--mount-dir", "/cvmfs"), ["cvmfs"]),
    ],
)
def test_styles_of_the_verb(setup, tmp_path, words, places):
    done = setup(*words)
    assert (done.exit_code, done.stderr) == (0, "")
    for place in ["usr/sbin/mount.cvfs", *places]:
        assert (tmp_path / place).lstat()
    assert setup("--remove").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "etc").iterdir()) == ["cvmfs"]


def test_a_dry_run_of_the_verb(setup, tmp_path):
    done = setup("--dry-run", "-p", "http://squid:3128", "c.org", "--force")
    assert "        +CVMFS_HTTP_PROXY=http://squid:3128" in done.output
    assert "        +#cvfs setup# CVMFS_REPOSITORIES=a.org,b.org" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["etc"]


def test_one_at_a_time(setup, tmp_path):
    """What another one does meanwhile is no part of the plan."""
    with alone(str(tmp_path)):
        done = setup("c.org", "--force")
        assert (done.exit_code, "another cvfs setup is at work" in done.output) == (Locked.exit_status, True)
        assert [path.name for path in tmp_path.iterdir()] == ["etc"]
        assert setup("c.org", "--force", "--dry-run").exit_code == 0
    assert setup("c.org", "--force").exit_code == 0


def test_a_key_is_read_before_it_is_copied(setup, tiny, tmp_path):
    assert setup("-k", str(tiny.public_key)).exit_code == 0
    assert (tmp_path / "etc/cvmfs/keys" / tiny.public_key.name).read_bytes() == tiny.public_key.read_bytes()
    private = tiny.private / f"{tiny.fqrn}.masterkey"
    assert f"{private}: not a public key" in setup("-k", str(private)).output


@pytest.mark.parametrize("words", [(), ("--systemd", "c.org"), ("--fstab", "d.org", "e.org"), ("d.org", "c.org")])
def test_names_alone_leave_what_was_said_of_them(setup, tiny, tmp_path, words):
    tree = tmp_path / "etc/cvmfs"
    (tree / "default.local").unlink()
    assert setup("c.org", "d.org", "-w", "http://s/@fqrn@", "-k", str(tiny.public_key), "--single").exit_code == 0
    said = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    assert len(said) == 4
    assert setup(*words).exit_code == 0
    assert {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()} == said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fstab", "nodot"), "'nodot' is not a repository name"),
        (("-w", "http://s/cvmfs/@fqrn@"), "name the repositories that are served there"),
        (("c.org",), "CVMFS_REPOSITORIES=a.org,b.org"),
        (("-p", ""), "-p: nothing is said"),
        (("--mount-dir", ""), "--mount-dir: nothing is said"),
        (("--bin", "bin"), "--bin bin: units and links need an absolute path"),
    ],
)
def test_what_makes_no_sense_is_refused(setup, words, message):
    done = setup(*words)
    assert done.exit_code != 0
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_any_configuration_repositories_must_be_named(setup, tmp_path):
    (tmp_path / "etc/cvmfs/default.local").unlink()
    done = setup("--fstab")
    assert "no repository is named" in done.stderr


def test_only_root_sets_a_machine_up(monkeypatch):
    monkeypatch.setattr("cvfs_tools.setup.command.os.geteuid", lambda: 1000)
    done = CliRunner().invoke(main, ["setup", "--bin", "/opt/bin"], prog_name="cvfs")
    assert done.exit_code != 0
    assert "only root" in done.stderr
