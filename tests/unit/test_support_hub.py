# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The local hub of the tests, asked by the real client."""

from __future__ import annotations

import hashlib
import http.client
import pathlib
import time

import huggingface_hub
import pytest
from huggingface_hub import errors

from support.hub import Hub


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """Repos: acme/tiny with a folder and 1 GiB of weights without content, and acme/gated."""
    for name, content in (
        ("tiny/config.json", b"{}"),
        ("tiny/sub/x.txt", b"hi"),
        ("tiny/small.bin", b"x" * 1000),
        ("gated/config.json", b"{}"),
    ):
        path = tmp_path / "acme" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    header = b'{"a": {"dtype": "U8", "shape": [1073741824], "data_offsets": [0, 1073741824]}}'
    with open(tmp_path / "acme/tiny/model.safetensors", "wb") as handle:
        handle.write(len(header).to_bytes(8, "little") + header)
        handle.truncate(8 + len(header) + 2**30)
    return tmp_path


def test_what_is_there(root: pathlib.Path) -> None:
    with Hub(root) as hub:
        api = huggingface_hub.HfApi(endpoint=hub.endpoint)
        info = api.model_info("acme/tiny", files_metadata=True)
        tree = list(api.list_repo_tree("acme/tiny", recursive=True))
        top = [entry.path for entry in api.list_repo_tree("acme/tiny")]
        paths = api.get_paths_info("acme/tiny", ["config.json"])
        refs = api.list_repo_refs("acme/tiny")
        assert info.sha == hub.commit("acme/tiny") == refs.branches[0].target_commit
        assert api.model_info("acme/tiny", revision=info.sha).id == "acme/tiny"
    sizes = {"config.json": 2, "model.safetensors": 2**30 + 86, "small.bin": 1000, "sub/x.txt": 2}
    assert {sibling.rfilename: sibling.size for sibling in info.siblings or []} == sizes
    assert {entry.path: entry.size for entry in tree if hasattr(entry, "size")} == sizes
    assert sorted(top) == ["config.json", "model.safetensors", "small.bin", "sub"]
    assert [entry.blob_id for entry in paths] == [hashlib.sha1(b"blob 2\0{}").hexdigest()]
    stored = next(sibling for sibling in info.siblings or [] if sibling.rfilename == "small.bin")
    assert stored.lfs and stored.lfs.sha256 == hashlib.sha256(b"x" * 1000).hexdigest()


def test_a_change_makes_another_commit(root: pathlib.Path) -> None:
    hub = Hub(root)
    before = hub.commit("acme/tiny")
    assert hub.commit("acme/tiny") == before != hub.commit("acme/gated")
    (root / "acme/tiny/new.txt").touch()
    assert hub.commit("acme/tiny") != before


def test_downloads(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with Hub(root) as hub:
        folder = huggingface_hub.snapshot_download(
            "acme/tiny", endpoint=hub.endpoint, cache_dir=tmp_path / "cache", ignore_patterns="*.safetensors"
        )
        asked = {(request.origin, request.method) for request in hub.asked("small.bin")}
    assert pathlib.Path(folder).name == hub.commit("acme/tiny")
    assert (pathlib.Path(folder) / "sub/x.txt").read_text() == "hi"
    assert (pathlib.Path(folder) / "small.bin").read_bytes() == b"x" * 1000
    # Weights come from the storage; where they are is asked of the hub.
    assert asked == {("hub", "HEAD"), ("storage", "GET")}


def test_ranges_and_counts(root: pathlib.Path) -> None:
    """The client reads the header of the file of 1 GiB, and the hub tells how much that was."""
    with Hub(root) as hub:
        api = huggingface_hub.HfApi(endpoint=hub.endpoint)
        header = api.parse_safetensors_file_metadata("acme/tiny", "model.safetensors")
        sent = [(request.range, request.sent) for request in hub.asked() if request.origin == "storage"]
    assert header.parameter_count == {"U8": 2**30}
    assert sent == [("bytes=0-100000", 100001)]


@pytest.mark.parametrize(
    "repo, token, revision, refusal",
    [
        ("acme/none", False, None, errors.RepositoryNotFoundError),
        ("acme/none", "hf_other", None, errors.RepositoryNotFoundError),
        ("acme/gated", False, None, errors.GatedRepoError),
        ("acme/gated", "hf_other", None, errors.GatedRepoError),
        ("acme/tiny", False, "v9", errors.RevisionNotFoundError),
    ],
)
def test_refusals(root: pathlib.Path, repo: str, token: str, revision: str | None, refusal: type[Exception]) -> None:
    with Hub(root, gated={"acme/gated": "hf_right"}) as hub:
        api = huggingface_hub.HfApi(endpoint=hub.endpoint)
        with pytest.raises(refusal):
            api.model_info(repo, token=token, revision=revision)
        with pytest.raises(refusal):
            api.hf_hub_download(repo, "config.json", token=token, revision=revision, cache_dir=root / "cache")


def test_the_right_token_and_a_missing_file(root: pathlib.Path) -> None:
    with Hub(root, gated={"acme/gated": "hf_right"}) as hub:
        api = huggingface_hub.HfApi(endpoint=hub.endpoint, token="hf_right")
        assert api.model_info("acme/gated").gated
        with pytest.raises(errors.EntryNotFoundError):
            api.hf_hub_download("acme/gated", "gone.json", cache_dir=root / "cache")
        # An entry that is not there has a commit, so that the client remembers its absence.
        assert [request.status for request in hub.asked("gone.json")] == [404]


# --- faults, as the real client sees them ---------------------------------------------------------------------------


def test_a_moved_repo_is_followed(root: pathlib.Path) -> None:
    with Hub(root, moved={"acme/former": "acme/tiny"}) as hub:
        api = huggingface_hub.HfApi(endpoint=hub.endpoint)
        assert api.model_info("acme/former").id == "acme/tiny"
        path = api.hf_hub_download("acme/former", "config.json", cache_dir=root / "cache")
    assert pathlib.Path(path).read_text() == "{}"


def test_refusals_that_pass(root: pathlib.Path) -> None:
    with Hub(root) as hub:
        hub.fail("/api/models/acme/tiny", status=429, retry_after="7")
        hub.fail("config.json", times=2, status=500)
        api = huggingface_hub.HfApi(endpoint=hub.endpoint)
        with pytest.raises(errors.HfHubHTTPError) as refused:
            api.model_info("acme/tiny")
        assert (refused.value.response.status_code, refused.value.response.headers["Retry-After"]) == (429, "7")
        for _time in range(2):
            with pytest.raises(errors.HfHubHTTPError):
                api.get_hf_file_metadata(url=f"{hub.endpoint}/acme/tiny/resolve/main/config.json")
        assert api.get_hf_file_metadata(url=f"{hub.endpoint}/acme/tiny/resolve/main/config.json").size == 2
    assert [request.status for request in hub.asked("config.json")] == [500, 500, 200]


def body(hub: Hub, path: str, asked: str | None = None) -> tuple[int, bytes]:
    """Status and body of a GET, as far as it comes."""
    connection = http.client.HTTPConnection(hub.endpoint.removeprefix("http://"), timeout=10)
    connection.request("GET", path, headers={"Range": asked} if asked else {})
    response = connection.getresponse()
    try:
        content = response.read()
    except http.client.IncompleteRead as error:
        content = error.partial
    connection.close()
    return response.status, content


def test_faulty_bodies(root: pathlib.Path) -> None:
    (root / "acme/tiny/page.txt").write_bytes(b"0123456789")
    path = "/acme/tiny/resolve/main/page.txt"
    with Hub(root) as hub:
        hub.fail("page.txt", cut_at=4)
        assert body(hub, path) == (200, b"0123")
        hub.fail("page.txt", cut_at=4)
        assert body(hub, path, "bytes=2-") == (206, b"23")
        hub.fail("page.txt", wrong_at=3)
        assert body(hub, path, "bytes=2-") == (206, b"22456789")
        hub.fail("page.txt", no_ranges=True)
        assert body(hub, path, "bytes=2-") == (200, b"0123456789")
        hub.fail("page.txt", bytes_per_second=50)
        begin = time.monotonic()
        assert body(hub, path, "bytes=2-") == (206, b"23456789")
        assert time.monotonic() - begin > 0.1
        assert body(hub, path) == (200, b"0123456789")
