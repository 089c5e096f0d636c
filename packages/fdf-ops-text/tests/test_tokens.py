from __future__ import annotations

import sys

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from fdf.errors import MissingDependency, PlanError
from fdf_ops_text.tokens import TokenCounter

CORPUS = ["the cat sat on the mat", "a cat and a hat", "日本語のテキスト", "naïve café"] * 5


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return a byte-level BPE trained here, that cuts and pads and puts a token before each text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    where = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(where))
    return str(where)


def counts(texts, **parameters):
    return (
        TokenCounter(**parameters).score(pa.record_batch({"text": pa.array(texts, pa.string())}))["tokens"].to_pylist()
    )


@settings(deadline=None)
@given(st.lists(st.none() | st.text(), max_size=6))
def test_estimate_is_that_of_mixtures(texts):
    assert counts(texts) == [None if t is None else (len(t.encode()) + 3) // 4 for t in texts]


def test_count_is_that_of_the_whole_text_one_by_one(path):
    plain = Tokenizer.from_file(path)
    plain.no_truncation()
    plain.no_padding()
    texts = [*CORPUS[:4], "", None, "the cat " * 200, "😀\n\x00", *["cat"] * 600]
    expected = [None if t is None else len(plain.encode(t, add_special_tokens=False).ids) for t in texts]
    assert counts(texts, tokenizer=path) == expected
    assert max(filter(None, expected)) > 64
    with_special = counts(texts, tokenizer=path, add_special_tokens=True)
    assert with_special == [None if n is None else n + 1 for n in expected]


def test_tokenizer_is_part_of_the_fingerprint(path):
    assert list(TokenCounter(tokenizer=path).assets()) == ["tokenizer/tokenizer.json"]
    assert TokenCounter(tokenizer=path).depends == ("tokenizers",)
    assert (TokenCounter().assets(), TokenCounter().depends) == ({}, ())


def test_file_that_is_no_tokenizer_is_a_plan_error(tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(PlanError, match=r"bad.json is no tokenizer"):
        counts(["x"], tokenizer=str(tmp_path / "bad.json"))
    with pytest.raises(PlanError, match=r"`tokenizer` of TokenCounter: .* does not exist"):
        TokenCounter(tokenizer=str(tmp_path / "none.json")).writes(pa.schema({"text": pa.string()}))


def test_missing_library_is_told_with_the_command(monkeypatch, path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(
        MissingDependency, match=r'TokenCounter.*tokenizers[^$]*pip install "fdf-ops-text\[tokenizers\]"'
    ):
        counts(["x"], tokenizer=path)


def test_special_tokens_of_no_tokenizer_are_refused():
    with pytest.raises(ValueError, match="needs a `tokenizer`"):
        TokenCounter(add_special_tokens=True)
