"""How well a runner keeps a model's device at work.

    python benchmarks/gpu_encode.py busy                      # a model of fixed latency, on any machine
    python benchmarks/gpu_encode.py encode --model so400m     # SigLIP with random weights: base, so400m or tiny

`busy` sleeps where a GPU would work, and burns CPU where images would be decoded: the figure is the share of time, from
the first to the last call of the model, in which it was being called. `encode` makes JPEG files of 500 x 375 pixels and
embeds them with FDF, with a plain loop over transformers, and with open_clip's vision transformer of the same
dimensions behind a DataLoader (where open_clip is installed). It prints images per second, start-up left out, the share
of the rate at which this device multiplies large matrices in the same type, and the share of time in which the device
had nothing to do. Figures are in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import fdf
from fdf.models.contract import ModelScore, Prepared
from fdf.models.devices import gpu_count
from fdf.models.tensors import tensor, tensor_batch
from fdf.operator import Context
from fdf.runner.run import open_runner
from fdf_ops_vision.siglip import SigLIPEncoder

SIZES = {
    "tiny": {"image_size": 32, "patch_size": 8, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4},
    "base": {"image_size": 224, "patch_size": 16, "hidden_size": 768, "intermediate_size": 3072,
             "num_hidden_layers": 12, "num_attention_heads": 12},
    "so400m": {"image_size": 384, "patch_size": 14, "hidden_size": 1152, "intermediate_size": 4304,
               "num_hidden_layers": 27, "num_attention_heads": 16},
}  # fmt: skip
"""Of google/siglip-base-patch16-224 and google/siglip-so400m-patch14-384, by their config.json."""
TEXT = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}


@dataclass(frozen=True, kw_only=True)
class FixedLatency(ModelScore):
    """A model that takes as long as it is told, and so does its preparation. Notes each call in `log`."""

    field: str = "n"
    log: str = ""
    seconds: float = 0.05
    preparing: float = 0.01
    """CPU seconds per batch."""

    version = "1"

    def writes(self, schema: pa.Schema) -> dict[str, pa.DataType | None]:
        """Return one float per row."""
        return {"y": pa.float32()}

    def prepare(self, batch: pa.RecordBatch) -> Prepared:
        """Burn CPU, and make a picture's worth of bytes for each row."""
        until = time.thread_time() + self.preparing
        while time.thread_time() < until:
            np.sort(np.arange(2000)[::-1])
        return Prepared(tensor_batch({"x": np.zeros((batch.num_rows, 224, 224, 3), dtype=np.uint8)}))

    def infer(self, prepared: pa.RecordBatch) -> pa.RecordBatch:
        """Wait."""
        with noted(self.log, prepared.num_rows):
            time.sleep(self.seconds)
        return tensor_batch({"y": tensor(prepared, "x")[:, 0, 0, 0].astype(np.float32)})


@dataclass(frozen=True, kw_only=True)
class TimedEncoder(SigLIPEncoder):
    """SigLIPEncoder that notes each call of the model; its answers are on the CPU when it returns."""

    log: str = ""

    def setup_device(self, context: Context) -> None:
        """Load the model, and note when that was done."""
        super().setup_device(context)
        with noted(self.log, 0):
            pass

    def infer(self, prepared: pa.RecordBatch) -> pa.RecordBatch:
        """Run the vision tower."""
        with noted(self.log, prepared.num_rows):
            return super().infer(prepared)


class noted:  # noqa: N801 (it reads as a verb)
    """Add a line to a log when the block ends: rows, when it began, when it ended."""

    def __init__(self, log: str, rows: int) -> None:
        self._log, self._rows = log, rows

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        with Path(self._log).open("a") as file:
            file.write(f"{self._rows} {self._began} {time.monotonic()}\n")


def calls(log: Path, *, skip: int = 1) -> list[tuple[int, float, float]]:
    """Return the calls of the model, the first ones left out, which warm it up."""
    found = [line.split() for line in log.read_text().splitlines()]
    return [(int(rows), float(a), float(b)) for rows, a, b in found if int(rows)][skip:]


def busy_share(found: list[tuple[int, float, float]]) -> float:
    """Return the share of time in which the model was being called."""
    return sum(b - a for _, a, b in found) / (found[-1][2] - found[0][1])


def busy(place: Path, options: argparse.Namespace) -> None:
    """Measure a model of fixed latency."""
    rows = options.batches * options.batch_size
    files = options.workers * 2
    for number in range(files):
        ids = pa.array(range(number * rows // files, (number + 1) * rows // files), pa.int64())
        pq.write_table(pa.table({"n": ids}), place / f"{number}.parquet", row_group_size=options.batch_size)
    print("latency ms | CPU ms per preparation | batches | workers | CPU s | load | ms between calls, median | busy")
    for milliseconds in options.latency_ms:
        log = place / f"log-{milliseconds}"
        parameters = {"log": str(log), "seconds": milliseconds / 1e3, "preparing": options.prepare_ms / 1e3}
        step = {"id": "model", "kind": "score", "op": f"{__file__}:FixedLatency", "params": parameters,
                "batch_size": options.batch_size}  # fmt: skip
        began = os.times()
        run(place, step, name=f"busy-{milliseconds}", workers=options.workers, runner=options.runner)
        ended = os.times()
        spent = ended.children_user + ended.children_system - began.children_user - began.children_system
        found = calls(log)
        between = statistics.median(after[1] - before[2] for before, after in pairwise(found))
        print(
            f"{milliseconds:g} | {options.prepare_ms:g} | {len(found)} | {options.workers} | {spent:.1f} | "
            f"{os.getloadavg()[0]:.1f} | {between * 1e3:.2f} | {busy_share(found):.1%}"
        )


def run(
    place: Path, step: dict[str, Any], *, name: str, workers: int | None, device: str = "auto", runner: str = "local"
) -> None:
    """Run one operator over the files."""
    recipe = {
        "name": name,
        "input": {"type": "parquet", "path": str(place / "*.parquet")},
        "stages": [{"name": "only", "materialize": {"path": str(place / name)}, "operators": [step]}],
    }
    opened = open_runner(runner, workers=workers, device=device)
    fdf.run(recipe, runner=opened)
    close: Callable[[], None] = getattr(opened, "close", lambda: None)
    close()


def encode(place: Path, options: argparse.Namespace) -> None:
    """Measure SigLIP beside others."""
    from fdf.models.libraries import require_transformers

    torch, transformers = require_transformers(operator="benchmark", install="fdf-ops-vision[models]")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    device = "cuda" if options.device != "cpu" and gpu_count() else "cpu"
    size = SIZES[options.model]
    model = place / "model"
    config = transformers.SiglipConfig(vision_config=size, text_config=TEXT)
    transformers.SiglipModel(config).save_pretrained(model)
    side = size["image_size"]
    transformers.SiglipImageProcessor(size={"height": side, "width": side}).save_pretrained(model)
    pictures(place, options.images)
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    peak = matrix_rate(torch, device, options.dtype)
    print(f"SigLIP {options.model}, {options.dtype}, batches of {options.batch_size}, {options.images} images, {name}")
    print(f"{flops(size) / 1e9:.2f} GFLOP per image; large matrices: {peak / 1e12:.2f} TFLOP/s")
    print("system | images/s | share of the matrix rate | device without work")
    systems = {
        "FDF, local runner": with_fdf,
        "transformers, one loop": with_transformers,
        "open_clip, DataLoader": with_open_clip,
    }
    for system, measure in systems.items():
        try:
            found = measure(place, options, device)
        except ModuleNotFoundError as error:
            print(f"{system} | {error.name} is not installed | |")
            continue
        rate = sum(rows for rows, _, _ in found) / (found[-1][2] - found[0][1])
        print(f"{system} | {rate:.1f} | {rate * flops(size) / peak:.1%} | {1 - busy_share(found):.1%}")


Calls = list[tuple[int, float, float]]


def with_fdf(place: Path, options: argparse.Namespace, device: str) -> Calls:
    """Embed with the local runner."""
    log = place / "log-fdf"
    step = {"id": "siglip", "kind": "score", "op": f"{__file__}:TimedEncoder", "batch_size": options.batch_size,
            "params": {"model": str(place / "model"), "dtype": options.dtype, "log": str(log)}}  # fmt: skip
    run(place, step, name="encode", workers=options.workers, device=device)
    return calls(log)


def with_transformers(place: Path, options: argparse.Namespace, device: str) -> Calls:
    """Embed in one loop: decode, process, infer, batch after batch."""
    import torch
    import transformers

    model = transformers.SiglipVisionModel.from_pretrained(place / "model", dtype=getattr(torch, options.dtype))
    model = model.to(device).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(place / "model")
    log = place / "log-transformers"
    for some in batched(stored(place), options.batch_size):
        images = [Image.open(io.BytesIO(data)).convert("RGB") for data in some]
        inputs = processor(images=images, return_tensors="pt")["pixel_values"]
        with torch.inference_mode(), noted(str(log), len(some)):
            model(pixel_values=inputs.to(device, model.dtype)).pooler_output.float().cpu()
    return calls(log)


def with_open_clip(place: Path, options: argparse.Namespace, device: str) -> Calls:
    """Embed with open_clip's vision transformer of these dimensions, decoding in a DataLoader's workers."""
    import torch
    from open_clip.transform import image_transform
    from open_clip.transformer import VisionTransformer

    size = SIZES[options.model]
    transform = image_transform(size["image_size"], is_train=False, resize_mode="squash")
    dtype = getattr(torch, options.dtype)
    model = VisionTransformer(
        image_size=size["image_size"],
        patch_size=size["patch_size"],
        width=size["hidden_size"],
        layers=size["num_hidden_layers"],
        heads=size["num_attention_heads"],
        mlp_ratio=size["intermediate_size"] / size["hidden_size"],
        output_dim=size["hidden_size"],
    )
    model = model.to(device, dtype).eval()

    class Pictures(torch.utils.data.Dataset[Any]):
        def __init__(self) -> None:
            self.data = list(stored(place))

        def __len__(self) -> int:
            return len(self.data)

        def __getitem__(self, row: int) -> Any:
            return transform(Image.open(io.BytesIO(self.data[row])).convert("RGB"))

    loader = torch.utils.data.DataLoader(
        Pictures(),
        batch_size=options.batch_size,
        num_workers=options.workers or os.cpu_count() or 1,
        pin_memory=device == "cuda",
        # A class of this function cannot be pickled.
        multiprocessing_context="fork",
    )
    log = place / "log-open-clip"
    for inputs in loader:
        with torch.inference_mode(), noted(str(log), len(inputs)):
            model(inputs.to(device, dtype, non_blocking=True)).float().cpu()
    return calls(log)


def pictures(place: Path, count: int) -> None:
    """Write JPEG files of 500 x 375 pixels with large and small detail, 64 different ones, over some parquet files."""
    made = []
    for seed in range(min(count, 64)):
        dice = np.random.default_rng(seed)
        coarse = Image.fromarray(dice.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        noise = dice.normal(0, 6, (375, 500, 3))
        out = io.BytesIO()
        Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
        made.append(out.getvalue())
    files = max(1, min(16, count // 64))
    for number in range(files):
        some = [made[row % len(made)] for row in range(number, count, files)]
        pq.write_table(pa.table({"image": pa.array(some, pa.binary())}), place / f"{number}.parquet")


def stored(place: Path) -> Iterator[bytes]:
    """Yield the files."""
    for path in sorted(place.glob("*.parquet")):
        yield from (row.as_py() for row in pq.read_table(path).column("image"))


def batched(items: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    """Yield lists of so many."""
    some: list[bytes] = []
    for item in items:
        some.append(item)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


def flops(size: dict[str, int]) -> float:
    """Count the operations of a vision tower per image: patches, projections, MLP and attention of each layer."""
    tokens = (size["image_size"] // size["patch_size"]) ** 2
    width, inner = size["hidden_size"], size["intermediate_size"]
    layer = 8 * tokens * width**2 + 4 * tokens * width * inner + 4 * tokens**2 * width
    return 2 * tokens * 3 * size["patch_size"] ** 2 * width + size["num_hidden_layers"] * layer


def matrix_rate(torch: Any, device: str, dtype: str) -> float:
    """Return how many operations per second this device does on large square matrices, at its best of five."""
    side = 8192 if device == "cuda" else 2048
    a = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))
    best = math.inf
    for _ in range(6):
        started = time.perf_counter()
        a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return float(2 * side**3 / best)


def main() -> None:
    """Run what the command line says, in a folder that is removed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["busy", "encode"])
    parser.add_argument("--workers", type=int, default=None, help="CPU workers (default: one per CPU; busy: 2)")
    parser.add_argument("--runner", choices=["local", "ray"], default="local", help="busy: which runner")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=400, help="busy: how many")
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[20.0, 50.0, 100.0], help="busy: of the model")
    parser.add_argument("--prepare-ms", type=float, default=10.0, help="busy: CPU time of preparing a batch")
    parser.add_argument("--model", choices=list(SIZES), default="base")
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="bfloat16")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpu-encode-") as folder:
        os.environ["FDF_HOME"] = str(Path(folder, "home"))
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        if options.what == "busy":
            options.workers = options.workers or 2
            busy(Path(folder), options)
        else:
            encode(Path(folder), options)


if __name__ == "__main__":
    main()
