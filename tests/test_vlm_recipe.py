"""The README recipe, not a character changed: two datasets of a hub mixed by tokens, scored, filtered, embedded and
captioned, on S3."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tiny_models import write_llava, write_siglip

from fdf import run
from fdf.models.libraries import require_transformers
from fdf.testing.hub import hub_stand_in
from fdf.testing.s3 import s3_stand_in

RECIPE = Path(__file__).parents[2] / "shared" / "vlm-recipe-v1.yaml"
RUNNERS = ["local", "ray"]

if not RECIPE.exists() and not os.environ.get("FDF_REQUIRE_DATA"):
    pytest.skip(f"{RECIPE} is not here", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub with tiny weights under the names that the operators have by default, and both datasets."""
    _, transformers = require_transformers(operator="tests", install="fdf-ops-vision[models]")
    folder = tmp_path_factory.mktemp("hub")
    with hub_stand_in(folder / "cache") as hub:
        from fdf_ops_vision.llava import LLaVACaptioner
        from fdf_ops_vision.siglip import SigLIPEncoder

        siglip = write_siglip(transformers, folder / "siglip")
        llava = write_llava(transformers, folder / "llava")
        hub.model(SigLIPEncoder.model).commit_folder(siglip)
        hub.model(LLaVACaptioner.model).commit_folder(llava)
        hub.folders = {"siglip": siglip, "llava": llava}
        yield hub


@pytest.fixture(scope="module")
def s3():
    with s3_stand_in("fdf-runs", "my-data-lake") as address:
        yield address


SENTENCE = "The committee of the old town found that a bridge over the river would serve the people who live there. "


def texts(count, *, seed):
    """Texts of one to some hundred plain sentences, which the scorer takes for prose."""
    lengths = np.random.default_rng(seed).lognormal(2, 1, count).astype(int) + 1
    return [f"Page {seed}-{i}. " + SENTENCE * int(n) for i, n in enumerate(lengths)]


def parquet(table):
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=100)
    return out.getvalue()


def pictures(count):
    """PNG files of small pictures, a different one each; None for every second row."""
    from PIL import Image

    made = []
    for i in range(count):
        if i % 2:
            made.append(None)
            continue
        pixels = np.random.default_rng(i).integers(0, 256, (24 + i % 7, 40, 3), dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        made.append(out.getvalue())
    return made


def serve(hub, *, images):
    """Commit both datasets with the columns that they have on the real hub; with `images`, LAION has pictures too."""
    files = {}
    for part in range(2):
        columns = {"content": texts(150, seed=part), "url": [f"https://example.com/{part}/{i}" for i in range(150)]}
        files[f"data/train-{part:05d}-of-00002.parquet"] = parquet(pa.table(columns))
    hub.dataset("tiiuae/falcon-refinedweb").commit(files)
    rows = 160
    columns = {
        "SAMPLE_ID": list(range(rows)),
        "URL": [f"https://example.com/image/{i}" for i in range(rows)],
        "TEXT": texts(rows, seed=9),
    }
    if images:
        columns["image"] = pa.array(pictures(rows), pa.binary())
    hub.dataset("laion/laion2B-en").commit({"part-00000.snappy.parquet": parquet(pa.table(columns))})


def fdf(*arguments, home):
    """Run the command line as a user would, in a process of its own."""
    environment = {**os.environ, "FDF_HOME": str(home), "FDF_CACHE": str(home / "cache")}
    command = [str(Path(sys.executable).with_name("fdf")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400, check=False)


def output(name="golden-dataset"):
    """Return the rows of the output, read by pyarrow over S3, and its manifest."""
    import s3fs

    files = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"], use_listings_cache=False)
    files.invalidate_cache()
    root = f"my-data-lake/{name}"
    manifest = json.loads(files.cat(f"{root}/__fdf__/manifest.json"))
    tables = [pq.read_table(f"{root}/{entry['path']}", filesystem=files) for entry in manifest["outputs"]]
    return pa.concat_tables(tables), manifest


def clean():
    import s3fs

    files = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for bucket in ("fdf-runs", "my-data-lake"):
        for path in files.ls(bucket):
            files.rm(path, recursive=True)


@pytest.mark.parametrize("runner", RUNNERS)
def test_with_the_real_columns_images_are_absent_and_what_needs_them_is_null(hub, s3, tmp_path, runner):
    clean()
    serve(hub, images=False)
    planned = fdf("plan", RECIPE, home=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert "`image`" in planned.stdout + planned.stderr
    assert "laion2b" in planned.stdout + planned.stderr
    done = fdf("run", RECIPE, "--runner", runner, "--workers", 2, home=tmp_path)
    assert done.returncode == 0, done.stderr
    table, manifest = output()
    assert table.num_rows > 100
    assert table["siglip_emb"].null_count == table["caption"].null_count == table.num_rows
    assert {leaf["name"] for leaf in manifest["mixture"]["leaves"]} == {"refinedweb", "laion2b"}


@pytest.mark.parametrize("runner", RUNNERS)
def test_with_images_in_half_of_the_rows_these_are_embedded_and_captioned(hub, s3, tmp_path, runner):
    clean()
    serve(hub, images=True)
    done = fdf("run", RECIPE, "--runner", runner, "--workers", 2, "--run-id", f"vlm-{runner}", home=tmp_path)
    assert done.returncode == 0, done.stderr
    # Said once: there is no GPU here.
    assert done.stderr.count("run on its CPU") + done.stderr.count("run on the CPU") == 1
    table, manifest = output()
    _check_mixture(table, f"vlm-{runner}", manifest)
    _check_models(table, hub.folders)
    _check_readers(table.num_rows)


def test_on_a_cluster_with_one_gpu_both_models_go_in_turn_in_an_actor(hub, s3, tmp_path, monkeypatch):
    """Ray counts a GPU, which this machine need not have: the models are where they would be with one."""
    from ray.cluster_utils import Cluster

    from fdf_runner_ray.cluster import QUIET
    from fdf_runner_ray.runner import RayRunner

    for name, value in {**QUIET, "FDF_HOME": str(tmp_path), "FDF_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    clean()
    serve(hub, images=True)
    folder = tempfile.mkdtemp(prefix="fdf-ray-", dir="/tmp")
    node = {"num_cpus": 3, "num_gpus": 1, "temp_dir": folder, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node, shutdown_at_exit=False)
    runner = RayRunner(address=cluster.address)
    said = []

    def on_event(event):
        said.append(event.data.get("message"))

    try:
        run(str(RECIPE), run_id="vlm-turns", runner=runner, on_event=on_event)
    finally:
        runner.close()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    # By the one actor that holds both.
    assert said.count("Ray counts a GPU here that this machine does not offer: models run on its CPU") == 1
    assert "no node of the cluster has a GPU: models run on the CPU" not in said
    table, _ = output()
    _check_models(table, hub.folders)


def _check_mixture(table, run_id, manifest):
    """The stage that mixes is within its bound, and the output says what filters left of each source."""
    import s3fs

    files = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"], use_listings_cache=False)
    first = json.loads(files.cat(f"fdf-runs/{run_id}/clean_and_score/manifest.json"))
    mixture = first["mixture"]
    assert mixture["unit"] == "tokens"
    assert Fraction(mixture["max_abs_deviation"]) < mixture["bound"]
    final = {leaf["name"]: leaf["final"]["rows"] for leaf in manifest["mixture"]["leaves"]}
    names = table["__fdf__/source"].to_pylist()
    assert final == {name: names.count(name) for name in final}
    assert first["mixture"]["events"][-1]["then"].startswith("stopped")


def _check_models(table, folders):
    """Embeddings and captions are those of transformers called directly, and null without a picture."""
    import torch
    import transformers
    from PIL import Image

    rows = table.select(["image", "siglip_emb", "caption"]).to_pylist()
    with_image = [row for row in rows if row["image"] is not None]
    assert with_image
    assert all(row["siglip_emb"] is None and row["caption"] is None for row in rows if row["image"] is None)
    pictures = [Image.open(io.BytesIO(row["image"])).convert("RGB") for row in with_image[:12]]
    model = transformers.SiglipModel.from_pretrained(folders["siglip"]).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folders["siglip"])
    with torch.no_grad():
        wanted = model.get_image_features(**processor(pictures, return_tensors="pt"))
    wanted = getattr(wanted, "pooler_output", wanted)
    wanted = wanted / wanted.norm(dim=-1, keepdim=True)
    got = np.array([row["siglip_emb"] for row in with_image[:12]], dtype=np.float32)
    assert np.abs(got - wanted.numpy()).max() < 1e-4
    captions = _captions(folders["llava"], pictures[:4])
    assert [row["caption"] for row in with_image[:4]] == captions


def _captions(folder, pictures):
    import torch
    import transformers

    from fdf_ops_vision.llava import LLaVACaptioner

    model = transformers.LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": LLaVACaptioner.prompt}]}]
    prompt = processor.apply_chat_template(asked, add_generation_prompt=True)
    found = []
    for picture in pictures:
        inputs = processor(images=picture, text=prompt, return_tensors="pt")
        with torch.no_grad():
            made = model.generate(**inputs, do_sample=False, max_new_tokens=LLaVACaptioner.max_new_tokens)
        words = processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        found.append(words[0].strip())
    return found


def _check_readers(rows):
    """The output opens as it is in datasets, Polars and DuckDB."""
    import datasets
    import duckdb
    import polars as pl
    import s3fs

    address = os.environ["AWS_ENDPOINT_URL"]
    options = {
        "aws_endpoint_url": address,
        "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    frame = pl.read_parquet("s3://my-data-lake/golden-dataset/*.parquet", storage_options=options)
    assert frame.height == rows
    files = s3fs.S3FileSystem(endpoint_url=address, use_listings_cache=False)
    connection = duckdb.connect()
    connection.register_filesystem(files)
    counted = connection.execute("select count(*) from read_parquet('s3://my-data-lake/golden-dataset/*.parquet')")
    assert counted.fetchone() == (rows,)
    loaded = datasets.load_dataset(
        "parquet",
        data_files="s3://my-data-lake/golden-dataset/*.parquet",
        split="train",
        storage_options={"endpoint_url": address},
    )
    assert loaded.num_rows == rows


def test_the_input_is_within_one_document_of_60_40_at_every_prefix_and_starts_early(tmp_path, monkeypatch):
    """The recipe's input alone, so that no filter hides what was delivered."""
    monkeypatch.setenv("FDF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FDF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fdf.mixture.ranges.MOST_ROWS", 60)
    root = tmp_path / "mixed"
    stage = {"name": "mixed", "materialize": {"path": str(root)}, "operators": []}
    asked_for: list[int] = []
    with hub_stand_in(tmp_path / "hub") as hub:
        web = {f"data/train-{n:05d}-of-00030.parquet": pa.table({"content": texts(40, seed=n)}) for n in range(30)}
        hub.dataset("tiiuae/falcon-refinedweb").commit({name: parquet(table) for name, table in web.items()})
        pairs = pa.table({"TEXT": texts(400, seed=99)})
        hub.dataset("laion/laion2B-en").commit({"part-00000.snappy.parquet": parquet(pairs)})

        def listen(event):
            if event.kind == "split_started" and not asked_for:
                asked_for.append(len({r.path for r in hub.asked(r"falcon-refinedweb/resolve/.*train-.*parquet")}))

        given = {"name": "input-of-vlm", "input": yaml.safe_load(RECIPE.read_text())["input"], "stages": [stage]}
        manifest = run(given, runner="serial", on_event=listen).stages[0].manifest
    # The columns are those of the first 8 files; the sizes of the others had not been measured.
    assert 0 < asked_for[0] < 15
    rows = pa.concat_tables([pq.read_table(root / entry["path"]) for entry in manifest["outputs"]])
    sizes = [-(-len(text.encode()) // 4) for text in rows["text"].to_pylist()]
    delivered, units, worst = {"refinedweb": 0, "laion2b": 0}, 0, Fraction(0)
    for size, name in zip(sizes, rows["__fdf__/source"].to_pylist(), strict=True):
        delivered[name] += size
        units += size
        worst = max(worst, abs(delivered["refinedweb"] - Fraction(6, 10) * units))
    assert worst < max(sizes)
    assert Fraction(manifest["mixture"]["max_abs_deviation"]) >= worst
    # `on_exhausted: stop`: one of the two was delivered to its end, and nothing after that.
    (end,) = manifest["mixture"]["events"]
    assert end["cause"] == "epochs"
    assert rows["__fdf__/source"].to_pylist().count(end["name"]) == {"refinedweb": 1200, "laion2b": 400}[end["name"]]


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_gpu_that_is_asked_for_and_not_there_is_refused_before_the_first_split(hub, s3, tmp_path, runner):
    clean()
    serve(hub, images=False)
    done = fdf("run", RECIPE, "--runner", runner, "--device", "cuda", home=tmp_path)
    assert done.returncode == 4, done.stderr
    import s3fs

    assert not s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"], use_listings_cache=False).ls("fdf-runs")
