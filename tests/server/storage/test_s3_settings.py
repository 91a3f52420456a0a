"""What S3 configuration files and CVMFS_UPSTREAM_STORAGE mean: the original's parameters, each obeyed or refused by name."""

import dataclasses
import os
import sys

import pytest

from cvfs.errors import NotFound, UsageError
from cvfs_server.settings import configuration_text, default_settings, in_s3, load_settings
from cvfs_server.site import Site
from cvfs_server.storage.choice import storage_of
from cvfs_server.storage.s3_settings import S3Settings, S3Upstream, load_s3_settings, s3_settings

LEAST = {"HOST": "s3.example.org", "BUCKET": "software", "ACCESS_KEY": "account", "SECRET_KEY": "hush-hush"}


def _settings(**changes):
    values = {f"CVMFS_S3_{name}": text for name, text in {**LEAST, **changes}.items() if text is not None}
    return s3_settings(values, "s3.conf")


def test_what_is_not_said():
    settings = _settings()
    assert settings == S3Settings(
        endpoint="http://s3.example.org",
        bucket="software",
        access_key="account",
        secret_key="hush-hush",
        where="s3.conf",
        region="us-east-1",
        signature="s3v4",
        dns_buckets=True,
        proxy="",
        timeout=60,
        retries=3,
        connections=16,
        peek=True,
        acl="public-read",
        delete_batch=1000,
    )


@pytest.mark.parametrize(
    ("given", "name", "meant"),
    [
        ({"PORT": "8080"}, "endpoint", "http://s3.example.org:8080"),
        ({"USE_HTTPS": "yes"}, "endpoint", "https://s3.example.org"),
        ({"HOST": "127.0.0.1:9000"}, "endpoint", "http://127.0.0.1:9000"),
        ({"HOST": "[::1]:9000", "USE_HTTPS": "on"}, "endpoint", "https://[::1]:9000"),
        ({"REGION": "eu-central-1"}, "region", "eu-central-1"),
        ({"FLAVOR": "awsv2"}, "signature", "s3"),
        ({"FLAVOR": "awsv4"}, "signature", "s3v4"),
        ({"DNS_BUCKETS": "false"}, "dns_buckets", False),
        ({"PEEK_BEFORE_PUT": "no"}, "peek", False),
        ({"PEEK_BEFORE_PUT": "off"}, "peek", False),
        ({"MAX_NUMBER_OF_PARALLEL_CONNECTIONS": "400"}, "connections", 400),
        ({"TIMEOUT": "5"}, "timeout", 5),
        ({"MAX_RETRIES": "0"}, "retries", 0),
        ({"X_AMZ_ACL": "private"}, "acl", "private"),
        ({"X_AMZ_ACL": ""}, "acl", ""),
        ({"PROXY": "http://proxy.example.org:3128"}, "proxy", "http://proxy.example.org:3128"),
        ({"PROXY": "proxy.example.org:3128"}, "proxy", "http://proxy.example.org:3128"),
        ({"PROXY": "DIRECT"}, "proxy", ""),
        ({"BATCH_DELETE": "no"}, "delete_batch", 1),
        ({"BATCH_DELETE_SIZE": "10"}, "delete_batch", 10),
        ({"BATCH_DELETE_SIZE": "5000"}, "delete_batch", 1000),
    ],
)
def test_parameters(given, name, meant):
    assert getattr(_settings(**given), name) == meant


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"HOST": None}, "HOST: is missing"),
        ({"BUCKET": ""}, "BUCKET: is missing"),
        ({"ACCESS_KEY": None}, "ACCESS_KEY: is missing"),
        ({"SECRET_KEY": None}, "SECRET_KEY: is missing"),
        ({"HOST": "http://s3.example.org"}, "without http://"),
        ({"HOST": "s3.example.org/path"}, "without a path"),
        ({"HOST": "s3.example.org:many"}, "no name of a server"),
        ({"PORT": "0"}, "PORT: '0' is no number from 1"),
        ({"PORT": "65536"}, "PORT: '65536' is no number"),
        ({"TIMEOUT": "0"}, "TIMEOUT: '0' is no number"),
        ({"TIMEOUT": "soon"}, "TIMEOUT: 'soon' is no number"),
        ({"TIMEOUT": "٣"}, "is no number"),
        ({"MAX_RETRIES": "-1"}, "MAX_RETRIES: '-1' is no number"),
        ({"MAX_NUMBER_OF_PARALLEL_CONNECTIONS": "0"}, "is no number"),
        ({"DNS_BUCKETS": "perhaps"}, "DNS_BUCKETS: 'perhaps' is neither yes nor no"),
        ({"FLAVOR": "azure"}, "FLAVOR: 'azure' is none of awsv4, awsv2"),
        ({"X_AMZ_ACL": "everybody"}, "X_AMZ_ACL: 'everybody' is none of private"),
        ({"PROXY": "http://"}, "PROXY: is no URL"),
        ({"BUCKETS_PER_ACCOUNT": "4"}, "BUCKETS_PER_ACCOUNT: one bucket holds"),
        ({"ACCOUNTS": "2"}, "ACCOUNTS: one account"),
        ({"PARALEL": "4"}, "PARALEL: no such parameter"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(given, message):
    with pytest.raises(UsageError) as refused:
        _settings(**given)
    assert str(refused.value).startswith("s3.conf: CVMFS_S3_")
    assert message in str(refused.value)
    assert "hush-hush" not in str(refused.value)


def test_no_key_is_shown():
    assert "hush-hush" not in repr(_settings())
    assert "account" not in repr(_settings())


@pytest.mark.parametrize(("processors", "connections", "parallel"), [(1, 16, 8), (8, 16, 2), (64, 16, 1), (2, 1, 1)])
def test_connections_are_shared_by_the_workers(monkeypatch, processors, connections, parallel):
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert dataclasses.replace(_settings(), connections=connections).parallel == parallel


def test_the_file_is_read_without_a_shell(tmp_path):
    file = tmp_path / "s3.conf"
    file.write_text("".join(f"CVMFS_S3_{name}='{text}'  # said\n" for name, text in LEAST.items()) + "OTHER=1\n")
    assert load_s3_settings(str(file)) == dataclasses.replace(_settings(), where=str(file))


def test_files_that_are_none(tmp_path):
    with pytest.raises(NotFound, match=r"no\.conf: No such file"):
        load_s3_settings(str(tmp_path / "no.conf"))
    (tmp_path / "long").write_text("#" * 70_000)
    with pytest.raises(UsageError, match="longer than"):
        load_s3_settings(str(tmp_path / "long"))


@pytest.mark.parametrize(
    "text",
    [
        "S3,/var/spool/cvmfs/x.org/tmp,x.org@/etc/cvmfs/s3.conf",
        "S3,/staging,deep/er/x.org@/etc/cvmfs/s3@home.conf",
    ],
)
def test_an_upstream_reads_as_it_is_written(text):
    assert str(S3Upstream.parse(text, "CVMFS_UPSTREAM_STORAGE")) == text


@pytest.mark.parametrize(
    "text",
    [
        "S3",
        "S3,/staging",
        "S3,/staging,x.org",
        "S3,staging,x.org@/s3.conf",
        "S3,/staging,x.org@s3.conf",
        "S3,/staging,@/s3.conf",
        "S3,/staging,../x.org@/s3.conf",
        "S3,/staging,/x.org@/s3.conf",
        "gw,/staging,x.org@/s3.conf",
    ],
)
def test_upstreams_that_mean_nothing(text):
    with pytest.raises(UsageError, match="expected S3,"):
        S3Upstream.parse(text, "server.conf: CVMFS_UPSTREAM_STORAGE")


@pytest.mark.parametrize(
    ("dns_buckets", "url", "alias", "found_at"),
    [
        ("true", "http://software.s3.example.org", "x.example.org", "http://software.s3.example.org/x.example.org"),
        ("true", "http://host/cvmfs/", "cvmfs/x.example.org", "http://host/cvmfs/x.example.org"),
        ("false", "http://s3.example.org/software", "x.example.org", "http://s3.example.org/software/x.example.org"),
    ],
)
def test_a_new_repository_lies_where_clients_look(tmp_path, dns_buckets, url, alias, found_at):
    file = tmp_path / "s3.conf"
    values = {**LEAST, "DNS_BUCKETS": dns_buckets}
    file.write_text("".join(f"CVMFS_S3_{name}={text}\n" for name, text in values.items()))
    settings = in_s3(default_settings(Site(str(tmp_path)), "x.example.org"), str(file), url)
    assert (settings.s3.alias, settings.url) == (alias, found_at)
    assert settings.s3.staging == f"{tmp_path}/var/spool/cvmfs/x.example.org/tmp"


def test_server_conf_remembers_it(tmp_path):
    site = Site(str(tmp_path))
    upstream = S3Upstream("/staging", "x.example.org", "/etc/cvmfs/s3.conf")
    settings = dataclasses.replace(default_settings(site, "x.example.org"), s3=upstream)
    os.makedirs(os.path.dirname(site.configuration("x.example.org")))
    with open(site.configuration("x.example.org"), "w") as file:
        file.write(configuration_text(settings))
    assert load_settings(site, "x.example.org") == settings


def test_a_storage_without_its_package_says_what_to_install(monkeypatch):
    settings = default_settings(Site("/nowhere"), "x.example.org")
    settings = dataclasses.replace(settings, s3=S3Upstream("/staging", "x.example.org", "/s3.conf"))
    for name in ("cvfs_server.storage.s3", "cvfs_server.storage.bucket"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UsageError, match=r"needs the package boto3: install it, or cvfs with its extra, cvfs\[s3\]"):
        storage_of(settings)
