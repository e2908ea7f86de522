// What was classified in this tab, one image at a time. It ends with the tab, and holds no image.
"use strict";

const KEPT = 100;
const STORE = "history";
const past = document.getElementById("history");

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(STORE)) ?? [];
  } catch {
    return []; // storage is switched off
  }
}

function keep(entries) {
  try {
    sessionStorage.setItem(STORE, JSON.stringify(entries.slice(0, KEPT)));
  } catch {
    // storage is switched off: the table lasts as long as the page
  }
  showHistory(entries.slice(0, KEPT));
}

function showHistory(entries) {
  document.getElementById("past").replaceChildren(...entries.map((entry) => {
    const line = document.createElement("tr");
    for (const [place, text] of [entry.time, entry.file, ...(entry.cells ?? [])].entries()) {
      const cell = document.createElement(place === 1 ? "th" : "td");
      if (place === 1) cell.scope = "row";
      cell.className = pageColumns[place - 2]?.[1].form ?? "";
      cell.textContent = text;
      line.append(cell);
    }
    return line;
  }));
  past.hidden = !entries.length;
}

/** Adds an answer, given its title, if it is one. */
function remember(file, title) {
  const { cells } = title.dataset;
  if (!cells) return;
  keep([{ time: new Date().toLocaleTimeString(), file, cells: JSON.parse(cells) }, ...remembered()]);
}

document.getElementById("forget").addEventListener("click", () => {
  keep([]);
  document.getElementById("answer").focus();
});
showHistory(remembered());
