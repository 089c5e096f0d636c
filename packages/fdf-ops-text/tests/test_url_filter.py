from __future__ import annotations

import json
import re

import pyarrow as pa
import pytest
import tldextract
from hypothesis import given, settings
from hypothesis import strategies as st

from fdf.errors import MissingDependency, PlanError
from fdf_ops_text.url.curated import REFINEDWEB
from fdf_ops_text.url.filter import URLFilter
from fdf_ops_text.url.hosts import Hosts, parser

NOTHING = {"domains": ("blocked.example",)}


def reasons(values, **parameters):
    return reasons_of(URLFilter(**parameters), values)


def reasons_of(operator, values):
    verdict = operator.verdict(pa.record_batch({"url": pa.array(values, pa.string())}))
    return [verdict.reasons[code - 1] if code else "keep" for code in verdict.codes]


def evidence(url, **parameters):
    verdict = URLFilter(**parameters).verdict(pa.record_batch({"url": [url]}))
    return json.loads(verdict.evidence(verdict.codes.nonzero()[0])[0].as_py())["value"]


# Pieces that make up hosts, users, ports, words and what parsers of URLs stumble over.
urls = st.lists(
    st.sampled_from(
        [
            *(
                "http://",
                "HTTPS://",
                "//",
                "::",
                "http:",
                "ftp://",
                "user:pw@",
                "@",
                ":8080",
                "/",
                "?",
                "#",
                "\\",
                "\n",
            ),
            *("www.", "a.", "B.", "bbc.co.uk", "Example.com", "example.com", "co.uk", "x.github.io", "localhost"),
            *("127.0.0.1", "[::1]", "münchen.de", "。", ".", "bad", "Bad", "free", "cam", "seXY", "adult", "%20", "é"),
            *(" ", "-", "_", "a1b2"),
        ]
    ),
    min_size=1,
    max_size=9,
).map("".join)
LISTS = {
    "domains": ("example.com", "bbc.co.uk", "x.github.io", "a.example.com", "127.0.0.1", "localhost", "münchen.de"),
    "urls": ("http://bad", "//a.bbc.co.uk", "bad"),
    "hard_words": ("bad", "a-1b2"),
    "soft_words": ("free", "cam", "www", "FREE"),
    "subwords": ("sexy", "adu-lt"),
}
AS_DATATROVE = URLFilter(preset="datatrove", **LISTS)
PARSE = parser(tldextract, lower=False)
EXTRACT = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())


def as_datatrove(url):
    """Follow RULES.md 1.5 for datatrove's filter, one URL at a time."""
    host = EXTRACT(url)
    words = set(re.split("[^a-zA-Z0-9]+", url))
    squeezed = re.sub("[^a-zA-Z0-9]+", "", url).lower()
    if host.top_domain_under_public_suffix in LISTS["domains"]:
        return "domain"
    if host.fqdn in LISTS["domains"]:
        return "subdomain"
    if url in LISTS["urls"]:
        return "url"
    if words & {"bad", "a1b2"}:
        return "hard_blacklisted"
    if len(words & {"free", "cam", "www"}) >= 2:
        return "soft_blacklisted"
    return "blacklisted_subword" if "sexy" in squeezed or "adult" in squeezed else "keep"


@settings(deadline=None, max_examples=200)
@given(st.lists(urls, min_size=1, max_size=8))
def test_datatrove_preset_decides_as_datatrove(values):
    assert reasons_of(AS_DATATROVE, values) == [as_datatrove(url) for url in values]


@settings(deadline=None, max_examples=200)
@given(st.lists(urls | st.text(max_size=12), min_size=1, max_size=8))
def test_host_is_the_same_from_the_head_of_a_url_as_from_all_of_it(values):
    hosts = Hosts.of(pa.array(values, pa.large_string()), PARSE)
    found = [hosts.unique[row] for row in hosts.rows]
    whole = [EXTRACT(url) for url in values]
    assert [(h.registered, h.fqdn) for h in found] == [(w.top_domain_under_public_suffix, w.fqdn) for w in whole]


def test_each_host_is_parsed_once(monkeypatch):
    parsed = []
    real = parser(tldextract, lower=True)
    urls = pa.array([f"http://a.com/{page}?q#f" for page in range(50)] + [None, "http://b.com"], pa.large_string())
    hosts = Hosts.of(urls, lambda head: parsed.append(head) or real(head))
    assert parsed == ["http://a.com", "http://b.com"]
    assert [hosts.unique[row].name if row >= 0 else None for row in hosts.rows[[0, 49, 50, 51]]] == [
        "a.com",
        "a.com",
        None,
        "b.com",
    ]


@pytest.mark.parametrize(
    ("url", "entry", "reason"),
    [
        ("https://shop.bbc.co.uk/x", "bbc.co.uk", "domain"),
        ("https://a.news.bbc.co.uk/x", "news.bbc.co.uk", "subdomain"),
        ("https://news.bbc.co.uk", "NEWS.bbc.co.uk", "subdomain"),
        ("http://user@EXAMPLE.com:80", "example.com", "domain"),
        ("http://10.0.0.1/x", "10.0.0.1", "domain"),
        ("http://notexample.com/", "example.com", "keep"),
        ("http://example.com.evil.net/example.com", "example.com", "keep"),
        ("http://bbc.co.uk", "co.uk", "keep"),
    ],
)
def test_entry_blocks_the_domain_and_all_below_it(url, entry, reason):
    assert reasons([url], domains=(entry,)) == [reason]


def test_letter_case_matters_to_the_datatrove_preset_only():
    lists = {"domains": ("example.com",), "hard_words": ("bad",), "urls": ("http://x.org/A",)}
    values = ["http://Example.com", "http://x.org/BAD", "http://x.org/a"]
    assert reasons(values, **lists) == ["domain", "hard_blacklisted", "url"]
    assert reasons(values, preset="datatrove", **lists) == ["keep", "keep", "keep"]


def test_soft_words_count_once_each_and_drop_at_the_threshold():
    lists = {"soft_words": ("free", "cam", "chat")}
    assert reasons(["http://x.org/free-cam", "http://x.org/free/free", "http://freecam.org/chat"], **lists) == [
        "soft_blacklisted",
        "keep",
        "keep",
    ]
    assert reasons(["http://x.org/free"], soft_threshold=1, **lists) == ["soft_blacklisted"]


def test_curated_sources_are_refinedwebs_unless_said_otherwise():
    values = [f"https://{host}/page" for host in REFINEDWEB] + ["https://old.reddit.com/r", "https://notreddit.com"]
    assert reasons(values, **NOTHING) == ["curated"] * 17 + ["keep"]
    assert set(reasons(values, preset="datatrove", **NOTHING)) == {"keep"}
    assert set(reasons(values, curated=(), **NOTHING)) == {"keep"}
    assert reasons(["https://a.b.org"], curated=("B.org",), preset="datatrove") == ["curated"]


def test_evidence_tells_entry_and_list(tmp_path):
    for category in ("adult", "games"):
        (tmp_path / category).mkdir()
        (tmp_path / category / "domains").write_text(f"{category}.example\n")
    files = {"domain_files": (str(tmp_path / "*" / "domains"),)}
    assert evidence("http://games.example/", **files) == {"entry": "games.example", "list": "games/domains"}
    words = {"hard_words": ("vile",), "soft_words": ("b", "a", "c")}
    assert evidence("http://x.org/vile", **words) == {"entry": "vile", "list": "hard_words"}
    assert evidence("http://x.org/a/b", **words) == {"entry": "a, b", "list": "soft_words"}


def test_null_url_and_url_without_host_are_kept():
    assert reasons([None, "", "://", "http://"], **LISTS) == ["keep"] * 4


def test_missing_list_is_a_plan_error(tmp_path):
    operator = URLFilter(hard_word_files=(str(tmp_path / "none"),))
    with pytest.raises(PlanError, match=r"`hard_word_files` of URLFilter: .*none does not exist"):
        operator.writes(pa.schema({"url": pa.string()}))


def test_changed_list_is_another_operator_to_the_plan(tmp_path):
    path = tmp_path / "domains"
    path.write_text("a.com\n")
    operator = URLFilter(domain_files=(str(path),))
    before = operator.assets()
    path.write_text("a.com\nb.com\n")
    assert operator.assets() != before


def test_parameters_that_say_nothing_are_refused():
    with pytest.raises(ValueError, match="no list"):
        URLFilter(preset="datatrove")
    with pytest.raises(ValueError, match="soft_threshold"):
        URLFilter(soft_threshold=0)


def test_missing_library_is_told_with_the_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tldextract", None)
    with pytest.raises(MissingDependency, match=r'URLFilter.*tldextract[^$]*pip install "fdf-ops-text\[url\]"'):
        URLFilter().verdict(pa.record_batch({"url": ["x"]}))


def test_long_word_lists_are_split_over_patterns():
    many = tuple(f"word{number}x" for number in range(5000))
    assert reasons(["http://a.org/word4999x", "http://a.org/word4999xx", "http://a.org/word0x"], hard_words=many) == [
        "hard_blacklisted",
        "keep",
        "hard_blacklisted",
    ]
