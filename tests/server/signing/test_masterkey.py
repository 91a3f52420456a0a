"""The master key on another machine: requests, signatures carried by hand, and what of them is not believed."""

import os
import shutil
import stat
import time
from pathlib import Path

import pytest

from cvfs.errors import FormatError, NotFound, TrustError, UsageError
from cvfs.format.signature import load_public_key, sign_whitelist, split_signed, verify_whitelist_signature
from cvfs.format.whitelist import parse, stamp
from cvfs.hashes import Algorithm
from cvfs_server.signing.keys import load_private_key
from cvfs_server.signing.masterkey import export_request, install_whitelist, read_request, sign_request
from cvfs_server.signing.resign import resign_file, resign_whitelist, sign_new_whitelist
from cvfs_server.site import Site


@pytest.fixture
def own(new_repository):
    return new_repository(algorithm=Algorithm.SHAKE128)


@pytest.fixture
def away(own, tmp_path):
    """The master key, which is not on the publishing machine any more."""
    place = tmp_path / "usb-stick" / "master"
    place.parent.mkdir()
    shutil.move(own.site.key(own.fqrn, "masterkey"), place)
    return str(place)


@pytest.fixture
def request_file(own, away, tmp_path):
    path = tmp_path / "request"
    export_request(own.site, own.fqrn, str(path), 20)
    return path


def _published(own):
    return (own.storage / ".cvmfswhitelist").read_bytes()


def test_there_and_back(own, away, request_file):
    request = read_request(str(request_file))
    assert request.whitelist.fqrn == own.fqrn
    sign_request(request, away, str(request_file))
    installed = install_whitelist(own.site, own.fqrn, str(request_file))
    assert installed == request.whitelist
    assert _published(own) == request_file.read_bytes()
    own.open().close()
    assert own.check() == []


def test_what_is_read_is_what_is_signed(own, away, request_file, tmp_path):
    text = request_file.read_bytes()
    sign_request(read_request(str(request_file)), away, str(tmp_path / "signed"))
    signed = split_signed((tmp_path / "signed").read_bytes())
    assert signed.payload == text == request_file.read_bytes()
    public = load_public_key(Path(own.public_key).read_bytes())
    assert verify_whitelist_signature((public,), signed)


def test_the_other_machine_needs_nothing_but_the_key(own, away, request_file, monkeypatch):
    """Not even a clock that is right."""
    signed_there = read_request(str(request_file))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    sign_request(signed_there, away, str(request_file))
    monkeypatch.undo()
    install_whitelist(own.site, own.fqrn, str(request_file))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + b"comment\n",
        lambda text: text.replace(b"N", b"M", 1),
        lambda text: b"\n".join(text.split(b"\n")[:3]) + b"\n",
        lambda text: text + text.split(b"\n")[3].lower() + b"\n",
        lambda text: text.rstrip(b"\n"),
        lambda text: text.replace(b"\n", b"\nVpkcs7\n", 3),
        lambda _: b"",
        lambda text: text * 20000,
    ],
)
def test_what_is_no_request_is_not_signed(own, request_file, change):
    request_file.write_bytes(change(request_file.read_bytes()))
    with pytest.raises(FormatError):
        read_request(str(request_file))


def test_a_request_that_is_too_old(own, request_file, monkeypatch):
    later = time.time() + 21 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(UsageError, match="write a new request"):
        read_request(str(request_file))


def _install(own, document, tmp_path):
    path = tmp_path / "signed"
    path.write_bytes(document)
    return install_whitelist(own.site, own.fqrn, str(path))


def _signed(own, key, now=None, fqrn=None, change=lambda text: text):
    begins = time.time() if now is None else now
    fingerprint = split_signed(_published(own)).payload.split(b"\n")[3].decode()
    lines = (stamp(begins), f"E{stamp(begins + 30 * 86400)}", f"N{fqrn or own.fqrn}", fingerprint, "")
    return sign_whitelist(change("\n".join(lines)).encode(), Algorithm.SHA1, load_private_key(key))


def test_a_good_one_is_accepted(own, away, tmp_path):
    assert _install(own, _signed(own, away), tmp_path).fqrn == own.fqrn


def test_what_clients_would_refuse_is_not_installed(own, away, tmp_path):
    before = _published(own)
    wrong_key = own.site.key(own.fqrn, "key")
    refused = [
        (_signed(own, away)[:-1], "whitelist signature"),
        (_signed(own, wrong_key), "whitelist signature"),
        (_signed(own, away, now=time.time() - 31 * 86400), "whitelist expiry"),
        (_signed(own, away, fqrn="other.example.org"), "whitelist name"),
        (_signed(own, away, change=lambda text: text[:-4] + "00\n"), "certificate fingerprint"),
        (b"nothing signed", "whitelist format"),
    ]
    for document, step in refused:
        with pytest.raises(TrustError, match=step):
            _install(own, document, tmp_path)
    with pytest.raises(NotFound):
        install_whitelist(own.site, own.fqrn, str(tmp_path / "missing"))
    assert _published(own) == before


def test_nobody_goes_back(own, away, tmp_path):
    """Clients that have seen the present one would take an older one for a replay."""
    before = _published(own)
    with pytest.raises(UsageError, match="clients refuse"):
        _install(own, _signed(own, away, now=time.time() - 86400), tmp_path)
    assert _published(own) == before


def test_the_first_whitelist_may_come_from_elsewhere(own, away, request_file):
    os.unlink(own.storage / ".cvmfswhitelist")
    sign_request(read_request(str(request_file)), away, str(request_file))
    install_whitelist(own.site, own.fqrn, str(request_file))
    own.open().close()


@pytest.mark.parametrize("missing", ["crt", "configuration"])
def test_no_request_without_a_repository(own, tmp_path, missing):
    os.unlink(own.site.key(own.fqrn, "crt") if missing == "crt" else own.site.configuration(own.fqrn))
    with pytest.raises(NotFound):
        export_request(own.site, own.fqrn, str(tmp_path / "request"))
    assert not (tmp_path / "request").exists()


def test_without_the_master_key_the_way_is_shown(own, away):
    with pytest.raises(NotFound, match="cvfs-server masterkey"):
        resign_whitelist(own.site, own.fqrn)


def test_a_whitelist_signed_in_its_place(own, tmp_path):
    """On a machine that has the master key and no repository, as the original does it."""
    elsewhere = Site(str(tmp_path / "elsewhere"))
    os.makedirs(elsewhere.keys)
    shutil.move(own.site.key(own.fqrn, "masterkey"), elsewhere.key(own.fqrn, "masterkey"))
    carried = tmp_path / "whitelist"
    sign_old = parse(split_signed(_published(own)).payload)
    carried.write_bytes(_published(own))
    carried.chmod(0o640)
    signed = resign_file(elsewhere, own.fqrn, str(carried), 5)
    assert signed.fingerprints == sign_old.fingerprints
    assert stat.S_IMODE(carried.stat().st_mode) == 0o640
    assert install_whitelist(own.site, own.fqrn, str(carried)) == signed
    with pytest.raises(UsageError, match="not of other"):
        resign_file(elsewhere, "other.example.org", str(carried))
    carried.write_bytes(b"nothing")
    with pytest.raises(FormatError):
        resign_file(elsewhere, own.fqrn, str(carried))


def test_a_whitelist_that_ended_is_replaced(own, away, request_file):
    os.symlink(away, own.site.key(own.fqrn, "masterkey"))
    sign_new_whitelist(own.site, own.settings, 1, int(time.time()) - 10 * 86400)
    sign_request(read_request(str(request_file)), away, str(request_file))
    install_whitelist(own.site, own.fqrn, str(request_file))
    own.open().close()
