# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs without secrets, excerpts, and the archive of an incident."""

from __future__ import annotations

import os
import pathlib
import random
import resource
import stat
import tarfile
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils._incident import archive, collect, incident, reading
from ansible_collections.gpufleet.vllm.plugins.module_utils._redact import HIDDEN, Redactor

VALUE = "correct horse battery"
TOKEN = "hf_" + "a1B2" * 8


def cut(text: str, at: int) -> list[bytes]:
    data = text.encode()
    return [data[:at], data[at:]]


def test_lines_are_the_same_however_the_text_is_cut() -> None:
    text = "one\nzwei ü\n\nloading 1/2\rloading 2/2\nlast"
    lines = ["one", "zwei ü", "", "loading 1/2", "loading 2/2", "last"]
    for at in range(len(text.encode()) + 1):
        assert list(reading.lines_of(cut(text, at))) == lines


def test_secret_is_hidden_wherever_pieces_end() -> None:
    redactor = Redactor([VALUE])
    text = f"key {VALUE} and {TOKEN}, Authorization: Bearer abcdefghijk\nAPI_KEY=12345678\n"
    for at in range(len(text)):
        shown = "\n".join(reading.redacted(reading.lines_of(cut(text, at)), redactor))
        assert not [word for word in (VALUE, TOKEN[3:], "abcdefghijk", "12345678") if word in shown], at


def test_endless_line_shows_no_half_of_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "READ_CHARACTERS", 4000)
    monkeypatch.setattr(reading, "LINE_CHARACTERS", 2000)
    monkeypatch.setattr(reading, "_UNSURE_CHARACTERS", 1000)
    for before in range(3940, 4010, 7):
        text = "x " * (before // 2) + VALUE + " " + TOKEN + " y" * 4000 + "\nnext"
        shown = list(
            reading.redacted(reading.lines_of([text[:4001].encode(), text[4001:].encode()]), Redactor([VALUE]))
        )
        assert shown[-1] == "next" and len(shown) == 2
        assert not any(word in shown[0] for word in ("corr", "battery", "hf_a"))
        assert shown[0].endswith(" characters left out") and len(shown[0]) < 2100


def test_private_key_is_hidden_line_by_line() -> None:
    lines = ["before", "-----BEGIN RSA PRIVATE KEY-----", "MIIB", "AAAA", "-----END RSA PRIVATE KEY-----", "after"]
    shown = list(reading.redacted(lines, Redactor()))
    assert shown[0] == "before" and shown[-1] == "after" and shown[2:5] == [HIDDEN] * 3
    assert "MIIB" not in "".join(shown)


def test_excerpt_keeps_what_tells_with_its_number() -> None:
    flood = ["INFO nothing to see"] * 20000
    flood[9000] = f"ERROR the cause, token {TOKEN}"
    flood[9001] = "ERROR repeated 1"
    flood[9002] = "ERROR repeated 2"
    found = reading.excerpt(flood, Redactor())
    assert len(found) == reading.FIRST_LINES + 2 + reading.LAST_LINES
    assert found[reading.FIRST_LINES] == (9001, f"ERROR the cause, token hf_{HIDDEN}")
    assert found[reading.FIRST_LINES + 1] == (9002, "ERROR repeated 1")
    assert found[-1] == (20000, "INFO nothing to see")


def test_archive_is_private_and_holds_what_was_put_in(tmp_path: pathlib.Path) -> None:
    path = archive.path_in(str(tmp_path / "new"), "vllm-a-0", 0.0)
    assert path.endswith("/new/incident-vllm-a-0-19700101T000000Z.tar.gz")
    with archive.Archive(path) as folder:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        folder.text("diagnosis.txt", "all is lost\n")
        folder.log("logs/a.log", ["one", "two"])
    with tarfile.open(path) as tar:
        content = {member.name: (member.mode, tar.extractfile(member).read()) for member in tar.getmembers()}
    assert content == {
        "incident-vllm-a-0-19700101T000000Z/diagnosis.txt": (0o600, b"all is lost\n"),
        "incident-vllm-a-0-19700101T000000Z/logs/a.log": (0o600, b"one\ntwo\n"),
    }
    with pytest.raises(Refused, match="Set dest"):
        archive.Archive(path)


def test_log_over_its_bound_keeps_beginning_and_end(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LOG_BYTES", 10)
    monkeypatch.setattr(archive, "LAST_LINES", 2)
    with archive.Archive(str(tmp_path / "a.tar.gz")) as folder:
        folder.log("log", [f"line {number}" for number in range(20)])
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        lines = tar.extractfile("a/log").read().decode().splitlines()
    assert lines[:2] == ["line 0", "line 1"] and lines[2].endswith("lines left out") and lines[-1] == "line 19"


def test_archive_that_fails_leaves_nothing(tmp_path: pathlib.Path) -> None:
    def broken() -> t.Iterator[str]:
        yield "one"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"), archive.Archive(str(tmp_path / "a.tar.gz")) as folder:
        folder.log("log", broken())
    assert not list(tmp_path.iterdir())


def test_archive_on_a_full_disk_leaves_nothing_and_says_so(tmp_path: pathlib.Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal of this limit, so that writing fails as on a disk that is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        full = pytest.raises(Refused, match=r"a\.tar\.gz: .* Make room")
        with full, archive.Archive(str(tmp_path / "a.tar.gz")) as folder:
            for number in range(8):
                folder.text(f"{number}.txt", random.Random(number).randbytes(2**14).hex())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_every_value_of_a_secret_option_is_hidden(tmp_path: pathlib.Path) -> None:
    one = source()
    arguments = ["--api-key", "topsecret1", "topsecret2", "--hf-token=topsecret3", "--seed", "1234567"]
    one.inspect["Args"] = one.inspect["Config"]["Cmd"] = arguments
    values = collect.secret_values([one], str(tmp_path))
    assert sorted(values) == ["hunter2hunter2", "topsecret1", "topsecret2", "topsecret3"]
    assert "topsecret" not in collect.inspection(one, Redactor(values))


def source(**config: t.Any) -> collect.Source:
    inspect = {
        "Id": "0123",
        "Name": "/x",
        "HostConfig": {},
        "Args": ["serve", "--api-key", "topsecret1", "--max-num-seqs=8", "--enforce-eager", "--port", "80"],
        "State": {
            "Status": "exited",
            "ExitCode": 137,
            "OOMKilled": True,
            "StartedAt": "2026-11-20T10:00:00Z",
            "FinishedAt": "2026-11-20T10:01:00Z",
        },
        "RestartCount": 2,
        "Config": {
            "Image": "i:1",
            "Env": ["MY_PASSWORD=hunter2hunter2", "A=b"],
            "Cmd": ["--api-key", "topsecret1"],
            **config,
        },
    }
    return collect.Source("x", "x", lambda: [b"hunter2hunter2 topsecret1\n"], inspect)


def test_facts_and_inspection_tell_no_secret(tmp_path: pathlib.Path) -> None:
    values = collect.secret_values([source()], str(tmp_path))
    assert sorted(values) == ["hunter2hunter2", "topsecret1"]
    text = collect.inspection(source(), Redactor(values))
    assert "hunter2" not in text and "topsecret" not in text and "MY_PASSWORD=" in text
    facts = collect.facts_of(source())
    assert (facts["exit_code"], facts["oom_killed"], facts["engine"]["max_num_seqs"]) == (137, True, "8")


def test_files_that_are_not_there_are_told_at_once(tmp_path: pathlib.Path) -> None:
    with pytest.raises(Refused, match=f"{tmp_path}/a, {tmp_path}/b"):
        collect.files([str(tmp_path / "a"), str(tmp_path / "b")])


def test_incident_of_a_file_is_read_then_written(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(f"ERROR: token {TOKEN}\nOSError: [Errno 28] No space left on device\n", encoding="utf-8")
    params = {
        "fleet": "f",
        "joined": False,
        "write": True,
        "dest": str(tmp_path / "out"),
        "state_dir": str(tmp_path),
        "plan": None,
    }

    def run(*_arguments: object, **_options: object) -> tuple[int, str, str]:
        """Stands for a host without nvidia-smi and dmesg."""
        return 1, "", ""

    sources = collect.sources(None, {"containers": [], "servers": [], "logs": [str(log)]})
    read = incident.read(sources, params, run, 0.0)
    (subject,) = read["subjects"]
    assert subject["server"] == str(log) and TOKEN[3:] not in str(subject)
    found = {"archive": read["archive"], "text": f"see {TOKEN}", "diagnosis": []}
    written = incident.write(sources, {**params, "found": found, "plan": {"env": {"API_KEY": "x"}}}, run)
    assert written["files"] == [
        "diagnosis.txt",
        "diagnosis.json",
        "gpu.json",
        "plan.json",
        "logs/0-{}.log".format(str(log).strip("/").replace("/", "_")),
    ]
    with tarfile.open(read["archive"]) as tar:
        everything = b"".join(tar.extractfile(member).read() for member in tar.getmembers())
    assert TOKEN[3:].encode() not in everything and b"No space left" in everything
