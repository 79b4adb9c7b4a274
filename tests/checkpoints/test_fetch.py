"""Where checkpoints come from: the web and its cache, public names, a subtree of a file."""

import http.server
import logging
import threading
import urllib.parse

import ml_dtypes
import numpy as np
import pytest

import vit_jax
from vit_jax.checkpoints import fetch, model_file


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A server of `web.files`, which notes what it is asked for; what is in `web.cut` breaks off in the middle."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = urllib.parse.unquote(self.path).removeprefix("/")
            server.asked.append(path)
            if path not in server.files:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(server.files[path])))
            self.end_headers()
            self.wfile.write(server.files[path][: len(server.files[path]) // (2 if path in server.cut else 1)])

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.cut, server.asked = {}, set(), []
    server.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
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
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_is_fetched_once_with_what_describes_it(web, saved, tmp_path):
    web.files = {f"a b/{name}": content for name, content in saved.items()}
    for _ in range(2):
        assert model_file.read(f"{web.url}/a%20b/model.npz").architecture.posemb == "sincos2d"
    assert web.asked == ["a b/model.npz", "a b/model.json"]
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
        vit_jax.UserError, match=rf"{web.url}/model.npz broke off after \d+ of \d+ bytes.*; start again"
    ):
        vit_jax.load(f"{web.url}/model.npz")
    assert kept(tmp_path) == []
    web.cut = set()
    assert vit_jax.load(f"{web.url}/model.npz").arch.width == 16


def test_what_is_not_there(web, tmp_path):
    with pytest.raises(vit_jax.UserError, match=rf"{web.url}/model.npz can't be fetched \(HTTP Error 404: Not Found\)"):
        vit_jax.load(f"{web.url}/model.npz")
    web.shutdown()
    for url in (web.url.replace("127.0.0.1", "256.0.0.1"), "http://[", "http://a b"):
        with pytest.raises(vit_jax.UserError, match="can't be fetched"):
            vit_jax.load(f"{url}/model.npz")
    assert kept(tmp_path) == []


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
    # A bucket's file goes the same way.
    assert vit_jax.load("gs://vit_models/augreg/B_16-best.npz").arch.width == 16


def test_public_names():
    listed = list(fetch.public_names())
    assert {"augreg:R26+S/32", "gs://vit_models/imagenet21k/ViT-H_14.npz"} < set(listed)
    assert {"gs://bit_models/BiT-M-R152x4.npz", "gs://mixer_models/imagenet1k/Mixer-L_16.npz"} < set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("subtree", [":img", ""])
def test_a_tower_of_two_in_bfloat16(goldens, tmp_path, subtree):
    """NumPy writes what it does not know, bfloat16, as two bytes of void."""
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
