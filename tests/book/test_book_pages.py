"""Every page of the rendered site in a real browser, at desktop and phone width."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

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
  links: [...document.querySelectorAll('a[href]')].map(a => a.href),
  ids: [...document.querySelectorAll('[id]')].map(e => e.id),
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
    return [name for name in named if name not in ("genindex.html", "search.html")]


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


@pytest.fixture(scope="module")
def visits(site: tuple[Path, str], browser: Any) -> list[Visit]:
    folder, address = site
    return [one for page in pages(folder) for one in visit(browser, address, page)]


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


def test_all_kinds_of_pages_are_visited(visits: list[Visit]) -> None:
    tops = {Path(one.page).parts[0] for one in visits}
    assert {"index.html", "claims.html", "bibliography.html", "guides", "parts", "notebooks"} <= tops


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


def test_every_page_has_one_title_and_labelled_controls(visits: list[Visit]) -> None:
    assert {one.page: one.seen["headings"] for one in visits if one.seen["headings"] != 1} == {}
    assert collected(visits, "unlabelled") == {}


def test_every_internal_link_leads_somewhere(site: tuple[Path, str], visits: list[Visit]) -> None:
    folder, address = site
    ids = {one.page: set(one.seen["ids"]) for one in visits}
    broken = set()
    for one in visits:
        for link in (link for link in one.seen["links"] if link.startswith(address)):
            path, fragment = unquote(urlsplit(link).path).lstrip("/") or "index.html", urlsplit(link).fragment
            if not (folder / path).exists() or (fragment and path in ids and unquote(fragment) not in ids[path]):
                broken.add((one.page, link.removeprefix(address)))
    assert broken == set()


@pytest.fixture
def tab(site: tuple[Path, str], browser: Any) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield page
    page.close()


def test_search_finds_a_paper(site: tuple[Path, str], tab: Any) -> None:
    folder, address = site
    paper = next(name for name in pages(folder) if name.startswith("notebooks/"))
    tab.goto(f"{address}/{paper}")
    title = tab.locator("article h1").inner_text().rstrip("#").strip()
    tab.goto(f"{address}/search.html?q={title.split(':')[0]}")
    tab.wait_for_selector(f"#search-results a[href*='{paper}']", timeout=10000)


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


def test_the_rerun_command_has_a_copy_button(site: tuple[Path, str], tab: Any) -> None:
    paper = next(name for name in pages(site[0]) if name.startswith("notebooks/"))
    tab.goto(f"{site[1]}/{paper}")
    tab.wait_for_selector(".repro-card .highlight button.copybtn", state="attached")
    assert tab.inner_text(".repro-card pre").startswith("make page NB=notebooks/")


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
    tab, errors = browser.new_page(), []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    for page in ("index.html", next(name for name in pages(site[0]) if name.startswith("notebooks/"))):
        tab.goto((site[0] / page).as_uri())
        tab.evaluate("async () => { if (window.MathJax?.startup) await MathJax.startup.promise }")
        assert tab.locator(".math").count() == tab.locator(".math:has(mjx-container)").count()
    tab.close()
    assert errors == []
