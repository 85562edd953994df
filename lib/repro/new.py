"""Begin a page: ``python -m repro.new SLUG --part PART --arxiv NUMBER`` writes everything that a paper needs.

A notebook that runs and follows the anatomy, its full scale, its entry in the bibliography, its cut in the test of the
full scale and, for a new part, the part's introduction. What only its author can write is marked ``TODO``; the tests
name each mark that is left. The contents, front page and gallery follow from the notebook by themselves.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from repro.evidence.page import PARTS

MARK = "TODO"


@dataclass(frozen=True)
class Paper:
    """What is known of the paper; title and authors ("Ada Lovelace, Charles Babbage") may still be missing."""

    slug: str
    part: str
    arxiv: str | None
    title: str = ""
    authors: str = ""

    @property
    def year(self) -> str:
        """Of the preprint, from its number; to be written where there is none."""
        return f"20{self.arxiv[:2]}" if self.arxiv else MARK

    @property
    def key(self) -> str:
        """In the bibliography: first author's surname, where known, year, first word of the slug."""
        surname = self.authors.split(",")[0].split()[-1] if self.authors else ""
        plain = re.sub(r"[^a-z]", "", surname.lower())
        year = self.year if self.arxiv else ""
        return f"{plain}{year}{self.slug.split('-')[0]}"


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 if the page was begun, 2 with one line on stderr if it cannot be."""
    parser = argparse.ArgumentParser("python -m repro.new", description=__doc__.splitlines()[0])
    parser.add_argument("slug", help="the page's name, e.g. data-diet")
    parser.add_argument("--part", required=True, help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--arxiv", required=True, help="the paper's number, e.g. 2107.07075, or none")
    parser.add_argument("--title", default="")
    parser.add_argument("--authors", default="", help="'Ada Lovelace, Charles Babbage'")
    parser.add_argument("--root", type=Path, default=Path(), help="the project (default: here)")
    options = parser.parse_args(arguments)
    arxiv = None if options.arxiv == "none" else options.arxiv
    try:
        written = begin(Paper(options.slug, options.part, arxiv, options.title, options.authors), options.root)
    except ValueError as error:
        print(f"repro.new: {error}", file=sys.stderr)
        return 2
    print("\n".join(f"wrote {path}" for path in written))
    print(f'Now write what is marked {MARK}; make test ARGS="-k {options.slug}" names what is left.')
    return 0


def begin(paper: Paper, root: Path) -> list[Path]:
    """Write all of a page's files under ``root`` and return their paths.

    Raises ValueError, before anything is written, for a slug, part or number that is none, or a page that exists.
    """
    from repro.new_notebook import full_scale, notebook

    _check(paper, root)
    stem = root / "notebooks" / paper.part / paper.slug
    fresh = {stem.with_suffix(".ipynb"): notebook(paper), stem.with_suffix(".full.yml"): full_scale(paper)}
    introduction = root / "book" / "parts" / f"{paper.part}.md"
    if not introduction.exists():
        fresh[introduction] = _introduction(paper.part)
    for path, text in fresh.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    more = {_bibliography(root): _entry(paper), root / "tests" / "book" / "shortened.yml": _cut(paper)}
    for path, text in more.items():
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    return [*fresh, *more]


def _bibliography(root: Path) -> Path:
    return root / "book" / "references.bib"


def _check(paper: Paper, root: Path) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", paper.slug):
        raise ValueError(f"SLUG {paper.slug!r} is not lower-case words joined by hyphens, e.g. data-diet")
    if paper.part not in PARTS:
        raise ValueError(f"PART {paper.part!r} is not one of {', '.join(PARTS)}")
    if paper.arxiv is not None and not re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv):
        raise ValueError(f"ARXIV {paper.arxiv!r} is not a number such as 2107.07075, nor 'none'")
    if '"' in paper.title or "\\" in paper.title:
        raise ValueError(f"TITLE {paper.title!r} holds a quotation mark or a backslash: write it without")
    for path in sorted((root / "notebooks").glob(f"*/{paper.slug}.*")):
        raise ValueError(f"{path} exists already; a page's name is its own over all parts")
    bibliography = _bibliography(root)
    if not bibliography.exists():
        raise ValueError(f"{bibliography} is not there: run this in the project's folder, or say --root")
    if f"{{{paper.key}," in bibliography.read_text(encoding="utf-8"):
        raise ValueError(f"{bibliography} has an entry {paper.key!r} already")


def _entry(paper: Paper) -> str:
    authors = " and ".join(_last_first(name) for name in paper.authors.split(",")) if paper.authors else MARK
    number = f"\n  eprint = {{{paper.arxiv}}},\n  archiveprefix = {{arXiv}}," if paper.arxiv else ""
    return (
        f"\n@misc{{{paper.key},\n  author = {{{authors}}},\n  title = {{{paper.title or MARK}}},\n"
        f"  howpublished = {{{'arXiv preprint' if paper.arxiv else MARK}}},\n  year = {{{paper.year}}},{number}\n"
        f"  keywords = {{{MARK}: two or more ideas of book/ideas.yml}},\n}}\n"
    )


def _last_first(name: str) -> str:
    *first, last = name.split()
    return f"{last}, {' '.join(first)}" if first else last


def _cut(paper: Paper) -> str:
    return f"{paper.part}/{paper.slug}:\n  n_seeds: 5\n  steps: 20\n"


def _introduction(part: str) -> str:
    order = PARTS.index(part) + 1
    return (f"---\norder: {order}\n---\n\n# {MARK}: title of the part {part}\n\n{MARK}: what its papers ask, and what "
            "its pages watch out for.\n\n## Papers\n\n<!-- papers -->\n")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
