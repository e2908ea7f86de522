// Many images: a table with a line for each, filled in as the answers come. Nothing of it leaves this tab.
"use strict";

const AT_ONCE = 2; // images with the server
const AGAIN = 5; // times that a busy server is asked
const SUFFIXES = JSON.parse(form.dataset.suffixes);

const table = document.getElementById("table");
const lines = document.getElementById("lines");
const progress = document.getElementById("progress");
const summary = document.getElementById("summary");
const titles = JSON.parse(form.dataset.titles);
const classNames = JSON.parse(form.dataset.classes);
const escapedMarks = JSON.parse(form.dataset.escapedMarks);
const columns = JSON.parse(form.dataset.columns); // [field of an answer, how it is shown]
const pageColumns = columns.filter(([, column]) => column.places.includes("page"));
const fileColumns = columns.filter(([, column]) => column.places.includes("file"));
const FIRST = 2; // cell of the first of these, behind picture and name
let results = [];

input.multiple = true;

/** Returns the files in dropped entries and in the folders among them, by name. */
async function filesIn(entries) {
  const found = [];
  for (const entry of entries) {
    if (entry.isFile) {
      const file = await new Promise((take, fail) => entry.file(take, fail));
      if (SUFFIXES.some((suffix) => file.name.toLowerCase().endsWith(suffix))) found.push(file);
      continue;
    }
    const reader = entry.createReader();
    for (;;) { // readEntries() gives at most a hundred at a time
      const part = await new Promise((take, fail) => reader.readEntries(take, fail));
      if (!part.length) break;
      found.push(...await filesIn(part));
    }
  }
  return found.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
}

function cell(line, text, header) {
  const made = document.createElement(header ? "th" : "td");
  if (header) made.scope = "row";
  made.textContent = text;
  line.append(made);
  return made;
}

/** Adds a line for a file and returns it. */
function addLine(file, index) {
  const line = document.createElement("tr");
  line.dataset.index = index;
  const picture = document.createElement("img");
  picture.alt = "";
  picture.src = URL.createObjectURL(file);
  picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
  picture.addEventListener("error", () => picture.remove()); // TIFF and DICOM: browsers cannot show them
  cell(line, "").append(picture);
  cell(line, file.name, true);
  for (const [, column] of pageColumns) cell(line, "").className = column.form;
  line.cells[FIRST].textContent = "waiting";
  lines.append(line);
  return line;
}

/** Returns a value of an answer as the page's template writes it. */
function written(column, value) {
  if (value === null || value === undefined) return column.unknown;
  if (column.form === "percent") return `${(100 * value).toFixed(1)} %`;
  if (column.form === "flag") return value ? column.yes : column.no;
  return ["class", "model"].includes(column.form) ? titles[value] ?? value : String(value);
}

function fillLine(line, result) {
  if (result.success) {
    pageColumns.forEach(([name, column], index) => { line.cells[FIRST + index].textContent = written(column, result[name]); });
  } else {
    line.cells[FIRST].textContent = result.error;
    line.className = "failed";
  }
}

/** Asks for one image, again while the server is busy; returns the answer or an error in its shape. */
async function askFor(file, fields) {
  for (let tried = 1; ; tried++) {
    const body = new FormData();
    body.append("file", file);
    for (const [name, value] of Object.entries(fields)) body.append(name, value);
    try {
      const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" },
        signal: AbortSignal.timeout(PATIENCE) });
      const wait = Number(answer.headers.get("Retry-After"));
      if (!wait || tried === AGAIN) return await answer.json();
      await new Promise((go) => setTimeout(go, 1000 * wait));
    } catch {
      return { success: false, error: "The server does not answer. Check the connection and try again.", code: "no_answer" };
    }
  }
}

/** Classifies files into a new table; not while others are being classified, as their answers go into that table. */
async function classifyAll(files) {
  if (isBusy()) {
    state.textContent = "Other images are still being classified. Choose these again when they are done.";
    return;
  }
  setBusy(true);
  await fillTable(files).finally(() => setBusy(false));
}

async function fillTable(files) {
  const fields = { model: form.elements.model.value, tta: form.elements.tta.checked ? "1" : "0" };
  const waiting = [...files].map((file, index) => ({ file, index, line: null }));
  results = waiting.map(({ file }) => ({ file: file.name }));
  lines.replaceChildren();
  for (const one of waiting) one.line = addLine(one.file, one.index);
  table.hidden = false;
  progress.max = files.length;
  progress.value = 0;
  document.getElementById("table-title").focus();
  const work = async () => {
    for (let one = waiting.shift(); one; one = waiting.shift()) {
      one.line.cells[FIRST].textContent = "classifying…";
      const tooLarge = { success: false, code: "file_too_large", error: `The file is larger than ${LARGEST / 2 ** 20} MiB.` };
      const result = one.file.size > LARGEST ? tooLarge : await askFor(one.file, fields);
      results[one.index] = { file: one.file.name, ...result };
      fillLine(one.line, result);
      progress.value += 1;
      summary.textContent = `${progress.value} of ${files.length} done`;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  const failed = results.filter((one) => !one.success).length;
  const review = results.filter((one) => one.needs_review).length;
  summary.textContent = `${files.length} images: ${files.length - failed} classified, ${review} of them need review, ${failed} failed.`;
}

/** Sorts the lines by a column: text, or numbers where the cells begin with one; a second time the other way round. */
function sortBy(header) {
  const column = header.cellIndex;
  const down = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (line) => line.cells[column].textContent;
  const sorted = [...lines.rows].sort((one, other) => key(one).localeCompare(key(other), undefined, { numeric: true }));
  lines.replaceChildren(...(down ? sorted.reverse() : sorted));
}

function save(name, kind, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Returns a value for a CSV file, as client/answer.py escapes it and quoted if need be. */
function quoted(value) {
  const text = String(value ?? "");
  const harmless = typeof value === "string" && text && escapedMarks.includes(text[0]) ? `'${text}` : text;
  return /[",\n\r]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

function asCsv() {
  const fields = fileColumns.flatMap(([name, column]) => (column.form === "classes" ? classNames : [name]));
  const head = ["file", "success", ...fields, "request_id", "code", "error"];
  const rows = results.map((one) => head.map((name) => quoted(one.all_probabilities?.[name] ?? one[name])));
  const notes = "A text that begins like a formula, or with an apostrophe, has an apostrophe in front.";
  return [`# ${form.dataset.disclaimer} ${notes}`, head.join(","), ...rows.map((row) => row.join(","))].join("\n") + "\n";
}

table.querySelector("thead").addEventListener("click", (event) => {
  if (event.target.closest("button")) sortBy(event.target.closest("th"));
});
document.getElementById("csv").addEventListener("click", () => save("results.csv", "text/csv", asCsv()));
document.getElementById("json").addEventListener("click", () => save("results.json", "application/json",
  JSON.stringify({ disclaimer: form.dataset.disclaimer, results }, null, 2)));
