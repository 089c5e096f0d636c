"""Hosts whose content reaches corpora by better ways than crawling.

RefinedWeb leaves out what The Pile and others already hold in curated form, so that its web data can be mixed with them
without repeating them (Penedo et al. 2023, arXiv 2306.01116, appendix G.1). The list names the hosts of the paper's
table; DCLM-Baseline drops this rule.
"""

from __future__ import annotations

REFINEDWEB = (
    "arxiv.org",
    "askubuntu.com",
    "courtlistener.com",
    "exporter.nih.gov",
    "github.com",
    "irclogs.ubuntu.com",
    "mathoverflow.net",
    "ncbi.nlm.nih.gov",
    "news.ycombinator.com",
    "reddit.com",
    "stackapps.com",
    "stackexchange.com",
    "stackoverflow.com",
    "statmt.org",
    "uspto.gov",
    "wikipedia.org",
)
