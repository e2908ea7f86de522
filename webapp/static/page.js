// Preview and an answer without a new page. Without JavaScript the form does the same with a page load; both show what
// the server's template made, so there is one description of a result.
"use strict";

const PATIENCE = 30000; // milliseconds; the server gives up earlier and says why

const form = document.getElementById("form");
const LARGEST = Number(form.dataset.largest); // bytes
const drop = document.getElementById("drop");
const input = document.getElementById("file");
const send = document.getElementById("send");
const state = document.getElementById("state");
const picture = document.getElementById("picture");
let address = null;

document.documentElement.classList.add("js");

function showPreview() {
  const file = input.files[0];
  if (address) URL.revokeObjectURL(address);
  address = file ? URL.createObjectURL(file) : null;
  document.getElementById("prompt").hidden = Boolean(file);
  document.getElementById("preview").hidden = !file;
  document.getElementById("name").textContent = file ? file.name : "";
  state.textContent = "";
  picture.hidden = !file;
  if (file) picture.src = address;
}

function showError(text) {
  const title = document.createElement("h2");
  title.id = "answer";
  title.tabIndex = -1;
  title.textContent = "Not classified";
  const message = document.createElement("p");
  message.id = "error";
  message.className = "notice error";
  message.textContent = text;
  document.getElementById("result").replaceChildren(title, message);
}

async function ask() {
  const answer = await fetch(form.action, {
    method: "POST",
    body: new FormData(form),
    headers: { Accept: "text/html" },
    signal: AbortSignal.timeout(PATIENCE),
  });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!page.getElementById("result")) return showError(`The server answered with status ${answer.status}. Try again later.`);
  for (const id of ["result", "notices"]) {
    document.getElementById(id).replaceChildren(...page.getElementById(id).childNodes);
  }
}

async function classify() {
  if (send.getAttribute("aria-disabled") === "true") return;
  if (input.files[0].size > LARGEST) {
    showError(`The file is larger than ${LARGEST / 2 ** 20} MiB. Send a smaller image, as PNG or JPEG.`);
  } else {
    send.setAttribute("aria-disabled", "true");
    state.textContent = "Classifying…";
    await ask().catch(() => showError("The server does not answer. Check the connection and try again."));
    send.removeAttribute("aria-disabled");
    state.textContent = "";
  }
  document.getElementById("answer").focus();
}

input.addEventListener("change", showPreview);
picture.addEventListener("error", () => { picture.hidden = true; }); // TIFF: browsers cannot show it, the server reads it
form.addEventListener("submit", (event) => { event.preventDefault(); classify(); });

for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, () => drop.classList.add("over"));
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
// One file is taken by the input under the pointer. Browsers refuse several without a word, unless a script wants them.
drop.addEventListener("dragover", (event) => { if (event.dataTransfer.items.length > 1) event.preventDefault(); });
drop.addEventListener("drop", (event) => {
  if (event.dataTransfer.files.length < 2) return;
  event.preventDefault();
  showError("Drop one image at a time.");
});
if (input.files.length) showPreview(); // browsers keep the choice over a reload
