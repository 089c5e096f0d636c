"""Compare libraries that decode images, and ways to resize them, in CPU time on this machine.

    python benchmarks/images.py decode              # Pillow, OpenCV, pyvips, simplejpeg: where installed
    python benchmarks/images.py resize MODEL        # what a model's image processor costs, by part
    python benchmarks/images.py operator MODEL      # SigLIPEncoder's verbs on the same files

The files are made here, 1024 x 768 pixels with large and small detail. Each figure is the median of alternating
rounds. MODEL is a folder that save_pretrained wrote. Figures are in docs/adr/0017.
"""

from __future__ import annotations

import importlib
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROUNDS = 7
FILES = 12
SIZE = (1024, 768)


def files(kind: str, **options: Any) -> list[bytes]:
    """Return encoded pictures."""
    made = []
    for seed in range(FILES):
        dice = np.random.default_rng(seed)
        coarse = dice.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        large = np.asarray(Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)).astype(np.int16)
        picture = np.clip(large + dice.normal(0, 6, large.shape), 0, 255).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(picture).save(out, kind, **options)
        made.append(out.getvalue())
    return made


def pillow(data: bytes) -> Any:
    """Decode with Pillow."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def ours(data: bytes) -> Any:
    """Decode with Pillow by the rules of fdf-ops-vision."""
    return importlib.import_module("fdf_ops_vision.images").decode(data)


def opencv(data: bytes) -> Any:
    """Decode with OpenCV."""
    cv2 = importlib.import_module("cv2")
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def vips(data: bytes) -> Any:
    """Decode with libvips."""
    pyvips = importlib.import_module("pyvips")
    return pyvips.Image.new_from_buffer(data, "", access="sequential").numpy()


def simplejpeg(data: bytes) -> Any:
    """Decode with libjpeg-turbo through simplejpeg."""
    return importlib.import_module("simplejpeg").decode_jpeg(data, "RGB")


def measured(ways: dict[str, Callable[[], Any]], *, each: int) -> None:
    """Print milliseconds of CPU time per image, the median over rounds in which the ways take turns."""
    spent: dict[str, list[float]] = {}
    for way in list(ways):
        try:
            ways[way]()
        except (ImportError, OSError) as error:
            print(f"{way:34} not here: {error}")
            del ways[way]
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begun = time.process_time()
            way()
            spent.setdefault(name, []).append((time.process_time() - begun) / each * 1000)
    for name, times in spent.items():
        print(f"{name:34} {statistics.median(times):7.2f} ms")


def decode() -> None:
    """Compare decoders."""
    for kind, options in (("JPEG", {"quality": 88}), ("PNG", {}), ("WEBP", {"quality": 85})):
        encoded = files(kind, **options)
        print(f"\n{kind}, {sum(map(len, encoded)) / FILES / 1024:.0f} KiB each")
        names = [pillow, ours, opencv, vips, *([simplejpeg] if kind == "JPEG" else [])]
        measured({w.__name__: lambda w=w, data=encoded: [w(each) for each in data] for w in names}, each=FILES)


def loaded() -> tuple[Any, list[Any]]:
    """Return transformers, once it can be imported, and decoded pictures."""
    from fdf.models.libraries import require_transformers

    torch, transformers = require_transformers(operator="benchmark", install="fdf-ops-vision[models]")
    torch.set_num_threads(1)
    return transformers, [np.array(pillow(data)) for data in files("JPEG", quality=88)]


def resize(model: str) -> None:
    """Compare what a model's image processor may run on."""
    transformers, pictures = loaded()
    fast = transformers.AutoImageProcessor.from_pretrained(model)
    slow = transformers.AutoImageProcessor.from_pretrained(model, backend="pil")
    asked = {"images": pictures, "return_tensors": "pt", "input_data_format": "channels_last"}
    box = (fast.size["width"], fast.size["height"])
    measured(
        {
            "processor, torchvision": lambda: fast(**asked),
            "processor, Pillow": lambda: slow(**asked),
            "processor, resize only": lambda: fast(**asked, do_rescale=False, do_normalize=False),
            "Pillow, bicubic": lambda: [np.asarray(Image.fromarray(p).resize(box, 3)) for p in pictures],
            "OpenCV, area": lambda: [
                importlib.import_module("cv2").resize(p, box, interpolation=importlib.import_module("cv2").INTER_AREA)
                for p in pictures
            ],
        },
        each=FILES,
    )


def operator(model: str) -> None:
    """Measure SigLIPEncoder's verbs."""
    import pyarrow as pa

    from fdf.operator import Context
    from fdf_ops_vision.siglip import SigLIPEncoder

    loaded()
    encoder = SigLIPEncoder(model=model)
    encoder.setup(Context(operator_id="benchmark", seed=0, cache_dir=Path("unused")))
    batch = pa.record_batch({"image": files("JPEG", quality=88)})
    prepared = encoder.prepare(batch)
    ways = {
        "prepare": lambda: encoder.prepare(batch),
        "infer": lambda: encoder.infer(prepared.batch),
        "all": lambda: encoder.score(batch),
    }
    measured(ways, each=FILES)
    print(f"{'prepared':34} {prepared.batch.nbytes / FILES / 1024:7.0f} KiB per image")


if __name__ == "__main__":
    {"decode": decode, "resize": resize, "operator": operator}[sys.argv[1]](*sys.argv[2:])
