// Preview and an answer without a new page. Without JavaScript the form does the same with a page load; both show what
// the server's template made, so there is one description of a result.
"use strict";

const PATIENCE = 30000; // milliseconds; the server gives up earlier and says why

const form = document.getElementById("form");
const LARGEST = Number(form.dataset.largest); // bytes
const SLICE_MARKS = JSON.parse(form.dataset.sliceMarks); // offset in a file, and what stands there in hexadecimal
const drop = document.getElementById("drop");
const input = document.getElementById("file");
const send = document.getElementById("send");
const state = document.getElementById("state");
const result = document.getElementById("result");
const picture = document.getElementById("picture");
const slices = document.getElementById("slices");
const plane = document.getElementById("plane");
const slice = document.getElementById("slice");
const sliceNumber = document.getElementById("slice-number");
let address = null;
let choice = 0; // how often an image, or a slice of it, was chosen
let asking = 0; // how often a slice was asked for
let moving = null; // timer of a slider that is still being moved

document.documentElement.classList.add("js");

/** Tells whether a file begins as one of which the server shows slices, whatever its name. */
async function isMedical(file) {
  const end = Math.max(...SLICE_MARKS.map(([offset, mark]) => offset + mark.length / 2));
  const start = new Uint8Array(await file.slice(0, end).arrayBuffer());
  const hex = Array.from(start, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return SLICE_MARKS.some(([offset, mark]) => hex.startsWith(mark, 2 * offset));
}

/** Shows the chosen slice of the chosen file, which browsers cannot read, and how many there are. */
async function showSlice(file) {
  const body = new FormData();
  body.append("file", file);
  if (!slices.hidden) for (const field of [plane, slice]) if (!field.disabled) body.append(field.name, field.value);
  const asked = ++asking;
  const answer = await fetch(form.dataset.slice, { method: "POST", body, headers: { Accept: "application/json" },
    signal: AbortSignal.timeout(PATIENCE) }).then((one) => one.json())
    .catch(() => ({ error: "The server does not answer. Check the connection and try again." }));
  if (asked !== asking || input.files[0] !== file) return; // another one was chosen meanwhile
  if (!answer.success) {
    state.textContent = answer.error;
    return;
  }
  const count = answer.slices[answer.plane];
  const volume = Object.keys(answer.slices).length > 1;
  plane.replaceChildren(...Object.keys(answer.slices).map((name) => new Option(name, name, false, name === answer.plane)));
  plane.parentNode.hidden = !volume;
  slice.max = count;
  slice.value = answer.slice;
  sliceNumber.textContent = `${answer.slice} of ${count}`;
  slices.hidden = count === 1 && !volume;
  slices.disabled = slices.hidden;
  picture.src = answer.image;
  picture.hidden = false;
  state.textContent = answer.warnings.join(" ");
}

function showPreview() {
  const file = input.files.length === 1 ? input.files[0] : null;
  slices.hidden = slices.disabled = true;
  if (file) {
    isMedical(file).then((medical) => {
      if (medical && input.files[0] === file) showSlice(file);
    });
  }
  if (address) URL.revokeObjectURL(address);
  address = file ? URL.createObjectURL(file) : null;
  document.getElementById("chosen").textContent = input.files.length > 1 ? `${input.files.length} files chosen` : "";
  document.getElementById("prompt").hidden = Boolean(file);
  document.getElementById("preview").hidden = !file;
  document.getElementById("name").textContent = file ? file.name : "";
  state.textContent = "";
  picture.hidden = !file;
  if (file) picture.src = address;
}

/** Takes away the answer, as it is of an image that is no longer the chosen one. The history still has it. */
function dropAnswer() {
  choice += 1;
  result.replaceChildren(document.getElementById("no-answer").content.cloneNode(true));
}

/** Returns what stands in place of an answer when there is none. */
function failure(text) {
  const title = document.createElement("h2");
  title.id = "answer";
  title.tabIndex = -1;
  title.textContent = "Classification failed";
  const message = document.createElement("p");
  message.id = "error";
  message.className = "notice error";
  message.textContent = text;
  return [title, message];
}

/** Shows an answer or a failure, and which file it is of. */
function show(nodes, name) {
  const file = document.createElement("p");
  file.id = "answered";
  file.className = "muted small";
  file.textContent = `File: ${name}`;
  result.replaceChildren(...nodes);
  document.getElementById("answer").after(file);
}

/** Returns what the server's page shows in answer to the form, and takes over its notices. */
async function ask() {
  const answer = await fetch(form.action, {
    method: "POST",
    body: new FormData(form),
    headers: { Accept: "text/html" },
    signal: AbortSignal.timeout(PATIENCE),
  });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const found = page.getElementById("result");
  if (!found) return failure(`The server answered with status ${answer.status}. Try again later.`);
  const notices = page.getElementById("notices"); // a refusal may say nothing of the models
  if (notices) document.getElementById("notices").replaceChildren(...notices.childNodes);
  return [...found.childNodes];
}

function isBusy() {
  return send.getAttribute("aria-disabled") === "true";
}

/** Notes that images are being classified, or that this is over. */
function setBusy(busy, text = "") {
  if (busy) send.setAttribute("aria-disabled", "true");
  else send.removeAttribute("aria-disabled");
  state.textContent = text;
}

async function classify() {
  if (isBusy()) return;
  if (input.files.length > 1) {
    await classifyAll(input.files);
    return;
  }
  const { name, size } = input.files[0];
  const asked = choice;
  let nodes = failure(`The file is larger than ${LARGEST / 2 ** 20} MiB. Send a smaller image, as PNG or JPEG.`);
  if (size <= LARGEST) {
    setBusy(true, "Classifying…");
    nodes = await ask().catch(() => failure("The server does not answer. Check the connection and try again."));
    setBusy(false);
    remember(name, nodes.find((node) => node.id === "answer"));
  }
  if (asked !== choice) return; // the answer came after another choice: beside that it would be taken for its answer
  show(nodes, name);
  document.getElementById("answer").focus();
}

// The answer is replaced as a whole, so its controls are listened to from outside.
function showHeatmap() {
  const chosen = document.getElementById("seen-class").value;
  const opacity = document.getElementById("opacity").value / 100;
  for (const map of document.querySelectorAll("#seen .map")) {
    map.hidden = map.dataset.class !== chosen;
    map.style.opacity = opacity;
  }
}

function choose() {
  dropAnswer();
  showPreview();
}

for (const kind of ["input", "change"]) result.addEventListener(kind, showHeatmap);
input.addEventListener("change", choose);
slice.type = "range"; // without JavaScript nobody knows how far it would reach
slice.addEventListener("input", () => {
  dropAnswer();
  asking += 1; // what is under way would move the slider back
  sliceNumber.textContent = `${slice.value} of ${slice.max}`;
  clearTimeout(moving);
  moving = setTimeout(() => showSlice(input.files[0]), 150);
});
plane.addEventListener("change", () => {
  dropAnswer();
  slice.value = ""; // the middle one
  slice.disabled = true; // a range always has a value
  showSlice(input.files[0]).finally(() => { slice.disabled = false; });
});
showPreview(); // browsers keep the choice over a reload
picture.addEventListener("error", () => { picture.hidden = true; }); // TIFF: browsers cannot show it, the server reads it
form.addEventListener("submit", (event) => { event.preventDefault(); classify(); });

for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, () => drop.classList.add("over"));
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
// Files are taken by the input under the pointer; a folder has to be read here.
drop.addEventListener("drop", (event) => {
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return;
  event.preventDefault();
  filesIn(entries).then((files) => {
    if (files.length) classifyAll(files);
    else result.replaceChildren(...failure("There is no image in this folder."));
  });
});
result.addEventListener("click", (event) => { if (event.target.id === "print") window.print(); });
document.getElementById("samples")?.addEventListener("click", async (event) => {
  const address = event.target.dataset.sample;
  if (!address) return;
  const content = await (await fetch(address)).blob();
  const chosen = new DataTransfer();
  chosen.items.add(new File([content], address.split("/").pop(), { type: "image/png" }));
  input.files = chosen.files;
  choose();
});
