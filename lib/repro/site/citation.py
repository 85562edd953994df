"""How a paper is cited in the header card: read from the book's one bibliography file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BOOK = "Deep Learning, Reproduced"


@dataclass(frozen=True)
class Citation:
    """Authors as "A, B and C", the title, where and when it appeared, and the ideas it is filed under; plain text."""

    authors: str
    title: str
    venue: str
    year: str
    ideas: tuple[str, ...] = ()

    @property
    def own(self) -> bool:
        """Whether the page is the book's own, a comparison of papers, and not a paper's."""
        return self.venue == BOOK

    @property
    def short(self) -> str:
        """As in running text: "Fort et al. 2019"."""
        if self.own:
            return "This book"
        names = self.authors.replace(" and ", ", ").split(", ")
        first = names[0].split()[-1]
        others = "" if len(names) == 1 else f" & {names[1].split()[-1]}" if len(names) == 2 else " et al."
        return f"{first}{others} {self.year}"


def citations(bibliography: Path) -> dict[str, Citation]:
    """All entries of a BibTeX file by key. Raises ValueError naming the file where it cannot be parsed."""
    from pybtex.database import parse_file
    from pybtex.exceptions import PybtexError

    try:
        entries = parse_file(str(bibliography), bib_format="bibtex").entries
    except PybtexError as error:
        raise ValueError(f"{bibliography}: {error}") from None
    return {key: _citation(entry) for key, entry in entries.items()}


def _citation(entry: object) -> Citation:
    fields = entry.fields
    names = [
        _plain(" ".join(person.first_names + person.middle_names + person.last_names))
        for person in entry.persons["author"]
    ]
    authors = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    venue = fields.get("booktitle") or fields.get("journal") or fields.get("howpublished") or "preprint"
    ideas = tuple(idea.strip() for idea in fields.get("keywords", "").split(",") if idea.strip())
    return Citation(authors, _plain(fields["title"]), _plain(venue), fields["year"], ideas)


def _plain(text: str) -> str:
    from pybtex.richtext import Text

    return str(Text.from_latex(text))
