"""Tests the sources of checkpoints: URLs and their cache, names of public checkpoints, and a subtree of a file."""

import http.server
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import urllib.parse

import ml_dtypes
import numpy as np
import pytest
from etils import epath

import vit_jax
from vit_jax.checkpoints import containers, fetch, model_file


@pytest.fixture
def web(tmp_path, monkeypatch):
    """Runs a web server that serves `web.files` and lists the requested paths in `web.asked`.

    It sends only half of the files in `web.cut`. For a path in `web.answers`, it first sends those error codes in turn.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = urllib.parse.unquote(self.path).removeprefix("/")
            server.asked.append(path)
            if server.answers.get(path):
                return self.send_error(server.answers[path].pop(0))
            if path not in server.files:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(server.files[path])))
            self.end_headers()
            self.wfile.write(server.files[path][: len(server.files[path]) // (2 if path in server.cut else 1)])

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.cut, server.asked, server.answers = {}, set(), [], {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "_WAIT_SECONDS", 0.01)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("saved")
    vit_jax.save(drawn(posemb="sincos2d"), folder / "model.npz")
    vit_jax.save(drawn(), folder / "model.safetensors", "transformers")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".whole")


def test_is_fetched_once_with_what_describes_it(web, saved, tmp_path):
    web.files = {f"a b/{name}": content for name, content in saved.items()}
    for _ in range(2):
        assert model_file.read(f"{web.url}/a%20b/model.npz").architecture.posemb == "sincos2d"
    assert web.asked == ["a b/model.json", "a b/model.npz"]
    assert kept(tmp_path) == ["model.json", "model.npz"]


def test_a_safetensors_comes_with_its_configs(web, saved, tmp_path):
    web.files = {f"x/{name}": content for name, content in saved.items()}
    fetch.local(f"{web.url}/x/model.safetensors")
    assert kept(tmp_path) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert vit_jax.load(f"{web.url}/x/model.safetensors").arch.width == 16
    assert len(web.asked) == 3


def test_without_a_folder_for_the_cache(web, saved, tmp_path):
    (tmp_path / "cache").touch()
    web.files = saved
    assert model_file.read(f"{web.url}/model.npz").architecture.width == 16


def test_what_breaks_off_leaves_nothing(web, saved, tmp_path):
    web.files, web.cut = saved, {"model.npz"}
    with pytest.raises(
        vit_jax.UserError, match=rf"{web.url}/model.npz can't be fetched .it broke off after \d+ of \d+ .*start again"
    ):
        vit_jax.load(f"{web.url}/model.npz")
    assert kept(tmp_path) == ["model.json"] and web.asked.count("model.npz") == 3
    web.cut = set()
    assert vit_jax.load(f"{web.url}/model.npz").arch.width == 16


def test_what_is_not_there(web, tmp_path):
    with pytest.raises(vit_jax.UserError, match=f"there is no {web.url}/model.npz; check the name"):
        vit_jax.load(f"{web.url}/model.npz")
    web.shutdown()
    for url in (web.url.replace("127.0.0.1", "256.0.0.1"), "http://[", "http://a b"):
        with pytest.raises(vit_jax.UserError, match="can't be fetched"):
            vit_jax.load(f"{url}/model.npz")
    assert kept(tmp_path) == []


@pytest.mark.parametrize("name", ["model.json", "model.npz"])
def test_a_server_that_fails_once(web, saved, tmp_path, name):
    """A request is repeated after a server error, so that a file beside the checkpoint does not count as missing."""
    web.files, web.answers = saved, {name: [500]}
    assert model_file.read(f"{web.url}/model.npz").architecture.posemb == "sincos2d"
    assert web.asked.count(name) == 2 and kept(tmp_path) == ["model.json", "model.npz"]


def test_a_side_file_that_can_not_be_had_is_no_absent_one(web, saved, tmp_path, monkeypatch):
    web.files, web.answers = dict(saved), {"model.json": [500] * 9}
    with pytest.raises(vit_jax.UserError, match="model.json can't be fetched .*500.*; start again"):
        vit_jax.load(f"{web.url}/model.npz")
    assert kept(tmp_path) == []
    web.answers = {"model.json": [404], "preprocessor_config.json": [403] * 3}
    del web.files["model.json"]
    with pytest.raises(vit_jax.UserError, match="no position embeddings"):  # which model.json would say
        vit_jax.load(f"{web.url}/model.npz")
    with pytest.raises(vit_jax.UserError, match="preprocessor_config.json can't be fetched .*403"):
        vit_jax.load(f"{web.url}/model.safetensors")
    monkeypatch.setattr(fetch, "_PUBLIC", f"{web.url}/")  # public buckets answer 403 for a missing file
    web.answers = {"preprocessor_config.json": [403]}
    assert vit_jax.load(f"{web.url}/model.safetensors").arch.width == 16


def test_a_stalled_server(web, saved, monkeypatch):
    monkeypatch.setattr(fetch, "_TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(vit_jax.UserError, match="can't be fetched .*timed out"):
            vit_jax.load(f"http://127.0.0.1:{silent.getsockname()[1]}/model.npz")


def test_an_entry_of_an_earlier_version_gets_what_it_lacks(web, saved, tmp_path, caplog):
    """A cache entry of an earlier version is completed with the files beside the checkpoint.

    Earlier versions treated a file that they could not fetch as missing forever.
    """
    web.files = saved
    target = fetch.local(f"{web.url}/model.npz")[0]
    for name in (".whole", "model.json"):
        (target.parent / name).unlink()
    old = target.parent / ".model.npz.0.partial"
    old.touch()
    os.utime(old, (0, 0))
    assert model_file.read(f"{web.url}/model.npz").architecture.posemb == "sincos2d" and not old.exists()
    assert web.asked.count("model.npz") == 1
    for name in (".whole", "model.json"):
        (target.parent / name).unlink()
    web.answers = {"model.json": [500] * 9}
    assert fetch.local(f"{web.url}/model.npz")[0] == target
    assert "is used from the cache without what may lie beside it" in caplog.text


def test_an_index_comes_with_its_shards(web, saved, tmp_path, drawn):
    arrays = containers.open_file(write(tmp_path / "whole.safetensors", saved["model.safetensors"]))
    places = {}
    for number in range(2):
        part = {name: np.array(arrays.read(name)) for name in list(arrays.shapes)[number::2]}
        shard = tmp_path / f"model-0000{number + 1}-of-00002.safetensors"
        containers.write_file(shard, ".safetensors", {n: a.shape for n, a in part.items()}, part.items(), {})
        web.files[shard.name], places = shard.read_bytes(), places | dict.fromkeys(part, shard.name)
    web.files["config.json"] = saved["config.json"]
    web.files["model.safetensors.index.json"] = json.dumps({"weight_map": places}).encode()
    url = f"{web.url}/model.safetensors.index.json"
    assert vit_jax.load(url).arch.width == vit_jax.load(url).arch.width == 16
    assert web.asked.count("model-00002-of-00002.safetensors") == 1


def write(path, content):
    path.write_bytes(content)
    return path


def test_leftovers_that_vanish_while_they_are_looked_at(tmp_path, monkeypatch):
    """The removal of old leftovers tolerates that another process moves a file after the folder was listed."""
    (tmp_path / ".model.npz.0.partial").symlink_to(tmp_path / "moved")
    old = tmp_path / ".model.npz.1.partial"
    old.touch()
    os.utime(old, (0, 0))
    fetch._remove_old_leftovers(epath.Path(tmp_path))
    assert not old.exists()


def test_several_processes_fetch_at_once(web, saved, tmp_path):
    web.files = saved
    program = f"from vit_jax.checkpoints import fetch; print(fetch.local('{web.url}/model.npz')[0])"
    started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(3)]
    assert len({process.communicate(timeout=120)[0] for process in started}) == 1
    assert [process.returncode for process in started] == [0, 0, 0]
    assert kept(tmp_path) == ["model.json", "model.npz"]


INDEX = """name,ds,final_val,filename,adapt_filename,adapt_ds
B/16,i1k,0.99,B_16-i1k,B_16-i1k--imagenet2012,imagenet2012
B/16,i21k,0.43,B_16-second,B_16-second--cifar10,cifar10
B/16,i21k,0.45,B_16-best,B_16-best--cifar10,cifar10
B/16,i21k,0.45,B_16-best,B_16-best--imagenet2012,imagenet2012
R+Ti/16,i21k,0.47,R_Ti_16-best,R_Ti_16-best--cifar10,cifar10
"""


def test_the_recommended_checkpoint(web, saved, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "vit_jax")
    monkeypatch.setattr(fetch, "_accessible", lambda path: False)
    monkeypatch.setattr(fetch, "_PUBLIC", f"{web.url}/")
    web.files = {
        "vit_models/augreg/index.csv": INDEX.encode(),
        "vit_models/augreg/B_16-best.npz": saved["model.npz"],
        "vit_models/augreg/B_16-best.json": saved["model.json"],
    }
    assert vit_jax.load("augreg:B/16").arch.width == 16
    assert f"fetching {web.url}/vit_models/augreg/B_16-best.npz to" in caplog.text
    with pytest.raises(vit_jax.UserError, match=r"there is no augreg:B/8; there are B/16, R\+Ti/16"):
        vit_jax.load("augreg:B/8")
    # A path in a public bucket is also fetched over HTTP.
    assert vit_jax.load("gs://vit_models/augreg/B_16-best.npz").arch.width == 16


def test_public_names():
    listed = list(fetch.public_names())
    assert {"augreg:R26+S/32", "gs://vit_models/imagenet21k/ViT-H_14.npz"} < set(listed)
    assert {"gs://bit_models/BiT-M-R152x4.npz", "gs://mixer_models/imagenet1k/Mixer-L_16.npz"} < set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("subtree", [":img", ""])
def test_a_tower_of_two_in_bfloat16(goldens, tmp_path, subtree):
    """The image tower of a two-tower model loads from an .npz file in bfloat16.

    NumPy does not know bfloat16, and writes it as a void type of two bytes.
    """
    golden = np.load(goldens / "big_vision_tok_scan.npz")
    image = {n.removeprefix("params/"): golden[n] for n in golden.files if n.startswith("params/")}
    halves = {n: array.astype(ml_dtypes.bfloat16) for n, array in image.items()}
    text = {f"params/txt/{n}": array for n, array in halves.items() if "Encoder" in n or "Transformer" in n}
    path = tmp_path / "two.npz"
    np.savez(path, **{f"params/img/{n}": a for n, a in halves.items()}, **text, **{"params/t": np.zeros(1, np.float32)})
    assert np.load(path)["params/img/head/kernel"].dtype == np.dtype("V2")
    parameters = model_file.read(f"{path}{subtree}").parameters
    np.testing.assert_array_equal(parameters["head/kernel"], halves["head/kernel"].astype(np.float32), strict=True)
    assert vit_jax.load(f"{path}{subtree}")(golden["image"]).shape == golden["logits"].shape


def test_a_subtree_that_is_not_there(goldens):
    with pytest.raises(vit_jax.UserError, match="vit_token.npz has no subtree audio"):
        vit_jax.load(f"{goldens}/vit_token.npz:audio")
