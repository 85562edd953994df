// Filters and sorts the tables of papers and claims, which are complete without it, and sets up the search.
"use strict";

// Papers first, then the rest of the book, then the library. Sphinx's search takes its weights from here if they are set.
globalThis.Scorer = {
  score: ([docname, , , , score]) =>
    score + (docname.startsWith("notebooks/") ? 40 : docname.startsWith("results/") ? 35 : docname.startsWith("api/") ? -20 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

// Excerpts of the pages found are fetched, which browsers refuse from the file system: there the titles must do.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

function matches(row, wanted) {
  const words = wanted.get("text").toLowerCase().split(/\s+/).filter(Boolean);
  const text = row.textContent.toLowerCase();
  const marks = row.dataset.marks.split("|").map((mark) => mark.split(":"));
  const [verdict, scale] = [wanted.get("verdict"), wanted.get("scale")];
  return (
    words.every((word) => text.includes(word)) &&
    (!wanted.get("part") || row.dataset.part === wanted.get("part")) &&
    marks.some(([where, what]) => (!scale || where === scale) && (!verdict || what === verdict))
  );
}

function filter(form, rows) {
  const wanted = new FormData(form);
  for (const row of rows) row.hidden = !matches(row, wanted);
  const shown = rows.filter((row) => !row.hidden).length;
  form.querySelector("output").textContent = `${shown} of ${rows.length} shown`;
}

function key(row, column, numeric) {
  const cell = row.cells[column];
  if (!numeric) return cell.textContent.trim().toLowerCase();
  return cell.dataset.sort === "" ? -Infinity : Number(cell.dataset.sort);
}

function sort(table, button) {
  const head = button.closest("th");
  const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const compare = (a, b) => (a < b ? -sign : a > b ? sign : 0);
  const numeric = button.dataset.as === "number";
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compare(key(a, head.cellIndex, numeric), key(b, head.cellIndex, numeric)));
  table.tBodies[0].append(...rows);
}

// What the theme leaves unsaid to screen readers.
function name() {
  for (const one of document.querySelectorAll("nav summary:not([aria-label])")) one.setAttribute("aria-label", "Pages below");
  for (const list of document.querySelectorAll(".citation-list")) list.removeAttribute("role"); // holds more than items
}

document.addEventListener("DOMContentLoaded", () => {
  name();
  for (const box of document.querySelectorAll(".repro-filter")) {
    const [form, table] = [box.querySelector("form"), box.querySelector("table")];
    const rows = [...table.tBodies[0].rows];
    form.addEventListener("input", () => filter(form, rows));
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const button of table.tHead.querySelectorAll("button")) {
      button.addEventListener("click", () => sort(table, button));
    }
    filter(form, rows);
  }
});
