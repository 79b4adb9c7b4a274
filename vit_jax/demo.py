"""Show a model on a web page: drop a photograph, and see its classes and where the model attends.

    python -m vit_jax.demo --model=/tmp/vit_digits
    python -m vit_jax.demo --model=augreg:B/16 --images=FOLDER --port=0

--model is a run's folder or a checkpoint of any format. The page shows the most probable classes of a photograph, the
attention rollout, and the attention of each layer and head over it. A model without attention, such as a ResNet, shows
its classes alone, and a model that can't classify its attention alone. --images is a folder, or image files with commas
between them, whose images can be clicked on the page; if there are more than 24, that many are drawn at random. Those
that can't be read are named on standard error and left out.

Photographs may be JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF files of at most 100 MB and 89 megapixels. They are prepared
as the model needs them, and turned as their EXIF orientation says; of an animation the first image is taken. They are
computed one after the other, and each user sees only their own. Their files are deleted after about five minutes, and
all at the end.

The page needs gradio (pip install 'vit_jax[demo]'). It is served at 127.0.0.1, which only this machine reaches, unless
--host says another address; whoever reaches the address can use the page. --port=0 takes a free port. The page and its
server ask nothing of the internet. Ctrl-C ends it.
"""

import importlib.util
import os
import sys
import tempfile

from absl import flags

from vit_jax import command_line, progress
from vit_jax.errors import UserError

_SAMPLES = 24  # images of --images that are shown

_model = command_line.define_model()
_HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to serve at; 0.0.0.0 for all of this machine.")
_PORT = flags.DEFINE_integer("port", 7860, "The port; 0 takes a free one.", lower_bound=0, upper_bound=65535)
_IMAGES = flags.DEFINE_multi_string("images", [], "Images to click on the page: a folder or files.")
_FILE_KEYWORDS = command_line.define_file_keywords()


def main(args: list[str], overrides: list[command_line.Override]) -> None:
    command_line.refuse_config("demo", overrides)
    if args:
        raise UserError(f"demo takes no arguments, and got {args[0]}; name images to click with --images=FOLDER")
    name = _model()
    # A folder `gradio` in the working directory is also found, as a package without an origin.
    spec = importlib.util.find_spec("gradio")
    if spec is None or spec.origin is None:
        raise UserError("the page needs the package gradio, which is not installed: pip install 'vit_jax[demo]'")
    from vit_jax.data.choose import choose
    from vit_jax.page import server

    paths = choose(_IMAGES.value, _SAMPLES).paths
    server.interrupt_at_sigterm()
    with server.listening(_HOST.value, _PORT.value) as listener, tempfile.TemporaryDirectory("_vit_jax_demo") as folder:
        server.prepare(folder)
        from vit_jax import checkpoints, data  # imports JAX, which is slow: after the user's mistakes are found
        from vit_jax.page.look import looker

        model = checkpoints.load(name, **_FILE_KEYWORDS())
        readable = data.readable(paths, model.preprocessing, [])  # the others are named on standard error
        samples = [(os.path.basename(path), image) for path, image in readable]
        from vit_jax.page import layout

        title = os.path.basename(os.path.abspath(name)) if os.path.exists(name) else name
        page = layout.layout(model, title, looker(model), samples)

        def ready() -> None:
            if server.is_open(listener):
                progress.tell(f"warning: with --host={_HOST.value}, whoever reaches this machine can use the page")
            command_line.say(f"the page is at {server.url(listener)} (Ctrl-C ends it)")

        server.serve(page, listener, ready, theme=layout.THEME, css=layout.CSS, max_file_size=layout.LARGEST)


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
