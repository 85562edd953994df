"""Every page of the rendered site in a real browser, at desktop and phone width."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe

from repro.site.citation import citations

REPOSITORY = Path(__file__).resolve().parents[2]

WIDTHS = (1280, 390)
LOOK = """() => ({
  images: [...document.images].filter(i => i.complete && i.naturalWidth === 0).map(i => i.src),
  noAlt: [...document.images].filter(i => !i.alt.trim()).map(i => i.src),
  maths: document.querySelectorAll('.math').length,
  rendered: [...document.querySelectorAll('.math')].filter(m => m.querySelector('mjx-container')).length,
  badMaths: document.querySelectorAll('mjx-merror').length,
  raw: (() => { const copy = document.querySelector('article').cloneNode(true);
    copy.querySelectorAll('pre, code, mjx-container, script').forEach(e => e.remove());
    return (copy.textContent.match(/\\\\\\(|\\\\\\[|\\$\\$/g) || []).length })(),
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  sideways: [...document.querySelectorAll('.repro-scroll, div.evidence')]
    .filter(e => innerWidth < 600 && e.scrollWidth > e.clientWidth + 1).length,
  headings: document.querySelectorAll('article h1').length,
  unlabelled: [...document.querySelectorAll('article button, article input, article select')]
    .filter(e => !e.labels?.length && !e.textContent.trim() && !e.ariaLabel && !e.title && !e.dataset.tooltip).length,
})"""


@dataclass
class Visit:
    """What one page looked like at one width."""

    page: str
    width: int
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    seen: dict[str, Any] = field(default_factory=dict)


def pages(folder: Path) -> list[str]:
    """Pages that people read (search.html is tested by searching)."""
    named = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.html") if "_static" not in path.parts)
    return [name for name in named if name != "search.html"]


def kinds(folder: Path) -> list[str]:
    """All pages but the library's, of which the first and the longest stand for the others."""
    everything = pages(folder)
    library = [name for name in everything if name.startswith("api/")]
    longest = max(library, key=lambda name: (folder / name).stat().st_size)
    return [name for name in everything if name not in library or name in (library[0], longest)]


def visit(browser: Any, address: str, page: str) -> list[Visit]:
    """Load a page at the first width, look at it, then make the window as narrow as the next and look again."""
    found, tab = Visit(page, WIDTHS[0]), browser.new_page(viewport={"width": WIDTHS[0], "height": 900})

    def route(one: Any) -> None:
        if one.request.url.startswith((address, "data:", "blob:")):
            one.continue_()
        else:
            found.foreign.append(one.request.url)
            one.abort()

    tab.route("**/*", route)
    tab.on("console", lambda message: found.errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: found.errors.append(str(error)))
    tab.on("response", lambda answer: found.missing.append(answer.url) if answer.status >= 400 else None)
    tab.goto(f"{address}/{page}", wait_until="load")
    tab.evaluate("async () => { if (window.MathJax?.startup) await MathJax.startup.promise }")
    tab.evaluate("async () => Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode() })"
                 ".map(p => p.catch(() => 0)))")  # fmt: skip
    found.seen = tab.evaluate(LOOK)
    narrow = []
    for width in WIDTHS[1:]:
        tab.set_viewport_size({"width": width, "height": 900})
        tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        narrow.append(Visit(page, width, seen=tab.evaluate(LOOK)))
    tab.close()
    return [found, *narrow]


def made_up(folder: Path) -> bool:
    """Whether a site is the specimen's, whose papers all have the same made-up number."""
    return {record["paper"]["arxiv"] for record in json.loads((folder / "evidence.json").read_text())["records"]} == {
        "1234.56789"}  # fmt: skip


@pytest.fixture(scope="module")
def visits(site: tuple[Path, str], browser: Any) -> list[Visit]:
    """Of the made-up book only what the real one has not: its prose and its reference are the same."""
    folder, address = site
    same = ("guides/", "api/", "records", "bibliography") if made_up(folder) else ()
    chosen = [page for page in kinds(folder) if not page.startswith(same)]
    return [one for page in chosen for one in visit(browser, address, page)]


def collected(visits: list[Visit], what: str) -> dict[tuple[str, int], Any]:
    """Where something that should be empty or zero is not."""
    values = {(one.page, one.width): getattr(one, what, None) or one.seen.get(what) for one in visits}
    return {place: value for place, value in values.items() if value}


def test_the_book_builds_without_warnings_from_the_committed_notebooks(book_build: tuple[Path, int, str]) -> None:
    _, status, output = book_build
    assert status == 0, output


def test_a_failed_run_is_rendered_and_still_fails_the_build(specimen_build: tuple[Path, int, str]) -> None:
    folder, status, output = specimen_build
    assert status == 1 and "jupyter-book failed" not in output, output
    assert "theory/self-normalizing failed: cell 7 raised ZeroDivisionError" in output
    assert "This run failed" in (folder / "notebooks/theory/self-normalizing.html").read_text()


def test_alternative_text_and_caption_arrive_whole(specimen_build: tuple[Path, int, str], browser: Any) -> None:
    folder, *_ = specimen_build
    tab = browser.new_page()
    wanted = 'Cover of stiffness: a "line" # that [falls] by 5 \\% | so'
    tab.goto((folder / "notebooks/landscape/stiffness.html").as_uri())
    assert [image.get_attribute("alt") for image in tab.locator("article figure img").all()] == [wanted] * 3
    assert tab.locator("article figcaption").first.inner_text().startswith("The angle")
    tab.goto((folder / "index.html").as_uri())
    assert wanted in [image.get_attribute("alt") for image in tab.locator(".repro-gallery img").all()]
    tab.close()


def test_all_kinds_of_pages_are_visited(site: tuple[Path, str], visits: list[Visit]) -> None:
    tops = {Path(one.page).parts[0] for one in visits}
    both = {"index.html", "claims.html", "ideas.html", "measurements.html", "parts", "notebooks"}
    more = {"results"} if made_up(site[0]) else {"records.html", "bibliography.html", "guides", "api"}
    assert both | more <= tops


def test_no_page_logs_an_error_or_lacks_a_file(visits: list[Visit]) -> None:
    assert collected(visits, "errors") == {}
    assert collected(visits, "missing") == {}


def test_no_page_asks_another_host(visits: list[Visit]) -> None:
    assert collected(visits, "foreign") == {}


def test_every_image_is_there_and_has_alternative_text(visits: list[Visit]) -> None:
    assert collected(visits, "images") == {}
    assert collected(visits, "noAlt") == {}


def test_all_maths_is_rendered(visits: list[Visit]) -> None:
    assert {one.page: one.seen["maths"] for one in visits if one.seen["rendered"] != one.seen["maths"]} == {}
    assert collected(visits, "badMaths") == {}
    assert collected(visits, "raw") == {}
    assert sum(one.seen["rendered"] for one in visits) > 0


def test_no_page_is_wider_than_the_screen(visits: list[Visit]) -> None:
    assert {place: value for place, value in collected(visits, "overflow").items() if value > 0} == {}


def test_no_table_has_to_be_scrolled_sideways_on_a_phone(visits: list[Visit]) -> None:
    assert collected(visits, "sideways") == {}


def test_every_page_has_one_title_and_labelled_controls(visits: list[Visit]) -> None:
    assert {one.page: one.seen["headings"] for one in visits if one.seen["headings"] != 1} == {}
    assert collected(visits, "unlabelled") == {}


def test_every_internal_link_leads_to_a_file_and_to_an_anchor_in_it(site: tuple[Path, str]) -> None:
    folder, _ = site
    sources = {name: (folder / name).read_text() for name in [*pages(folder), "search.html"]}
    ids = {name: {unescape(one) for one in re.findall(r'\sid="([^"]*)"', text)} for name, text in sources.items()}
    broken = set()
    for name, text in sources.items():
        for link in map(unescape, re.findall(r'\shref="([^"]*)"', text)):
            there = urlsplit(link)
            if there.scheme or there.netloc:
                continue
            path = normpath(join(dirname(name), unquote(there.path))) if there.path else name
            fragment = unquote(there.fragment)
            if not (folder / path).is_file() or (fragment and path in ids and fragment not in ids[path]):
                broken.add((name, link))
    assert len(sources) > 20 and broken == set()


@pytest.fixture
def tab(site: tuple[Path, str], browser: Any) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield page
    page.close()


def papers(site: tuple[Path, str]) -> list[dict[str, Any]]:
    """The small pages' records as the site publishes them."""
    records = json.loads((site[0] / "evidence.json").read_text())["records"]
    return [record for record in records if record["scale"] == "small"]


def found(tab: Any, query: str) -> list[str]:
    """Pages that the site's search lists for ``query``, best first (without drawing the list, for speed)."""
    results = tab.evaluate("query => Search._performSearch(...Search._parseQuery(query))", query)
    return [result[0] for result in reversed(results)]


def test_search_finds_every_paper_by_title_author_and_claim(site: tuple[Path, str], tab: Any) -> None:
    tab.goto(f"{site[1]}/search.html")
    tab.wait_for_function("() => Search._index")
    cites = citations(REPOSITORY / "book" / "references.bib")
    lost = set()
    for record in papers(site):
        page, paper = f"notebooks/{record['part']}/{record['slug']}", record["paper"]
        names = re.split(", | and ", cites[paper["key"]].authors)
        # words of one or two letters are not what a search is for, and Sphinx's stumbles over them
        claims = [" ".join(re.findall(r"\w{3,}", claim["statement"])) for claim in record["claims"]]
        for query in [paper["title"], *names, *claims]:
            if page not in found(tab, query):
                lost.add((page, query))
        if page not in found(tab, paper["title"])[:2]:
            lost.add((page, "among the first two for its title"))
    assert lost == set()


def test_the_search_page_lists_what_it_found(site: tuple[Path, str], tab: Any) -> None:
    record = papers(site)[0]
    tab.goto(f"{site[1]}/search.html?q={record['paper']['title'].split(':')[0]}")
    tab.wait_for_selector(f"#search-results a[href*='{record['slug']}']", timeout=10000)


def shown(tab: Any, table: str) -> list[str]:
    return tab.locator(f"#{table} tbody tr:visible th").all_inner_texts()


def test_the_front_table_filters_by_words_part_verdict_and_scale(site: tuple[Path, str], tab: Any) -> None:
    tab.goto(f"{site[1]}/index.html")
    everything = shown(tab, "papers")
    tab.fill("#papers [name=text]", everything[0].split("\n")[0])
    assert shown(tab, "papers") == everything[:1]
    assert f"1 of {len(everything)} shown" in tab.inner_text("#papers output")
    tab.fill("#papers [name=text]", "no such paper anywhere")
    assert shown(tab, "papers") == []
    tab.fill("#papers [name=text]", "")
    for name in ("part", "verdict", "scale"):
        select = tab.locator(f"#papers [name={name}]")
        for value in (option.get_attribute("value") for option in select.locator("option").all()):
            select.select_option(value)
            expected = tab.evaluate(EXPECTED, [name, value])
            assert len(shown(tab, "papers")) == expected, (name, value)
        select.select_option("")
    assert shown(tab, "papers") == everything


EXPECTED = """([name, value]) => [...document.querySelectorAll('#papers tbody tr')].filter(row => !value
  || (name === 'part' ? row.dataset.part === value
  : row.dataset.marks.split('|').some(mark => mark.split(':')[name === 'scale' ? 0 : 1] === value))).length"""


def test_the_front_table_sorts_both_ways_and_says_so(site: tuple[Path, str], tab: Any) -> None:
    tab.goto(f"{site[1]}/index.html")
    tab.click("#papers thead th:nth-child(1) button")
    names = [name.lower() for name in shown(tab, "papers")]
    assert names == sorted(names)
    tab.click("#papers thead th:nth-child(1) button")
    assert [name.lower() for name in shown(tab, "papers")] == names[::-1]
    assert tab.get_attribute("#papers thead th:nth-child(1)", "aria-sort") == "descending"


def test_the_copy_button_copies_the_rerun_command(site: tuple[Path, str], browser: Any) -> None:
    paper = next(name for name in pages(site[0]) if name.startswith("notebooks/"))
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    tab.goto(f"{site[1]}/{paper}")
    tab.hover(".repro-card .highlight")
    tab.click(".repro-card .highlight button.copybtn")
    tab.wait_for_selector(".repro-card button.copybtn.success")
    copied = tab.evaluate("() => navigator.clipboard.readText()")
    assert copied == f"make page NB={paper.removesuffix('.html')}.ipynb"
    context.close()


def test_indexes_lead_to_the_papers_and_to_the_librarys_reference(site: tuple[Path, str], tab: Any) -> None:
    tab.goto(f"{site[1]}/measurements.html")
    terms = tab.locator("article dl.simple > dt, article dl.myst > dt")
    assert terms.count() > 0 and terms.count() == terms.locator("a[href^='api/']").count()
    linked = {one.get_attribute("href") for one in tab.locator("article dd a").all()}
    tab.goto(f"{site[1]}/ideas.html")
    linked |= {one.get_attribute("href") for one in tab.locator("article li a").all()}
    assert {f"notebooks/{one['part']}/{one['slug']}.html" for one in papers(site)} <= linked


def test_a_claim_in_the_table_of_all_claims_leads_to_its_row_on_the_page(site: tuple[Path, str], tab: Any) -> None:
    tab.goto(f"{site[1]}/claims.html")
    link = tab.locator("#claims tbody tr:nth-child(2) th a")
    claim = link.inner_text().split()[-1]
    link.click()
    tab.wait_for_selector(f"tr#claim-{claim}:target")
    assert tab.locator(f"tr#claim-{claim} .repro-id").inner_text() == claim


def test_evidence_is_drawn_for_every_measured_claim_or_its_parts(site: tuple[Path, str], tab: Any) -> None:
    for record in papers(site):
        tab.goto(f"{site[1]}/notebooks/{record['part']}/{record['slug']}.html")
        rows = [row for claim in record["claims"] for row in (claim.get("parts") or [claim])]
        expected = sum(row["estimate"] is not None for row in rows)
        assert tab.locator(".repro-evidence svg.repro-interval[aria-label]").count() == expected


#: Pages that differ in kind; parameters and a failure are on pages of the made-up book only.
KINDS = {
    "book": ["index.html", "claims.html", "ideas.html", "measurements.html", "records.html", "bibliography.html",
             "search.html", "parts/", "guides/", "notebooks/", "api/"],
    "specimen": ["results/full/landscape/stiffness.html", "notebooks/theory/self-normalizing.html"],
}  # fmt: skip


def serious(tab: Any, address: str) -> list[str]:
    """Names of the rules of axe-core that a page breaks in a way that shuts readers out."""
    tab.goto(address)
    tab.evaluate("async () => { if (window.MathJax?.startup) await MathJax.startup.promise }")
    violations = Axe().run(tab).response["violations"]
    return [one["id"] for one in violations if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_no_serious_violation_on_any_kind_of_page(
    site: tuple[Path, str], request: pytest.FixtureRequest, browser: Any, scheme: str, width: int
) -> None:
    folder, address = site
    wanted = KINDS[request.node.callspec.params["site"]]
    chosen = [next(name for name in [*kinds(folder), "search.html"] if name.startswith(kind)) for kind in wanted]
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    tab = context.new_page()
    broken = {page: serious(tab, f"{address}/{page}") for page in chosen}
    context.close()
    assert {page: names for page, names in broken.items() if names} == {}


def test_figures_keep_a_light_ground_in_the_dark(site: tuple[Path, str], browser: Any) -> None:
    paper = next(name for name in pages(site[0]) if name.startswith("notebooks/"))
    tab = browser.new_page(color_scheme="dark")
    for page, images in ((paper, "article figure img"), ("index.html", ".repro-gallery img")):
        tab.goto(f"{site[1]}/{page}")
        grounds = tab.locator(images).evaluate_all("all => all.map(e => getComputedStyle(e).backgroundColor)")
        assert grounds and set(grounds) == {"rgb(255, 255, 255)"}
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrasts_with_its_ground(site: tuple[Path, str], browser: Any, scheme: str) -> None:
    paper = next(name for name in pages(site[0]) if name.startswith("notebooks/"))
    tab = browser.new_page(color_scheme=scheme)
    tab.goto(f"{site[1]}/{paper}")
    ratios = tab.evaluate(CONTRAST)
    tab.close()
    assert ratios and min(ratios) >= 4.5


CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v / 255 <= .03928 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.map(linear);
    return .2126 * r + .7152 * g + .0722 * b };
  const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c.slice(0, 3) } return [255, 255, 255] };
  const texts = '.verdict, .repro-citation, .repro-links, .evidence-table th, .caption-text';
  return [...document.querySelectorAll(texts)].map(e => {
    const [a, b] = [light(rgb(getComputedStyle(e).color).slice(0, 3)), light(ground(e))].sort((x, y) => y - x);
    return (a + .05) / (b + .05) }) }"""


def test_the_site_works_from_the_file_system(site: tuple[Path, str], browser: Any) -> None:
    folder, tab, errors = site[0], browser.new_page(), []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    for page in ("index.html", "claims.html", next(name for name in pages(folder) if name.startswith("notebooks/"))):
        tab.goto((folder / page).as_uri())
        tab.evaluate("async () => { if (window.MathJax?.startup) await MathJax.startup.promise }")
        assert tab.locator(".math").count() == tab.locator(".math:has(mjx-container)").count()
    tab.goto((folder / "index.html").as_uri())
    tab.fill("#papers [name=text]", "no such paper anywhere")
    assert shown(tab, "papers") == []
    record = papers(site)[0]
    tab.goto(f"{(folder / 'search.html').as_uri()}?q={record['paper']['title'].split(':')[0]}")
    tab.click(f"#search-results a[href*='notebooks/{record['part']}/{record['slug']}.html']")
    tab.wait_for_selector(".repro-card")
    tab.close()
    assert errors == []
